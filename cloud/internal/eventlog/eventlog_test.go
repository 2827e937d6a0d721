package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/cloud/internal/broker"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

var origin = Origin{Gateway: "gw-1", Division: "530102001003"}

// openLog returns a log on a real broker in a directory of its own.
func openLog(t testing.TB) *Log {
	t.Helper()
	l, _ := openLogIn(t, t.TempDir())
	return l
}

func openLogIn(t testing.TB, dir string) (l *Log, stop func()) {
	t.Helper()
	return openLogWith(t, dir, Options{})
}

// openLogWith fills in what o needs.
func openLogWith(t testing.TB, dir string, o Options) (l *Log, stop func()) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := broker.Start(t.Context(), broker.Options{Dir: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	o.Conn, o.Log = nc, log
	l, err = Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { l.Close(); nc.Close(); b.Close() })
	t.Cleanup(stop)
	return l, stop
}

func alarmRecord(t testing.TB, seq uint64, kind string, drill bool) wire.Record {
	t.Helper()
	body, err := wire.Alarm{
		Alarm: wire.NewEventID(), Rule: "gas-alarm", Point: "di-1/di1", Place: "3/2/501", Role: "gas_alarm", Value: point.Truth(true),
		Priority: 1, Title: "燃气报警", Drill: drill, Occurrence: 1, Raised: time.Now(),
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return wire.Record{ID: wire.NewEventID(), Lane: wire.LaneAlarm, Seq: seq, Kind: kind, Time: time.Now(), Clock: wire.ClockNTP, Body: body}
}

// batch holds records first..last of alternating kinds.
func batch(t testing.TB, epoch string, first, last uint64) wire.Batch {
	t.Helper()
	kinds := []string{wire.KindAlarmRaised, wire.KindAlarmAcknowledged, wire.KindAlarmCleared}
	b := wire.Batch{Version: wire.Version, Gateway: origin.Gateway, Epoch: epoch, Lane: wire.LaneAlarm}
	for seq := first; seq <= last; seq++ {
		b.Records = append(b.Records, alarmRecord(t, seq, kinds[seq%3], seq%5 == 0))
	}
	return b
}

func appended(t testing.TB, l *Log, o Origin, b wire.Batch) uint64 {
	t.Helper()
	upTo, err := l.Append(t.Context(), o, b)
	if err != nil {
		t.Fatal(err)
	}
	return upTo
}

// readAll follows the cursor to the end in pages of limit, through its opaque
// form, as a platform does.
func readAll(t testing.TB, l *Log, f Filter, cur Cursor, limit int) ([]Entry, Cursor) {
	t.Helper()
	var all []Entry
	for {
		page, next, err := l.Read(t.Context(), f, cur, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > limit {
			t.Fatalf("page of %d, limit %d", len(page), limit)
		}
		if cur, err = ParseCursor(next.String()); err != nil || cur != next {
			t.Fatalf("cursor does not survive its text form: %v", err)
		}
		if len(page) == 0 {
			return all, cur
		}
		all = append(all, page...)
	}
}

func seqs(entries []Entry) (list []uint64) {
	for _, e := range entries {
		list = append(list, e.Record.Seq)
	}
	return list
}

func upTo(last uint64) (list []uint64) {
	for s := uint64(1); s <= last; s++ {
		list = append(list, s)
	}
	return list
}

func TestAppendGivesBackWhatWentIn(t *testing.T) {
	l := openLog(t)
	b := batch(t, "e1", 1, 7)
	if got := appended(t, l, origin, b); got != 7 {
		t.Fatalf("complete up to %d, want 7", got)
	}
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 100)
	if len(entries) != 7 {
		t.Fatalf("%d entries", len(entries))
	}
	for i, e := range entries {
		want := b.Records[i]
		if e.Gateway != origin.Gateway || e.Division != origin.Division || e.Epoch != "e1" || time.Since(e.Received).Abs() > time.Minute {
			t.Fatalf("entry %d: %+v", i, e)
		}
		if e.Record.ID != want.ID || e.Record.Seq != want.Seq || e.Record.Kind != want.Kind || string(e.Record.Body) != string(want.Body) || !e.Record.Time.Equal(want.Time) {
			t.Fatalf("record %d: %+v, want %+v", i, e.Record, want)
		}
	}
}

func TestOnlyTheNextSequenceIsTaken(t *testing.T) {
	l := openLog(t)
	steps := []struct {
		name        string
		epoch       string
		first, last uint64
		want        uint64
	}{
		{"start", "e1", 1, 3, 3},
		{"the same again", "e1", 1, 3, 3},
		{"a part of it", "e1", 2, 2, 3},
		{"a hole", "e1", 6, 7, 3},
		{"overlapping", "e1", 2, 5, 5},
		{"next", "e1", 6, 6, 6},
	}
	for _, s := range steps {
		if got := appended(t, l, origin, batch(t, s.epoch, s.first, s.last)); got != s.want {
			t.Fatalf("%s: complete up to %d, want %d", s.name, got, s.want)
		}
	}
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 2)
	if got := seqs(entries); !slices.Equal(got, upTo(6)) {
		t.Fatalf("sequences %v", got)
	}
}

