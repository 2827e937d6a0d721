// Package keyring keeps the secrets that devices share with the gateway, one
// file a device.
//
// It guarantees: a key is on the disk before Propose returns, so a key that a
// device was given is never lost with the power; no key is forgotten before
// another has been proven, but one that the device refused; a file that others
// may read is refused, and so is a key that anybody would try; what cannot be
// read is never taken for no key; a key never stands in an error.
package keyring

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"gatehouse/protocol/osdp"
)

// KeySize is the length of a key: AES-128.
const KeySize = 16

// maxKeys bounds the keys of one file: installs that failed half way.
const maxKeys = 8

// ErrGuessable occurs when a key is no secret: the default key of OSDP, or one
// byte again and again.
var ErrGuessable = errors.New("a key that anybody would try: write a random one, as from: openssl rand -hex 16")

// Ring is the keys of one device. It implements drivers.Key.
type Ring struct {
	path string
	err  error      // why the file cannot be used
	mu   sync.Mutex // guards keys
	keys [][]byte   // newest first
}

// Open reads a key file: one key a line, 32 hexadecimal digits, the newest
// first. A file that is not there is a device that was not installed yet.
func Open(path string) (*Ring, error) {
	r := &Ring{path: path}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("key file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("key file %s: not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("key file %s is open to others (mode %04o): run chmod 600 on it", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if r.keys, err = Parse(string(data)); err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return r, nil
}

// Parse reads the text of a key file.
func Parse(text string) (keys [][]byte, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil || len(key) != KeySize {
			return nil, fmt.Errorf("line %d: no key: write %d hexadecimal digits", n, 2*KeySize)
		}
		if osdp.Guessable(key) {
			return nil, fmt.Errorf("line %d: %w", n, ErrGuessable)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Unreadable is the ring of a device whose key file cannot be used: it tells why in
// place of keys, and takes none, so that what is in the file is not lost.
func Unreadable(err error) *Ring { return &Ring{err: err} }

// Candidates returns the keys worth trying, the newest first.
func (r *Ring) Candidates() ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys), r.err
}

// Propose makes a new key durable beside those before it.
func (r *Ring) Propose(key []byte) error {
	if len(key) != KeySize {
		return fmt.Errorf("key file %s: a key has %d bytes, not %d", r.path, KeySize, len(key))
	}
	if osdp.Guessable(key) {
		return fmt.Errorf("key file %s: %w", r.path, ErrGuessable)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := append([][]byte{slices.Clone(key)}, r.keys...)
	if len(keys) > maxKeys {
		// The oldest is the one most likely to be the device's: it was settled.
		keys = append(keys[:maxKeys-1:maxKeys-1], r.keys[len(r.keys)-1])
	}
	return r.replace(keys)
}

// Withdraw forgets a proposed key that the device has refused to take. Without
// another the file goes too: the device was not installed.
func (r *Ring) Withdraw(key []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := slices.DeleteFunc(slices.Clone(r.keys), func(k []byte) bool { return slices.Equal(k, key) })
	switch {
	case r.err != nil:
		return r.err
	case len(keys) == len(r.keys):
		return nil
	case len(keys) > 0:
		return r.replace(keys)
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("key file: %w", err)
	}
	r.keys = nil
	if err := syncDir(filepath.Dir(r.path)); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	return nil
}

// Settle forgets every key but the one the device has proven to hold.
func (r *Ring) Settle(key []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) == 1 && slices.Equal(r.keys[0], key) {
		return nil
	}
	return r.replace([][]byte{slices.Clone(key)})
}

// replace writes the file anew; mu is held. Either all of the old keys are in
// it afterwards or all of the new ones.
func (r *Ring) replace(keys [][]byte) error {
	if r.err != nil {
		return r.err
	}
	var text strings.Builder
	for _, k := range keys {
		text.WriteString(hex.EncodeToString(k))
		text.WriteByte('\n')
	}
	if err := writeFile(r.path, text.String()); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	r.keys = keys
	return nil
}

func writeFile(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error that matters is known
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
