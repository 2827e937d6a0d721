package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/protocol/wire"
)

// smallDisk mounts a file system of size bytes, or skips where that is not
// allowed; CI is root, so there it must work.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatalf("mount a small tmpfs: %v (CI must be allowed to mount)", err)
		}
		t.Skipf("mount a small tmpfs: %v (run as root)", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDiskDropsTelemetryAndKeepsTheLanesWhole(t *testing.T) {
	dir := smallDisk(t, 4<<20)
	s, err := Open(Options{Dir: dir, SpoolEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	mustCommit(t, s, "a", "firing", rec(wire.LaneAlarm, "raised"))
	r := rec(wire.LaneTelemetry, string(make([]byte, 1000)))
	const n = 10_000 // more than twice the disk
	for i := range n {
		if err := s.Append(r); err != nil {
			t.Fatal(err)
		}
		if i%250 == 249 {
			if err := s.Flush(); err != nil {
				t.Fatalf("after %d records: %v", i, err)
			}
		}
	}
	recs := drain(t, s, wire.LaneTelemetry, 0)
	if first, last := recs[0], recs[len(recs)-1]; first.Kind != wire.KindGap || last.Seq != n || len(recs) < 500 {
		t.Errorf("%d records, the first %s, the last %d", len(recs), first.Kind, last.Seq)
	}
	wantBodies(t, drain(t, s, wire.LaneAlarm, 0), "raised")
}

func TestFullDiskFailsACommitWithAHintAndHeals(t *testing.T) {
	dir := smallDisk(t, 4<<20)
	s, err := Open(Options{Dir: dir, SpoolEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { mustClose(t, s) }()
	mustCommit(t, s, "a", "1", rec(wire.LaneAlarm, "1"))
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	stored := 1
	for err = nil; err == nil && stored < 1000; stored++ {
		err = s.Commit("a", []byte(fmt.Sprint(stored+1)), rec(wire.LaneAlarm, string(make([]byte, 8192))))
	}
	stored--
	var e *Error
	if !errors.Is(err, ErrFull) || !errors.As(err, &e) || e.Hint == "" {
		t.Fatalf("commit %d on a full disk: %v", stored+1, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, "a", "healed", rec(wire.LaneAlarm, "healed"))
	mustClose(t, s)
	s = open(t, dir)
	recs := drain(t, s, wire.LaneAlarm, 0)
	if len(recs) != stored+1 || string(recs[stored].Body) != "healed" {
		t.Errorf("%d records, want %d", len(recs), stored+1)
	}
	if err := s.Load(func(_ string, v []byte) error { return wantState(v, "healed") }); err != nil {
		t.Error(err)
	}
}

func wantState(got []byte, want string) error {
	if string(got) != want {
		return fmt.Errorf("state %q, want %q", got, want)
	}
	return nil
}

func TestFullDiskAtStartIsToldWhatToDo(t *testing.T) {
	dir := smallDisk(t, 16<<10)
	_, err := Open(Options{Dir: dir})
	var e *Error
	if !errors.Is(err, ErrFull) || !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("got %v", err)
	}
}

func TestADiskFilledByOthersLeavesRoomForAlarms(t *testing.T) {
	dir := smallDisk(t, smallDiskSize)
	s := open(t, dir)
	mustCommit(t, s, "a", "1", rec(wire.LaneAlarm, "raised"))
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size, at := int64(64<<20), int64(0); size >= 4096; { // fills the disk to its last block
		if err := unix.Fallocate(int(f.Fd()), 0, at, size); err != nil {
			size /= 2
			continue
		}
		at += size
	}
	if _, err := f.WriteAt([]byte("x"), smallDiskSize); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	body := string(make([]byte, 8192))
	for i := range 1000 { // 8 MB of alarms
		if err := s.CommitAll([]Change{{Key: "a", State: []byte("2"), Records: []wire.Record{rec(wire.LaneAlarm, body)}}}); err != nil {
			t.Fatalf("commit %d on a full disk: %v", i, err)
		}
	}
}

func TestAFailingDiskLeavesTheNewestTelemetryInMemory(t *testing.T) {
	s := open(t, t.TempDir())
	broken := errors.New("disk is gone")
	s.spool.broken.Store(&broken)
	const n, each = 6000, 1000
	for i := range n {
		if err := s.Append(rec(wire.LaneTelemetry, fmt.Sprintf("%0*d", each, i+1))); err != nil {
			t.Fatal(err)
		}
		if i%500 == 499 {
			if err := s.Flush(); !errors.Is(err, broken) {
				t.Fatalf("flush: %v", err)
			}
			s.pending.mu.Lock()
			if held := len(s.pending.buf) + s.pending.out; held > spoolCap || s.pending.out != 0 {
				t.Errorf("%d bytes are held, %d by a writer that failed", held, s.pending.out)
			}
			s.pending.mu.Unlock()
		}
	}
	s.spool.broken.Store(nil)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	recs := drain(t, s, wire.LaneTelemetry, 0)
	if first := recs[0]; first.Kind != wire.KindGap || first.Seq+uint64(len(recs))-1 != n || len(recs) < spoolCap/2/each {
		t.Fatalf("%d records, the first %s, %d", len(recs), first.Kind, first.Seq)
	}
	for _, r := range recs[1:] {
		if string(r.Body) != fmt.Sprintf("%0*d", each, r.Seq) {
			t.Fatalf("record %d is %.20q", r.Seq, r.Body)
		}
	}
}