func TestUnknownPastBecomesAGap(t *testing.T) {
	l := openLog(t)
	appended(t, l, origin, batch(t, "e1", 5, 6)) // no marker, not from 1
	appended(t, l, origin, batch(t, "e2", 1, 2)) // a new epoch from 1: nothing is missing
	appended(t, l, origin, batch(t, "e3", 9, 9)) // a new epoch, not from 1
	entries, _ := readAll(t, l, Filter{Kinds: []string{"alarm"}}, Cursor{}, 100)
	var got []string
	for _, e := range entries {
		s := fmt.Sprintf("%s:%d", e.Epoch, e.Record.Seq)
		if e.Record.Kind == wire.KindGap {
			g, err := wire.DecodeGap(e.Record.Body)
			if err != nil {
				t.Fatal(err)
			}
			s = fmt.Sprintf("%s:gap %d-%d", e.Epoch, g.First, g.Last)
		}
		got = append(got, s)
	}
	want := []string{"e1:gap 1-4", "e1:5", "e1:6", "e2:1", "e2:2", "e3:gap 1-8", "e3:9"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v\nwant %v", got, want)
	}
}

func TestGapOverlappingTheMarkerIsNarrowed(t *testing.T) {
	l := openLog(t)
	appended(t, l, origin, batch(t, "e1", 1, 3))
	body, err := wire.Gap{First: 2, Last: 8, Reason: "spool full"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	gap := wire.Record{ID: wire.NewEventID(), Lane: wire.LaneAlarm, Seq: 8, Kind: wire.KindGap, Time: time.Now(), Body: body}
	b := wire.Batch{Version: 1, Gateway: origin.Gateway, Epoch: "e1", Lane: wire.LaneAlarm, Records: []wire.Record{gap}}
	if got := appended(t, l, origin, b); got != 8 {
		t.Fatalf("complete up to %d, want 8", got)
	}
	entries, _ := readAll(t, l, Filter{Kinds: []string{"gap"}}, Cursor{}, 10)
	if len(entries) != 1 {
		t.Fatalf("%d gaps", len(entries))
	}
	if g, err := wire.DecodeGap(entries[0].Record.Body); err != nil || g.First != 4 || g.Last != 8 {
		t.Fatalf("gap %+v, %v", g, err)
	}
}

func TestRacingCopiesAreStoredOnce(t *testing.T) {
	l := openLog(t)
	const batches, size, copies = 8, 5, 8
	for n := range uint64(batches) {
		b := batch(t, "e1", n*size+1, (n+1)*size)
		l.lanes[wire.LaneAlarm].forget(origin.Gateway) // every copy starts unknowing
		var wg sync.WaitGroup
		for range copies {
			wg.Go(func() {
				upTo, err := l.Append(t.Context(), origin, b)
				if err != nil || upTo != (n+1)*size {
					t.Errorf("batch %d: complete up to %d, %v", n, upTo, err)
				}
			})
		}
		wg.Wait()
	}
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 7)
	if got := seqs(entries); !slices.Equal(got, upTo(batches*size)) {
		t.Fatalf("%d entries: %v", len(got), got)
	}
}

func TestBatchLargerThanOneAtomicPublish(t *testing.T) {
	l := openLog(t)
	const n = 2*maxMessages + 7 // every record a run of its own
	if got := appended(t, l, origin, batch(t, "e1", 1, n)); got != n {
		t.Fatalf("complete up to %d", got)
	}
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 1000)
	if got := seqs(entries); !slices.Equal(got, upTo(n)) {
		t.Fatalf("%d entries", len(got))
	}
}

