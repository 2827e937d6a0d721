package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/protocol/wire"
)

func rec(lane wire.Lane, body string) wire.Record {
	return wire.Record{
		ID: wire.NewEventID(), Lane: lane, Kind: wire.KindAlarmRaised, Time: time.Unix(0, 1764000000123456789),
		Clock: wire.ClockCloud, Boot: wire.BootID{7}, Mono: 42 * time.Second, Body: []byte(body),
	}
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, SpoolEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustCommit(t testing.TB, s *Store, key, state string, recs ...wire.Record) {
	t.Helper()
	value := []byte(state)
	if key == "" {
		value = nil
	}
	if err := s.Commit(key, value, recs...); err != nil {
		t.Fatal(err)
	}
}

// drain returns every record of a lane from after on, and fails on a hole.
func drain(t testing.TB, s *Store, id wire.Lane, after uint64) []wire.Record {
	t.Helper()
	var all []wire.Record
	for {
		recs, err := s.Lane(id).Next(after, 4096)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) == 0 {
			return all
		}
		from, upTo, err := wire.Batch{Records: recs}.Span()
		if err != nil || from != after+1 {
			t.Fatalf("%v: after %d came %d..%d: %v", id, after, from, upTo, err)
		}
		all, after = append(all, recs...), upTo
	}
}

func bodies(recs []wire.Record) (s []string) {
	for _, r := range recs {
		if r.Kind != wire.KindGap {
			s = append(s, string(r.Body))
			continue
		}
		g, err := wire.DecodeGap(r.Body)
		s = append(s, fmt.Sprintf("gap %d..%d %s %v", g.First, g.Last, g.Reason, err))
	}
	return s
}

