package bus

import (
	"bytes"
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
	b.opts.Beat() // the gap before and the wait behind are each long enough
	sent := b.opts.Now().Add(b.link.charTime(len(tx)))
	deadline, hurried := sent.Add(t.Timeout), false
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline, hurried = d, true
	}
	reply, err := b.await(ctx, tx, f, deadline)
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

// window is what has been received and not yet slid over: rx[start:end].
type window struct {
	tx         []byte // the request
	start, end int
	spoilt     bool // a reply came whose check value is wrong
	skipped    bool // the echo of tx
}

// await reads until f accepts a frame, or the deadline is past.
func (b *Bus) await(ctx context.Context, tx []byte, f drivers.Framer, deadline time.Time) ([]byte, error) {
	w := window{tx: tx}
	until := deadline
	for {
		if w.end == len(b.rx) {
			b.makeRoom(&w)
		}
		n, err := b.line.receive(b.rx[w.end:], until)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, b.broken(err)
		}
		w.end += n
		reply := b.scan(&w, f)
		b.listen(&w, f, reply)
		if reply != nil {
			return reply, nil
		}
		now := b.opts.Now()
		if !now.Before(until) {
			return b.late(&w, f)
		}
		if n > 0 && w.spoilt {
			if quiet := now.Add(spoiltSilence); quiet.Before(deadline) {
				until = quiet
			}
		}
		b.opts.Beat()
	}
}

// makeRoom moves the window to the front of the buffer. A beginning that fills
// all of it is no frame.
func (b *Bus) makeRoom(w *window) {
	if w.start == 0 {
		b.foreign(w.end)
		w.start = w.end
	}
	w.end = copy(b.rx[:], b.rx[w.start:w.end])
	w.start = 0
}

// scan slides over bytes that cannot begin the reply, one by one. That, and not
// closing, is what cures a noisy line. It returns nil until the reply is whole.
func (b *Bus) scan(w *window, f drivers.Framer) []byte {
	for w.start < w.end {
		need, err := f(b.rx[w.start:w.end])
		switch {
		case err != nil:
			w.spoilt = w.spoilt || errors.Is(err, drivers.ErrDamaged)
			w.start++
			b.foreign(1)
		case need > 0:
			return nil
		default:
			reply := b.rx[w.start : w.end+need]
			if b.echo && !w.skipped && bytes.Equal(reply, w.tx) {
				w.skipped = true // our own voice: the device has not spoken yet
				w.start += len(reply)
				b.foreign(len(reply))
				continue
			}
			b.foreign(-need)
			return reply
		}
	}
	return nil
}

// listen learns whether the line plays back what is sent on it. Only a request
// that cannot be its own reply tells.
func (b *Bus) listen(w *window, f drivers.Framer, reply []byte) {
	if b.opts.Framing == drivers.TCP {
		return
	}
	if need, err := f(w.tx); err == nil && need == 0 {
		return
	}
	switch {
	case w.end >= len(w.tx) && bytes.Equal(b.rx[:len(w.tx)], w.tx):
		if !b.echo {
			b.opts.Log.Info("the line plays back what is sent on it, which is skipped from now on", "link", b.link.String())
		}
		b.echo = true
	case reply != nil && w.start == 0:
		b.echo = false
	}
}

// late is the end of a wait. What looked like the beginning of a frame may
// have hidden a whole one behind it.
func (b *Bus) late(w *window, f drivers.Framer) ([]byte, error) {
	rest := *w
	for rest.start < rest.end {
		rest.start++
		b.foreign(1)
		if reply := b.scan(&rest, f); reply != nil {
			return reply, nil
		}
	}
	if !b.link.Serial {
		b.line.shut() // the next request goes out on a fresh connection
	}
	if w.spoilt {
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
