package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"

	"gatehouse/protocol/wire"
)

const flipDir = "GATEHOUSE_STORE_FLIP" // set: this process flips bytes of the files in it

// Damage must not end the process, so another process is given the damage.
func TestOneDamagedByteInAnyPageEndsNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 60 {
		mustCommit(t, s, fmt.Sprint("key ", i%20), "state", rec(wire.LaneAlarm, string(make([]byte, 700))), rec(wire.LaneEvent, "event"))
		if err := s.Append(rec(wire.LaneTelemetry, string(make([]byte, 700)))); err != nil {
			t.Fatal(err)
		}
	}
	sizes := map[string]int64{}
	for _, f := range []*file{s.alarm, s.spool} {
		if err := f.view(func(tx *bolt.Tx) error { sizes[f.path] = tx.Size(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	for path, size := range sizes { // what lies beyond was never written
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), flipDir+"="+dir)
	out, err := child.CombinedOutput()
	if tail := max(0, len(out)-3000); err != nil {
		t.Fatalf("%v\n%s", err, out[tail:])
	}
}

// flipAll spoils one byte of each page in turn, once before the file is opened
// and once under the open store, and uses the store.
func flipAll(dir string) error {
	sound := map[string][]byte{}
	for _, name := range []string{alarmFile, spoolFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		sound[name] = b
	}
	page := os.Getpagesize()
	for name, b := range sound {
		for at := 0; at < len(b); at += page {
			for _, live := range []bool{false, true} {
				fmt.Printf("%s page %d live %t\n", name, at/page, live)
				for name, b := range sound {
					if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
						return err
					}
				}
				if err := flipOne(dir, name, int64(at+at/page%24), live); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// flipOne fails if damage shows as anything but ErrDamaged.
func flipOne(dir, name string, at int64, live bool) error {
	spoil := func() error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		b := make([]byte, 1)
		_, err = f.ReadAt(b, at)
		b[0] ^= 0x55
		_, werr := f.WriteAt(b, at)
		return errors.Join(err, werr, f.Close())
	}
	if !live {
		if err := spoil(); err != nil {
			return err
		}
	}
	s, err := Open(Options{Dir: dir, SpoolEvery: time.Hour})
	if err != nil {
		return damagedOnly("open", err)
	}
	if live {
		if err := spoil(); err != nil {
			return err
		}
	}
	err = errors.Join(err, damagedOnly("load", s.Load(func(string, []byte) error { return nil })))
	for range 2 {
		err = errors.Join(err, damagedOnly("commit", s.Commit("key 7", []byte("x"), rec(wire.LaneAlarm, "x"))))
		err = errors.Join(err, damagedOnly("append", s.Append(rec(wire.LaneTelemetry, "x"))), damagedOnly("flush", s.Flush()))
		for _, l := range wire.Lanes {
			_, nerr := s.Lane(l).Next(0, 1<<20)
			err = errors.Join(err, damagedOnly("next", nerr))
		}
		_ = s.Stats()
	}
	return errors.Join(err, damagedOnly("close", s.Close()))
}

func damagedOnly(what string, err error) error {
	if err == nil || errors.Is(err, ErrDamaged) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func TestMetaPagesThatVanishFailEachCallAndHangNone(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir, SpoolEvery: time.Hour, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, "a", "x", rec(wire.LaneAlarm, "raised"))
	for _, name := range []string{alarmFile, spoolFile} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 2*os.Getpagesize()), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append(rec(wire.LaneTelemetry, "x")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first call panics inside bbolt, and leaves it locked
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
		if st := s.Stats(); st.AlarmBytes != 0 || st.SpoolBytes != 0 {
			t.Errorf("bytes of a file without meta pages: %+v", st)
		}
		if err := s.Commit("a", []byte("y")); !errors.Is(err, ErrDamaged) {
			t.Errorf("commit: %v", err)
		}
		if err := s.Flush(); !errors.Is(err, ErrDamaged) {
			t.Errorf("flush: %v", err)
		}
	}
	mustClose(t, s)
}
