package eventlog

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func purgeUpTo(seq uint64) jetstream.StreamPurgeOpt { return jetstream.WithPurgeSequence(seq) }

// FuzzParseCursor: what is a cursor prints as itself, what is not is refused.
func FuzzParseCursor(f *testing.F) {
	f.Add(Cursor{}.String())
	c := Cursor{filter: 1<<63 + 5}
	for i := range c.pos {
		c.pos[i] = position{incarnation: int64(i) - 2, seq: 1 << (i * 20), index: uint32(i)}
	}
	f.Add(c.String())
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err != nil {
			if !errors.Is(err, ErrCursor) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := ParseCursor(c.String())
		if err != nil || again != c {
			t.Fatalf("%q: %+v became %+v, %v", s, c, again, err)
		}
	})
}

func TestDamagedCursorIsRefused(t *testing.T) {
	c := Cursor{filter: 7}
	c.pos[1] = position{incarnation: 1700000000000000000, seq: 12345, index: 3}
	s := []byte(c.String())
	for i := range s {
		damaged := append([]byte(nil), s...)
		damaged[i] ^= 1
		if got, err := ParseCursor(string(damaged)); err == nil && got != c {
			t.Fatalf("byte %d changed: taken for %+v", i, got)
		}
	}
}