func TestRunTooBigForOneMessageIsSplit(t *testing.T) {
	l := openLog(t)
	b := wire.Batch{Version: 1, Gateway: origin.Gateway, Epoch: "e1", Lane: wire.LaneMedia}
	random := rand.NewChaCha8([32]byte{})
	for seq := range uint64(5) {
		body := make([]byte, 400<<10) // does not compress
		_, _ = random.Read(body)
		b.Records = append(b.Records, wire.Record{ID: wire.NewEventID(), Lane: wire.LaneMedia, Seq: seq + 1, Kind: "media.still", Time: time.Now(), Body: body})
	}
	appended(t, l, origin, b)
	entries, _ := readAll(t, l, Filter{Kinds: []string{"media"}}, Cursor{}, 10)
	if got := seqs(entries); !slices.Equal(got, upTo(5)) {
		t.Fatalf("sequences %v", got)
	}
}

func TestMarkersSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	l, stop := openLogIn(t, dir)
	appended(t, l, origin, batch(t, "e1", 1, 4))
	_, cur := readAll(t, l, Filter{}, Cursor{}, 3)
	stop()
	l, _ = openLogIn(t, dir)
	if got := appended(t, l, origin, batch(t, "e1", 1, 6)); got != 6 {
		t.Fatalf("complete up to %d", got)
	}
	entries, _ := readAll(t, l, Filter{}, cur, 3)
	if got := seqs(entries); !slices.Equal(got, []uint64{5, 6}) {
		t.Fatalf("after the old cursor: %v", got)
	}
}

func TestOneMarkerPerGatewayIsKept(t *testing.T) {
	l := openLog(t)
	for n := range uint64(20) {
		appended(t, l, origin, batch(t, "e1", n+1, n+1))
	}
	info, err := l.lanes[wire.LaneAlarm].stream.Info(t.Context())
	if err != nil || info.State.Msgs != 21 {
		t.Fatalf("%d messages, %v; want 20 and a marker", info.State.Msgs, err)
	}
}

func TestCursorResumesAtEveryStep(t *testing.T) {
	l := openLog(t)
	other := Origin{Gateway: "gw-2", Division: "530103001001"}
	r := rand.New(rand.NewPCG(1, 2))
	next := map[Origin]uint64{origin: 1, other: 1}
	filters := []Filter{{}, {Scope: "5301"}, {Scope: "530102"}, {Kinds: []string{"alarm.raised"}}, {Kinds: []string{"alarm.raised", "alarm.cleared"}}, {Drill: DrillOnly}, {Drill: DrillNone, Scope: "530103"}}
	got := make([][]Entry, len(filters))
	curs := make([]Cursor, len(filters))
	for range 30 {
		o := []Origin{origin, other}[r.IntN(2)]
		n := uint64(r.IntN(6) + 1)
		b := batch(t, "e1", next[o], next[o]+n-1)
		next[o] += n
		appended(t, l, o, b)
		for i, f := range filters {
			page, cur, err := l.Read(t.Context(), f, curs[i], r.IntN(5)+1)
			if err != nil {
				t.Fatal(err)
			}
			got[i], curs[i] = append(got[i], page...), cur
		}
	}
	for i, f := range filters {
		rest, _ := readAll(t, l, f, curs[i], 3)
		got[i] = append(got[i], rest...)
		whole, _ := readAll(t, l, f, Cursor{}, 1000)
		if len(whole) == 0 {
			t.Fatalf("filter %+v selects nothing", f)
		}
		if !slices.EqualFunc(got[i], whole, func(a, b Entry) bool { return a.Record.ID == b.Record.ID }) {
			t.Errorf("filter %+v: piecewise %v\nat once %v", f, seqs(got[i]), seqs(whole))
		}
		for _, e := range whole {
			if !f.match(wire.LaneAlarm, e.Division, e.Record.Kind) || !f.wants(&e.Record) {
				t.Errorf("filter %+v let %s of %s pass", f, e.Record.Kind, e.Division)
			}
		}
	}
}

func TestSinceStartsAtTheFirstReceivedThen(t *testing.T) {
	l := openLog(t)
	appended(t, l, origin, batch(t, "e1", 1, 3))
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 10)
	appended(t, l, origin, batch(t, "e1", 4, 5))
	for _, c := range []struct {
		since time.Time
		want  []uint64
	}{
		{time.Now().Add(-time.Hour), upTo(5)},
		{entries[2].Received.Add(time.Nanosecond), []uint64{4, 5}},
		{time.Now().Add(time.Hour), nil},
	} {
		cur, err := l.Since(t.Context(), Filter{}, c.since)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := readAll(t, l, Filter{}, cur, 10)
		if !slices.Equal(seqs(got), c.want) {
			t.Errorf("since %s: %v, want %v", c.since, seqs(got), c.want)
		}
	}
}

