package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse/drivers"
)

var _ drivers.Key = (*Ring)(nil)

func key(b byte) []byte { return append(bytes.Repeat([]byte{b}, KeySize-1), ^b) }

// candidates are the keys of a ring that can be read.
func candidates(t *testing.T, r *Ring) [][]byte {
	t.Helper()
	keys, err := r.Candidates()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func open(t *testing.T, path string) *Ring {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// want compares what a new process would find.
func want(t *testing.T, path string, keys ...byte) {
	t.Helper()
	got := candidates(t, open(t, path))
	if len(got) != len(keys) {
		t.Fatalf("%d keys, want %d", len(got), len(keys))
	}
	for i, k := range keys {
		if !bytes.Equal(got[i], key(k)) {
			t.Errorf("key %d is % x, want %02x…", i, got[i], k)
		}
	}
}

func TestAKeyOutlivesTheProcessAtEveryStepOfAnInstall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "reader.key")
	r := open(t, path)
	want(t, path)
	for _, step := range []struct {
		do   func() error
		keys []byte
	}{
		{func() error { return r.Propose(key(1)) }, []byte{1}},
		{func() error { return r.Settle(key(1)) }, []byte{1}},
		{func() error { return r.Propose(key(2)) }, []byte{2, 1}},
		{func() error { return r.Propose(key(3)) }, []byte{3, 2, 1}},
		{func() error { return r.Settle(key(2)) }, []byte{2}},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		want(t, path, step.keys...)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestTheProvenKeySurvivesManyFailedInstalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reader.key")
	r := open(t, path)
	for b := range byte(20) {
		if err := r.Propose(key(b)); err != nil {
			t.Fatal(err)
		}
	}
	got := candidates(t, open(t, path))
	if len(got) != maxKeys || !bytes.Equal(got[0], key(19)) || !bytes.Equal(got[maxKeys-1], key(0)) {
		t.Errorf("%d keys, first %x, last %x", len(got), got[0], got[len(got)-1])
	}
}

func TestABadFileIsRefusedWithoutShowingIt(t *testing.T) {
	dir := t.TempDir()
	secret := strings.Repeat("5e", KeySize-1) + "01"
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"open":  {secret, 0o640, "chmod 600"},
		"short": {secret[2:], 0o600, "short: line 1: no key"},
		"text":  {secret + "\nnonsense", 0o600, "text: line 2: no key"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "5e5e") {
			t.Errorf("%s: %v; want %q and no key", name, err, c.want)
		}
	}
	if _, err := Open(dir); err == nil {
		t.Error("a directory was taken for a key file")
	}
}

func TestAKeyThatCannotBeKeptIsNotUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &Ring{path: filepath.Join(file, "reader.key")} // its directory is a file
	if err := r.Propose(key(1)); err == nil || len(candidates(t, r)) != 0 {
		t.Errorf("err %v, %d keys", err, len(candidates(t, r)))
	}
}

func TestAnUnreadableFileIsLeftAlone(t *testing.T) {
	broken := errors.New("broken")
	r := Unreadable(broken)
	keys, err := r.Candidates()
	if len(keys) != 0 || !errors.Is(err, broken) {
		t.Errorf("%d keys, err %v: it is taken for a device that was not installed", len(keys), err)
	}
	for name, err := range map[string]error{"propose": r.Propose(key(1)), "withdraw": r.Withdraw(key(1)), "settle": r.Settle(key(1))} {
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAKeyThatTheDeviceRefusedIsForgottenAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reader.key")
	r := open(t, path)
	for b := range byte(3) {
		if err := r.Propose(key(b)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		key  byte
		left []byte
	}{{2, []byte{1, 0}}, {9, []byte{1, 0}}, {0, []byte{1}}, {1, nil}, {1, nil}} {
		if err := r.Withdraw(key(step.key)); err != nil {
			t.Fatal(err)
		}
		want(t, path, step.left...)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file without keys is left: %v", err)
	}
	if err := r.Propose(key(4)); err != nil {
		t.Fatal(err)
	}
	want(t, path, 4)
}

func TestAKeyThatAnybodyWouldTryIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reader.key")
	for name, text := range map[string]string{
		"the default key":    "303132333435363738393a3b3c3d3e3f",
		"nothing":            strings.Repeat("00", KeySize),
		"an erased chip":     strings.Repeat("FF", KeySize),
		"beside a good key":  hex.EncodeToString(key(1)) + "\n303132333435363738393A3B3C3D3E3F\n",
		"one byte, repeated": strings.Repeat("5e", KeySize),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrGuessable) || strings.Contains(err.Error(), text[:4]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := &Ring{path: path}
	if err := r.Propose(make([]byte, KeySize)); !errors.Is(err, ErrGuessable) {
		t.Errorf("proposed: %v", err)
	}
}
