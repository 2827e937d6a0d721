package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/drivers"
)

// rxSize holds the longest frame behind some noise.
const rxSize = 1024

// spoiltSilence ends the wait for a reply that came damaged: serial servers
// split a frame by at most 50 ms.
const spoiltSilence = 60 * time.Millisecond

// Errors of an exchange, made once.
var (
	errTimeout = fmt.Errorf("%w before the deadline", drivers.ErrNoReply)
	errSpoilt  = fmt.Errorf("%w that is whole: %w", drivers.ErrNoReply, drivers.ErrDamaged)
)

// deviceLink is the bus as one device's driver sees it.
type deviceLink struct {
	bus    *Bus
	timing Timing
}

// Exchange sends tx and returns the one frame that f accepts.
func (l *deviceLink) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	return l.bus.exchange(ctx, tx, f, l.timing)
}

func (b *Bus) exchange(ctx context.Context, tx []byte, f drivers.Framer, t Timing) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !b.line.isOpen() {
		return nil, drivers.ErrLinkDown
	}
	if err := b.prepare(t.Gap); err != nil {
		return nil, b.broken(err)
	}
	if err := b.line.send(tx); err != nil {
		return nil, b.broken(err)
	}
	sent := b.opts.Now().Add(b.link.charTime(len(tx)))
	deadline, hurried := sent.Add(t.Timeout), false
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline, hurried = d, true
	}
	reply, err := b.await(ctx, f, deadline)
	if hurried && errors.Is(err, drivers.ErrNoReply) {
		err = context.DeadlineExceeded // the caller's patience ended, not the device's time
	}
	b.lastByte = b.opts.Now()
	b.opts.Beat()
	if err != nil {
		b.unanswered(sent, t.Timeout, errors.Is(err, drivers.ErrDamaged))
	}
	return reply, err
}

// prepare keeps the silence between frames and drops what arrived unasked.
func (b *Bus) prepare(gap time.Duration) error {
	if b.opts.Framing == drivers.TCP {
		return nil // the transaction id tells replies apart
	}
	if rest := gap - b.opts.Now().Sub(b.lastByte); rest > 0 {
		time.Sleep(min(rest, gap))
	}
	n, err := b.line.discard()
	b.foreign(n)
	return err
}

// await reads until f accepts a frame. Bytes that cannot begin one are slid
// over one by one; that, and not closing, is what cures a noisy serial line.
func (b *Bus) await(ctx context.Context, f drivers.Framer, deadline time.Time) ([]byte, error) {
	start, end, spoilt := 0, 0, false
	until := deadline
	for {
		if end == len(b.rx) {
			// The window moves on; a beginning as long as all of it is no frame.
			if start == 0 {
				start = end
			}
			end = copy(b.rx[:], b.rx[start:end])
			start = 0
		}
		n, err := b.line.receive(b.rx[end:], until)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, b.broken(err)
		}
		if n == 0 {
			if ctx.Err() == nil && b.opts.Now().Before(until) {
				b.opts.Beat()
				continue
			}
			return b.late(ctx, f, b.rx[start:end], spoilt)
		}
		end += n
		for start < end {
			need, ferr := f(b.rx[start:end])
			if ferr != nil {
				spoilt = spoilt || errors.Is(ferr, drivers.ErrDamaged)
				start++
				b.foreign(1)
				continue
			}
			if need <= 0 {
				b.foreign(-need)
				return b.rx[start : end+need], nil
			}
			break
		}
		if spoilt {
			if quiet := b.opts.Now().Add(spoiltSilence); quiet.Before(deadline) {
				until = quiet
			}
		}
	}
}

// late is the end of a wait. What looked like the beginning of a frame may
// have hidden a whole one behind it.
func (b *Bus) late(ctx context.Context, f drivers.Framer, rx []byte, spoilt bool) ([]byte, error) {
	for i := 1; i < len(rx); i++ {
		if need, err := f(rx[i:]); err == nil && need <= 0 {
			b.foreign(i - need)
			return rx[i : len(rx)+need], nil
		}
	}
	b.foreign(len(rx))
	if !b.link.Serial {
		b.line.shut() // the next request goes out on a fresh connection
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case spoilt:
		return nil, errSpoilt
	}
	return nil, errTimeout
}

// unanswered keeps the device from being asked again while its reply may
// still be on the way. Transaction ids make that needless.
func (b *Bus) unanswered(sent time.Time, timeout time.Duration, spoilt bool) {
	if b.opts.Framing == drivers.TCP || b.current == nil {
		return
	}
	wait := 2 * timeout
	switch {
	case b.current.demoted:
		wait = 4 * timeout
	case spoilt: // it came, most likely
		wait = timeout
	}
	b.current.notBefore = sent.Add(wait)
}

// broken closes a link that cannot be used.
func (b *Bus) broken(err error) error {
	b.line.shut()
	return fmt.Errorf("%w: %w", drivers.ErrLinkDown, err)
}

// foreign counts bytes that belonged to no reply.
func (b *Bus) foreign(n int) {
	if n > 0 {
		b.metrics.foreign.Add(float64(n))
	}
}