func TestCursorOfAnotherFilterIsRefused(t *testing.T) {
	l := openLog(t)
	_, cur, err := l.Read(t.Context(), Filter{Scope: "53"}, Cursor{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Read(t.Context(), Filter{Scope: "5301"}, cur, 1); !errors.Is(err, ErrOtherFilter) {
		t.Fatalf("error %v", err)
	}
}

func TestWhatRetentionTookAppearsAsAGap(t *testing.T) {
	l := openLog(t)
	for n := range uint64(6) {
		appended(t, l, origin, batch(t, "e1", n+1, n+1))
	}
	page, cur, err := l.Read(t.Context(), Filter{Kinds: []string{"alarm"}}, Cursor{}, 2)
	if err != nil || len(page) != 2 {
		t.Fatalf("%d entries, %v", len(page), err)
	}
	purgeBefore(t, l, 5)
	entries, next := readAll(t, l, Filter{Kinds: []string{"alarm"}}, cur, 10)
	if len(entries) != 3 || entries[0].Record.Kind != wire.KindGap || entries[0].Gateway != "" || entries[1].Record.Seq != 5 {
		t.Fatalf("after the loss: %v", seqs(entries))
	}
	if again, _ := readAll(t, l, Filter{Kinds: []string{"alarm"}}, next, 10); len(again) != 0 {
		t.Fatalf("told twice: %v", seqs(again))
	}
}

// purgeBefore removes what was stored before the batch with sequence seq, as
// the stream does when it gets too old.
func purgeBefore(t *testing.T, l *Log, seq uint64) {
	t.Helper()
	ln := l.lanes[wire.LaneAlarm]
	messages, _, err := l.fetch(t.Context(), ln, Filter{}.subjects(wire.LaneAlarm), 1, 1<<62, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.stream.Purge(t.Context(), purgeUpTo(messages[seq-1].seq)); err != nil {
		t.Fatal(err)
	}
}

func TestIdleCursorDoesNotAgeWithTheLog(t *testing.T) {
	l := openLog(t)
	f := Filter{Scope: "44"} // nothing there
	appended(t, l, origin, batch(t, "e1", 1, 1))
	_, cur := readAll(t, l, f, Cursor{}, 10)
	for n := range uint64(4) {
		appended(t, l, origin, batch(t, "e1", n+2, n+2))
		_, cur = readAll(t, l, f, cur, 10)
	}
	purgeBefore(t, l, 5)
	if entries, _ := readAll(t, l, f, cur, 10); len(entries) != 0 {
		t.Fatalf("an idle reader hears of %d entries", len(entries))
	}
}

func TestWatchWakesOnlyWhomItConcerns(t *testing.T) {
	l := openLog(t)
	mine, stop := l.Watch(Filter{Scope: "530102", Kinds: []string{"alarm"}})
	defer stop()
	others, stopOthers := l.Watch(Filter{Scope: "44"})
	defer stopOthers()
	appended(t, l, origin, batch(t, "e1", 1, 1))
	select {
	case <-mine:
	case <-time.After(5 * time.Second):
		t.Fatal("not woken")
	}
	select {
	case <-others:
		t.Fatal("woken for another division")
	default:
	}
}

func TestHostileKindsTravelOpaque(t *testing.T) {
	l := openLog(t)
	b := wire.Batch{Version: 1, Gateway: origin.Gateway, Epoch: "e1", Lane: wire.LaneEvent}
	kinds := []string{"a.>", "*", "x..y", ".", "Grün", "a b", "future.kind", "opaque"}
	for i, k := range kinds {
		b.Records = append(b.Records, wire.Record{ID: wire.NewEventID(), Lane: wire.LaneEvent, Seq: uint64(i + 1), Kind: k, Time: time.Now()})
	}
	appended(t, l, origin, b)
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 3)
	for i, e := range entries {
		if e.Record.Kind != kinds[i] {
			t.Fatalf("kind %d is %q, want %q", i, e.Record.Kind, kinds[i])
		}
	}
	if len(entries) != len(kinds) {
		t.Fatalf("%d entries", len(entries))
	}
}

func TestCancelledAppendStoresAllOrNothing(t *testing.T) {
	l := openLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, origin, batch(t, "e1", 1, 3)); err == nil {
		t.Fatal("a cancelled append succeeded")
	}
	appended(t, l, origin, batch(t, "e1", 1, 3))
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 10)
	if got := seqs(entries); !slices.Equal(got, upTo(3)) {
		t.Fatalf("sequences %v", got)
	}
}