func wantBodies(t testing.TB, recs []wire.Record, want ...string) {
	t.Helper()
	if got := bodies(recs); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestStateAndRecordsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	sent := rec(wire.LaneAlarm, "raised")
	mustCommit(t, s, "a", "firing", sent)
	mustCommit(t, s, "b", "normal", rec(wire.LaneEvent, "started"), rec(wire.LaneAlarm, "cleared"))
	mustCommit(t, s, "gone", "x")
	if err := s.Commit("gone", nil); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, "empty", "")
	if err := s.Append(rec(wire.LaneTelemetry, "t1"), rec(wire.LaneMedia, "m1")); err != nil {
		t.Fatal(err)
	}
	epoch := s.Lane(wire.LaneAlarm).Epoch()
	if epoch == s.Lane(wire.LaneTelemetry).Epoch() || epoch != s.Lane(wire.LaneEvent).Epoch() {
		t.Error("an epoch belongs to a file")
	}
	mustClose(t, s)

	s = open(t, dir)
	got := map[string]string{}
	if err := s.Load(func(k string, v []byte) error { got[k] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(map[string]string{"a": "firing", "b": "normal", "empty": ""}) {
		t.Errorf("state %v", got)
	}
	alarms := drain(t, s, wire.LaneAlarm, 0)
	wantBodies(t, alarms, "raised", "cleared")
	sent.Seq = 1
	if r := alarms[0]; r.ID != sent.ID || !r.Time.Equal(sent.Time) || r.Clock != sent.Clock || r.Boot != sent.Boot ||
		r.Mono != sent.Mono || r.Kind != sent.Kind || r.Seq != 1 || r.Lane != sent.Lane {
		t.Errorf("got  %+v\nwant %+v", r, sent)
	}
	wantBodies(t, drain(t, s, wire.LaneEvent, 0), "started")
	wantBodies(t, drain(t, s, wire.LaneTelemetry, 0), "t1")
	wantBodies(t, drain(t, s, wire.LaneMedia, 0), "m1")
	if s.Lane(wire.LaneAlarm).Epoch() != epoch {
		t.Error("the epoch changed")
	}
	mustCommit(t, s, "a", "x", rec(wire.LaneAlarm, "next"))
	wantBodies(t, drain(t, s, wire.LaneAlarm, 2), "next")
}

func TestMemoryStoreBehavesAlikeAndIsBounded(t *testing.T) {
	s := OpenMemory(Options{SpoolEvery: time.Hour})
	defer mustClose(t, s)
	mustCommit(t, s, "a", "firing", rec(wire.LaneAlarm, "raised"))
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "raised")
	body := string(make([]byte, 8<<10))
	for i := range 3000 { // three times what fits
		if err := s.Commit("a", []byte("firing"), rec(wire.LaneAlarm, body)); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
		if err := s.Append(rec(wire.LaneTelemetry, body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []wire.Lane{wire.LaneAlarm, wire.LaneTelemetry} {
		recs := drain(t, s, id, 0)
		if first := recs[0]; first.Kind != wire.KindGap || len(recs) < 100 {
			t.Errorf("%v: %d records, the first is %s", id, len(recs), first.Kind)
		}
		if last := recs[len(recs)-1]; last.Kind == wire.KindGap {
			t.Errorf("%v: the newest record was dropped", id)
		}
	}
	if st := s.Stats(); !st.Memory || st.AlarmBytes > memoryAlarms || st.SpoolBytes > memorySpool {
		t.Errorf("stats %+v", st)
	}
}

func TestConcurrentCommitsShareTransactionsAndKeepTheirOrder(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := Open(Options{Dir: t.TempDir(), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	const callers, each = 16, 20
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range each {
				if err := s.Commit(fmt.Sprint(c), []byte(fmt.Sprint(n)), rec(wire.LaneAlarm, fmt.Sprintf("%d %d", c, n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := map[int]int{}
	recs := drain(t, s, wire.LaneAlarm, 0)
	for _, r := range recs {
		var c, n int
		if _, err := fmt.Sscan(string(r.Body), &c, &n); err != nil || next[c] != n {
			t.Fatalf("caller %d: record %d, want %d (%v)", c, n, next[c], err)
		}
		next[c]++
	}
	if len(recs) != callers*each {
		t.Errorf("%d records, want %d", len(recs), callers*each)
	}
	if got := counter(t, reg, "gatehouse_store_commits_total"); got >= callers*each {
		t.Errorf("%v transactions for %d commits: nothing was shared", got, callers*each)
	}
}

func TestManyChangesAreOneTransactionInTheirOrder(t *testing.T) {
	reg, dir := prometheus.NewRegistry(), t.TempDir()
	s, err := Open(Options{Dir: dir, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	var changes []struct { // what a consumer declares for itself
		Key     string
		State   []byte
		Records []wire.Record
	}
	var want []string
	for i := range 1000 {
		changes = append(changes, Change{Key: fmt.Sprint(i % 10), State: []byte(fmt.Sprint(i)), Records: []wire.Record{rec(wire.LaneAlarm, fmt.Sprint(i))}})
		want = append(want, fmt.Sprint(i))
	}
	changes = append(changes, Change{Key: "3"}) // deletes
	if err := errors.Join(s.CommitAll(changes), s.CommitAll(nil)); err != nil {
		t.Fatal(err)
	}
	if n := counter(t, reg, "gatehouse_store_commits_total"); n != 1 {
		t.Errorf("%v transactions", n)
	}
	mustClose(t, s)
	s = open(t, dir)
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), want...)
	state := map[string]string{}
	if err := s.Load(func(k string, v []byte) error { state[k] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(state) != 9 || state["9"] != "999" {
		t.Errorf("state %v", state)
	}

	changes[700].Records[0].Kind = ""
	if err := s.CommitAll(changes); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "change 700:") {
		t.Errorf("got %v", err)
	}
	if _, head := s.Lane(wire.LaneAlarm).Position(); head != 1000 {
		t.Errorf("a refused call stored up to %d", head)
	}
}

func counter(t testing.TB, g prometheus.Gatherer, name string) (sum float64) {
	t.Helper()
	all, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestAppendIsSeenOnceCommitted(t *testing.T) {
	s := open(t, t.TempDir())
	r := rec(wire.LaneTelemetry, "t1")
	if err := s.Append(r); err != nil {
		t.Fatal(err)
	}
	r.Body[0] = 'X' // the store keeps no hold on a caller's buffer
	if recs := drain(t, s, wire.LaneTelemetry, 0); len(recs) != 0 {
		t.Errorf("%d records before the commit", len(recs))
	}
	waited := make(chan error, 1)
	go func() { waited <- s.Lane(wire.LaneTelemetry).Wait(t.Context(), 0) }()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	wantBodies(t, drain(t, s, wire.LaneTelemetry, 0), "t1")
}

func TestManyAppendsAreCommittedWithoutATick(t *testing.T) {
	s := open(t, t.TempDir())
	r := rec(wire.LaneTelemetry, string(make([]byte, 100<<10)))
	for range 12 {
		if err := s.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Lane(wire.LaneTelemetry).Wait(ctx, 10); err != nil {
		t.Errorf("not committed: %v", err)
	}
}

func TestWhatCannotBeStoredIsRefused(t *testing.T) {
	s := open(t, t.TempDir())
	big := rec(wire.LaneAlarm, string(make([]byte, maxBody+1)))
	noKind := rec(wire.LaneAlarm, "")
	noKind.Kind = ""
	for name, err := range map[string]error{
		"telemetry by Commit": s.Commit("", nil, rec(wire.LaneTelemetry, "")),
		"alarm by Append":     s.Append(rec(wire.LaneAlarm, "")),
		"no lane":             s.Commit("", nil, rec(0, "")),
		"too big":             s.Commit("", nil, big),
		"no kind":             s.Commit("", nil, noKind),
		"state without key":   s.Commit("", []byte("x")),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Lane(wire.LaneAlarm).Acked(1, 1); !errors.Is(err, ErrBeyond) {
		t.Errorf("ack of a record that does not exist: %v", err)
	}
	mustClose(t, s)
	if err := errors.Join(s.Close()); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := s.Commit("a", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
	if err := s.Append(rec(wire.LaneTelemetry, "")); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	if err := s.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush after Close: %v", err)
	}
	if err := s.Lane(wire.LaneAlarm).Wait(t.Context(), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
}

func TestAckedPositionSurvivesAndOldRecordsAreKeptForReplay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 5 {
		mustCommit(t, s, "", "", rec(wire.LaneAlarm, fmt.Sprint(i+1)))
	}
	box := s.Lane(wire.LaneAlarm)
	for _, upTo := range []uint64{3, 2, 3} { // late and doubled acks change nothing
		if err := box.Acked(1, upTo); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	s = open(t, dir)
	if acked, head := s.Lane(wire.LaneAlarm).Position(); acked != 3 || head != 5 {
		t.Errorf("position %d of %d", acked, head)
	}
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "1", "2", "3", "4", "5")

	age := func(d time.Duration) { s.tend(s.alarm, d) } // the writer is idle: its ticker stands at an hour
	age(0)
	age(23 * time.Hour)
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "1", "2", "3", "4", "5")
	age(2 * time.Hour)
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "gap 1..3 expired <nil>", "4", "5")
	if err := s.Lane(wire.LaneAlarm).Acked(4, 5); err != nil {
		t.Fatal(err)
	}
	age(time.Hour)
	age(25 * time.Hour)
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "gap 1..4 expired <nil>", "5")
	mustClose(t, s)
	s = open(t, dir)
	mustCommit(t, s, "", "", rec(wire.LaneAlarm, "6"))
	wantBodies(t, drain(t, s, wire.LaneAlarm, 4), "5", "6")
}

func TestQuotaDropsTheOldestTelemetryAndCountsIt(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir(), Quota: 2 << 20, SpoolEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	body := make([]byte, 1000)
	const n = 4000
	for i := range n {
		binary.BigEndian.PutUint64(body, uint64(i+1))
		if err := s.Append(rec(wire.LaneTelemetry, string(body))); err != nil {
			t.Fatal(err)
		}
		if i%500 == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Append(rec(wire.LaneMedia, "kept")); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	recs := drain(t, s, wire.LaneTelemetry, 0)
	gap, err := wire.DecodeGap(recs[0].Body)
	if err != nil || recs[0].Kind != wire.KindGap || gap.First != 1 || gap.Reason != gapQuota {
		t.Fatalf("the first record is %s %+v, %v", recs[0].Kind, gap, err)
	}
	for i, r := range recs[1:] {
		if want := gap.Last + 1 + uint64(i); r.Seq != want || binary.BigEndian.Uint64(r.Body) != want {
			t.Fatalf("record %d says %d, want %d", r.Seq, binary.BigEndian.Uint64(r.Body), want)
		}
	}
	if st := s.Stats(); st.SpoolBytes > 3<<19 || st.Lanes[wire.LaneTelemetry].Head != n || len(recs) < 500 {
		t.Errorf("%d records, stats %+v", len(recs), st)
	}
	wantBodies(t, drain(t, s, wire.LaneMedia, 0), "kept")
	// A batch that was under way when its records were dropped is acked late.
	if err := s.Lane(wire.LaneTelemetry).Acked(1, 10); err != nil {
		t.Fatal(err)
	}
	late, err := s.Lane(wire.LaneTelemetry).Next(10, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if from, _, err := (wire.Batch{Records: late}).Span(); from != 11 || err != nil {
		t.Errorf("after 10 comes %d: %v", from, err)
	}
}

func TestSecondOpenerIsToldWhatToDo(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := Open(Options{Dir: dir})
	var e *Error
	if !errors.Is(err, ErrLocked) || !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("got %v", err)
	}
}

func TestDirectoryThatCannotBeUsedIsToldWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: filepath.Join(file, "dir")})
	var e *Error
	if !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("got %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Lane(wire.LaneAlarm).Wait(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s.Lane(0) != nil || s.Lane(99) != nil {
		t.Error("a lane that does not exist")
	}
}
