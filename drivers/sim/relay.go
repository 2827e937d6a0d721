package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// RelayOptions say what happens to the bytes on their way.
type RelayOptions struct {
	Seed  uint64        // the same seed spoils the same bytes of each direction
	Flip  float64       // share of bytes, 0 to 1, of which one bit turns
	Drop  float64       // share of bytes that vanish
	Twice float64       // share of bytes that come two times
	Delay time.Duration // from one end to the other
	// Baud lets the bytes pass one by one, no faster than the line would; 0: as
	// they come. Bits is how many a byte takes, 10 if 0; 11 with parity.
	Baud int
	Bits int
}

// RelayCount is what has happened to the bytes of both directions.
type RelayCount struct{ Passed, Flipped, Dropped, Doubled uint64 }

// Relay is a bad line: it carries bytes between two ends and spoils some of them.
// It counts as passed what reached the other end in order or not.
type Relay struct {
	a, b io.ReadWriteCloser
	path string
	char time.Duration
	opts RelayOptions
	done chan struct{}
	once sync.Once
	err  error
	wg   sync.WaitGroup

	passed, flipped, dropped, doubled atomic.Uint64
}

// NewRelay carries bytes between a and b until it is closed, or one of them is;
// then both are.
func NewRelay(a, b io.ReadWriteCloser, opts RelayOptions) (*Relay, error) {
	for _, share := range []float64{opts.Flip, opts.Drop, opts.Twice} {
		if !(share >= 0 && share <= 1) {
			return nil, fmt.Errorf("sim: relay: share %g: want 0 to 1", share)
		}
	}
	if opts.Delay < 0 || opts.Baud < 0 || opts.Bits < 0 {
		return nil, errors.New("sim: relay: delay, baud and bits must not be below 0")
	}
	r := &Relay{a: a, b: b, opts: opts, done: make(chan struct{})}
	if opts.Baud > 0 {
		bits := opts.Bits
		if bits == 0 {
			bits = 10
		}
		r.char = time.Second * time.Duration(bits) / time.Duration(opts.Baud)
	}
	r.wg.Go(func() { r.carry(a, b, 0) })
	r.wg.Go(func() { r.carry(b, a, 1) })
	return r, nil
}

// RelayPTY puts a bad line before the terminal at path: a client opens PTY of
// the relay instead.
func RelayPTY(path string, opts RelayOptions) (*Relay, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("sim: relay: open %s: %w", path, err)
	}
	far := os.NewFile(uintptr(fd), path)
	if err := setRaw(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("sim: relay: set %s raw: %w", path, err), far.Close())
	}
	near, err := openPTY("")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sim: relay: %w", err), far.Close())
	}
	r, err := NewRelay(masterEnd{near}, far, opts)
	if err != nil {
		return nil, errors.Join(err, near.Close(), far.Close())
	}
	r.path = near.path
	return r, nil
}

// masterEnd is a pseudo-terminal as a stream.
type masterEnd struct{ *pty }

func (m masterEnd) Read(p []byte) (int, error)  { return m.master.Read(p) }
func (m masterEnd) Write(p []byte) (int, error) { return m.master.Write(p) }

// PTY returns the terminal of a relay made by RelayPTY.
func (r *Relay) PTY() string { return r.path }

// Count returns what has happened so far.
func (r *Relay) Count() RelayCount {
	return RelayCount{r.passed.Load(), r.flipped.Load(), r.dropped.Load(), r.doubled.Load()}
}

// Close closes both ends and waits.
func (r *Relay) Close() error {
	r.hangUp()
	r.wg.Wait()
	return r.err
}

func (r *Relay) hangUp() {
	r.once.Do(func() {
		close(r.done)
		r.err = errors.Join(r.a.Close(), r.b.Close())
	})
}

// parcel is bytes that must not arrive before due.
type parcel struct {
	due   time.Time
	bytes []byte
}

// carry moves bytes one way. What is read waits in a queue, so that neither
// delay nor pace holds up the sender.
func (r *Relay) carry(from io.Reader, to io.Writer, direction uint64) {
	defer r.hangUp()
	queue := make(chan parcel, 1024)
	r.wg.Go(func() { r.deliver(queue, to) })
	defer close(queue)
	rng := rand.New(rand.NewPCG(r.opts.Seed, direction))
	buf := make([]byte, maxFrame)
	for {
		n, err := from.Read(buf)
		if spoilt := r.spoil(rng, buf[:n]); len(spoilt) > 0 {
			select {
			case queue <- parcel{time.Now().Add(r.opts.Delay), spoilt}:
			case <-r.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// spoil returns what becomes of p. Each byte takes as many random numbers
// whatever happens to it: how the bytes were cut into reads changes nothing.
func (r *Relay) spoil(rng *rand.Rand, p []byte) []byte {
	out := make([]byte, 0, len(p))
	for _, b := range p {
		flip, drop, twice, which := rng.Float64(), rng.Float64(), rng.Float64(), rng.IntN(8)
		if drop < r.opts.Drop {
			r.dropped.Add(1)
			continue
		}
		if flip < r.opts.Flip {
			r.flipped.Add(1)
			b ^= 1 << which
		}
		out = append(out, b)
		if twice < r.opts.Twice {
			r.doubled.Add(1)
			out = append(out, b)
		}
	}
	return out
}

// deliver writes each parcel at its time, byte by byte if the line has a pace.
func (r *Relay) deliver(queue <-chan parcel, to io.Writer) {
	var free time.Time // when the line can take the next byte
	for p := range queue {
		if !sleep(r.done, time.Until(p.due)) {
			return
		}
		size := len(p.bytes)
		if r.char > 0 {
			size = 1
		}
		for rest := p.bytes; len(rest) > 0; rest = rest[size:] {
			if r.char > 0 {
				if now := time.Now(); free.Before(now) {
					free = now
				}
				free = free.Add(r.char)
				if !sleep(r.done, time.Until(free)) {
					return
				}
			}
			if _, err := to.Write(rest[:size]); err != nil {
				r.hangUp()
				return
			}
			r.passed.Add(uint64(size))
		}
	}
}
