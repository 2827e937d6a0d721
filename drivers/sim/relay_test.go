package sim

import (
	"bytes"
	"io"
	"math"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// through sends p in pieces through a relay and returns what comes out at the
// other end.
func through(t *testing.T, opts RelayOptions, p []byte, piece int) ([]byte, RelayCount) {
	t.Helper()
	near, a := net.Pipe()
	b, far := net.Pipe()
	r, err := NewRelay(a, b, opts)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for rest := p; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			near.Write(rest[:min(piece, len(rest))])
		}
	}()
	var out bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(&out, far)
	}()
	eventually(t, "all bytes", func() bool {
		c := r.Count()
		return c.Passed == uint64(len(p))-c.Dropped+c.Doubled && c.Passed > 0
	})
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	<-done
	return out.Bytes(), r.Count()
}

func TestARelaySpoilsTheShareItIsToldAndTheSameAgain(t *testing.T) {
	p := bytes.Repeat([]byte{0x55}, 20000)
	opts := RelayOptions{Seed: 3, Flip: 0.01, Drop: 0.02, Twice: 0.03}
	one, c := through(t, opts, p, 64)
	for what, v := range map[string][2]float64{
		"flipped": {float64(c.Flipped), 0.01}, "dropped": {float64(c.Dropped), 0.02}, "doubled": {float64(c.Doubled), 0.03},
	} {
		if want := v[1] * float64(len(p)); math.Abs(v[0]-want) > want/4 {
			t.Errorf("%s %g bytes, want about %g", what, v[0], want)
		}
	}
	if again, _ := through(t, opts, p, 999); !bytes.Equal(again, one) {
		t.Error("the same seed spoilt other bytes")
	}
	opts.Seed = 4
	if other, _ := through(t, opts, p, 64); bytes.Equal(other, one) {
		t.Error("another seed spoilt the same bytes")
	}
	if clean, _ := through(t, RelayOptions{}, p, 64); !bytes.Equal(clean, p) {
		t.Error("a relay that is told nothing spoils")
	}
}

func TestARelayKeepsThePaceOfTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, a := net.Pipe()
		b, far := net.Pipe()
		r, err := NewRelay(a, b, RelayOptions{Baud: 9600, Bits: 11, Delay: 40 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		near.Write(make([]byte, 96))
		first := make([]byte, 1)
		io.ReadFull(far, first)
		char := 11 * time.Second / 9600
		if got := time.Since(begun); got < 40*time.Millisecond+char || got > 42*time.Millisecond {
			t.Errorf("the first byte comes after %s", got)
		}
		io.ReadFull(far, make([]byte, 95))
		if got, want := time.Since(begun), 40*time.Millisecond+96*char; got < want-time.Microsecond || got > want+time.Millisecond {
			t.Errorf("96 bytes come after %s, want %s", got, want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestARelayStandsBeforeATerminal(t *testing.T) {
	g, err := NewGasModule(nil)
	if err != nil {
		t.Fatal(err)
	}
	link := ""
	l, err := Open(Place{PTY: &link}, Server{}, nil, g)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := RelayPTY(l.PTY(), RelayOptions{Drop: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if r, err = RelayPTY(l.PTY(), RelayOptions{Baud: 9600}); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := os.OpenFile(r.PTY(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Write([]byte(gasQuestion))
	got := make([]byte, 11)
	if _, err := io.ReadFull(f, got); err != nil || got[1] != 0x86 {
		t.Errorf("answer %x, %v", got, err)
	}
	if _, err := RelayPTY("/dev/pts/none", RelayOptions{}); err == nil {
		t.Error("a relay before nothing")
	}
	if _, err := NewRelay(nil, nil, RelayOptions{Flip: 2}); err == nil {
		t.Error("a share of 2")
	}
}
