package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"gatehouse/protocol/wire"
)

func TestNewerSchemaIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, open(t, dir))
	path := filepath.Join(dir, alarmFile)
	edit(t, path, func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keySchema, seal([]byte{version, 0, 0, 0, schema + 1}, 0, keySchema))
	})
	before := read(t, path)
	_, err := Open(Options{Dir: dir})
	var e *Error
	if !errors.Is(err, ErrNewer) || !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(before, read(t, path)) {
		t.Error("the file was changed")
	}
}

// edit changes a closed file behind the store's back.
func edit(t testing.TB, path string, f func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, options(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamagedRecordsBecomeACountedGap(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 6 {
		mustCommit(t, s, fmt.Sprint("k", i), "state", rec(wire.LaneAlarm, fmt.Sprint(i+1)))
	}
	mustClose(t, s)
	edit(t, filepath.Join(dir, alarmFile), func(tx *bolt.Tx) error {
		alarms, state := tx.Bucket([]byte("alarm")), tx.Bucket(bucketState)
		for _, seq := range []uint64{2, 3, 6} {
			v := append([]byte{}, alarms.Get(seqKey(seq))...)
			v[headerSize] ^= 1
			if err := alarms.Put(seqKey(seq), v); err != nil {
				return err
			}
		}
		v := append([]byte{}, state.Get([]byte("k4"))...)
		v[1] ^= 0x80
		return errors.Join(state.Put([]byte("k4"), v), alarms.Delete(seqKey(4)))
	})
	var log bytes.Buffer
	s, err := Open(Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil)), SpoolEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	first := drain(t, s, wire.LaneAlarm, 0)
	wantBodies(t, first, "1", "gap 2..4 damaged <nil>", "5", "gap 6..6 damaged <nil>")
	if again := drain(t, s, wire.LaneAlarm, 0); again[1].ID != first[1].ID || again[1].ID == again[3].ID {
		t.Error("a gap does not keep its id")
	}
	if n := bytes.Count(log.Bytes(), []byte("damaged: declared")); n != 1 {
		t.Errorf("damage logged %d times:\n%s", n, log.String())
	}
	loaded := 0
	if err := s.Load(func(string, []byte) error { loaded++; return nil }); !errors.Is(err, ErrDamaged) || loaded != 5 {
		t.Errorf("loaded %d states, %v", loaded, err)
	}
	mustCommit(t, s, "", "", rec(wire.LaneAlarm, "7"))
	wantBodies(t, drain(t, s, wire.LaneAlarm, 6), "7")
}

func TestADamagedKeyDoesNotHideItsNeighbours(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(key []byte)
		reason string
	}{
		"greater than all": {func(k []byte) { k[1] ^= 0x40 }, gapDamaged},
		"less than all":    {func(k []byte) { k[7] ^= 100 }, gapMissing},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			var want []string
			for i := range 120 {
				mustCommit(t, s, "", "", rec(wire.LaneAlarm, fmt.Sprint("body ", i+1)))
				want = append(want, fmt.Sprint("body ", i+1))
			}
			want[99] = "gap 100..100 " + c.reason + " <nil>"
			overwrite(t, filepath.Join(dir, alarmFile), append(seqKey(100), version, 0, byte(wire.LaneAlarm)), c.spoil)
			if got := bodies(drain(t, s, wire.LaneAlarm, 0)); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// overwrite spoils a file wherever it says old, under the open store, as a dying
// card or a flipped bit in memory would.
func overwrite(t testing.TB, path string, old []byte, spoil func([]byte)) {
	t.Helper()
	b := read(t, path)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fresh := append([]byte{}, old...)
	spoil(fresh)
	for at := bytes.Index(b, old); at >= 0; { // pages no longer used say it too
		if _, err := f.WriteAt(fresh, int64(at)); err != nil {
			t.Fatal(err)
		}
		n := bytes.Index(b[at+1:], old)
		if n < 0 {
			break
		}
		at += 1 + n
	}
	if !bytes.Contains(b, old) {
		t.Fatalf("%x is not in the file", old)
	}
}

func TestATruncatedAlarmFileIsMovedAsideAndBegunAnew(t *testing.T) {
	src := t.TempDir()
	s := open(t, src)
	for range 100 {
		mustCommit(t, s, "", "", rec(wire.LaneAlarm, string(make([]byte, 1000))))
	}
	size := int64(s.Stats().AlarmBytes)
	epoch := s.Lane(wire.LaneAlarm).Epoch()
	mustClose(t, s)
	b := read(t, filepath.Join(src, alarmFile))
	for _, keep := range []int64{1, 100, 4096, 9000, size / 2, size - 1} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, alarmFile), b[:keep], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir)
		if q := s.Quarantined(); len(q) != 1 || !bytes.Equal(read(t, q[0]), b[:keep]) {
			t.Errorf("cut to %d bytes: quarantined %q", keep, q)
		}
		if s.Lane(wire.LaneAlarm).Epoch() == epoch {
			t.Error("a new file has the old epoch")
		}
		mustCommit(t, s, "a", "x", rec(wire.LaneAlarm, "anew"))
		wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "anew")
		mustClose(t, s)
		if q := open(t, dir).Quarantined(); len(q) != 0 {
			t.Errorf("quarantined again: %q", q)
		}
	}
}

func TestAQuarantinedAlarmFileIsNeverOverwritten(t *testing.T) {
	dir := t.TempDir()
	now := func() time.Time { return time.Unix(1764000000, 0) } // a box whose clock stands still
	seen := map[string]string{}
	for _, junk := range []string{"first", "second", "third"} {
		if err := os.WriteFile(filepath.Join(dir, alarmFile), []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Dir: dir, Now: now})
		if err != nil || len(s.Quarantined()) != 1 {
			t.Fatalf("%v, quarantined %q", err, s.Quarantined())
		}
		seen[s.Quarantined()[0]] = junk
		mustClose(t, s)
	}
	for path, junk := range seen {
		if got := read(t, path); string(got) != junk || len(seen) != 3 {
			t.Errorf("%s holds %q, want %q", path, got, junk)
		}
	}
	if want := filepath.Join(dir, "alarm.db.damaged-20251124T160000Z"); seen[want] != "first" {
		t.Errorf("got %v, want %s", seen, want)
	}
}

func TestARecordOfAnEarlierFileIsDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 3 {
		mustCommit(t, s, "", "", rec(wire.LaneAlarm, fmt.Sprint(i+1)))
	}
	epoch := s.alarm.epoch
	mustClose(t, s)
	edit(t, filepath.Join(dir, alarmFile), func(tx *bolt.Tx) error {
		stale := rec(wire.LaneAlarm, "stale")
		key := seqKey(2)
		return tx.Bucket([]byte("alarm")).Put(key, seal(appendRecord(nil, epoch+1, &stale), 0, key))
	})
	wantBodies(t, drain(t, open(t, dir), wire.LaneAlarm, 0), "1", "gap 2..2 damaged <nil>", "3")
}

func TestTheEndOfALaneIsTheLastSoundRecordOrTheStoredNumber(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(b *bolt.Bucket) error
		want  []string
	}{
		"a high bit of the last key": {func(b *bolt.Bucket) error {
			v := bytes.Clone(b.Get(seqKey(3)))
			return errors.Join(b.Delete(seqKey(3)), b.Put(seqKey(3|1<<62), v))
		}, []string{"1", "2", "gap 3..3 damaged <nil>"}},
		"a high bit of the stored number": {func(b *bolt.Bucket) error {
			return b.SetSequence(3 | 1<<61)
		}, []string{"1", "2", "3"}},
		"a stored number that is too small": {func(b *bolt.Bucket) error {
			return b.SetSequence(1)
		}, []string{"1", "2", "3"}},
		"the last record is gone": {func(b *bolt.Bucket) error {
			return b.Delete(seqKey(3))
		}, []string{"1", "2", "gap 3..3 missing <nil>"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			for i := range 3 {
				mustCommit(t, s, "", "", rec(wire.LaneAlarm, fmt.Sprint(i+1)))
			}
			mustClose(t, s)
			edit(t, filepath.Join(dir, alarmFile), func(tx *bolt.Tx) error { return c.spoil(tx.Bucket([]byte("alarm"))) })
			s = open(t, dir)
			wantBodies(t, drain(t, s, wire.LaneAlarm, 0), c.want...)
			mustCommit(t, s, "", "", rec(wire.LaneAlarm, "4"))
			wantBodies(t, drain(t, s, wire.LaneAlarm, 3), "4")
		})
	}
}

func TestDamagedPagesNeverCrashAndNeverHide(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	body := string(make([]byte, 500))
	for range 200 {
		mustCommit(t, s, "", "", rec(wire.LaneAlarm, body))
	}
	box := s.Lane(wire.LaneAlarm)
	path := filepath.Join(dir, alarmFile)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	page := int64(s.alarm.db.Info().PageSize)
	spoilt := 0
	b := read(t, path)
	for at := int64(2); at*page < int64(len(b)); at++ { // pages no longer used say it too
		if !bytes.Contains(b[at*page:(at+1)*page], append(seqKey(100), version, 0, byte(wire.LaneAlarm))) {
			continue
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, int(page)), at*page); err != nil { // under the open store, as a dying card would
			t.Fatal(err)
		}
		spoilt++
	}
	if spoilt == 0 {
		t.Fatal("no page holds record 100")
	}
	after, sound, gaps := uint64(0), 0, 0
	for {
		recs, err := box.Next(after, 8192)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) == 0 {
			break
		}
		from, upTo, err := wire.Batch{Records: recs}.Span()
		if err != nil || from != after+1 {
			t.Fatalf("after %d came %d..%d: %v", after, from, upTo, err)
		}
		for _, r := range recs {
			if r.Kind == wire.KindGap {
				gaps++
			} else {
				sound++
			}
		}
		after = upTo
	}
	if after != 200 || gaps == 0 || sound < 150 {
		t.Errorf("read up to %d: %d sound, %d gaps", after, sound, gaps)
	}
}

func TestDamagedSpoolIsBegunAnewAndAlarmsStay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	mustCommit(t, s, "a", "x", rec(wire.LaneAlarm, "raised"))
	epoch := s.Lane(wire.LaneTelemetry).Epoch()
	mustClose(t, s)
	if err := os.WriteFile(filepath.Join(dir, spoolFile), bytes.Repeat([]byte("no database "), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "raised")
	if s.Lane(wire.LaneTelemetry).Epoch() == epoch {
		t.Error("a new spool has the old epoch")
	}
	if q := s.Quarantined(); len(q) != 1 || q[0] != filepath.Join(dir, spoolFile+".damaged") || len(read(t, q[0])) != 12*4096 {
		t.Errorf("the damaged file was not kept: %q", q)
	}
	mustClose(t, s)
	if err := os.WriteFile(filepath.Join(dir, alarmFile), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if q := s.Quarantined(); len(q) != 1 || !strings.HasPrefix(filepath.Base(q[0]), "alarm.db.damaged-") {
		t.Errorf("quarantined %q", q)
	}
	if len(drain(t, s, wire.LaneAlarm, 0)) != 0 {
		t.Error("a new file holds old alarms")
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r := rec(wire.LaneAlarm, "body")
	key := seqKey(9)
	f.Add(key, seal(appendRecord(nil, 1, &r), 0, key))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, v := range [][]byte{value, seal(append([]byte{}, value...), 0, key)} { // the CRC must not be the only guard
			r, kind, err := decodeRecord(key, v)
			if err != nil {
				continue
			}
			r.Kind = string(kind)
			again := seal(appendRecord(nil, binary.BigEndian.Uint64(v[4:]), &r), 0, key)
			if !bytes.Equal(again, v) {
				t.Fatalf("got  %x\nwant %x", again, v)
			}
		}
	})
}

func FuzzDecodePosition(f *testing.F) {
	f.Add(position{acked: 9, marks: []mark{{3, time.Hour}, {9, 0}}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		key := []byte("alarm")
		p, err := decodePosition(key, seal(append([]byte{}, b...), 0, key))
		if err == nil && !bytes.Equal(p.encode(), b) {
			t.Fatalf("got  %x\nwant %x", p.encode(), b)
		}
	})
}
