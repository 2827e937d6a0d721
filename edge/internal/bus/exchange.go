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

// deafAfter is how many timeouts long a connection to several devices may be silent.
const deafAfter = 3

// spoiltSilence ends the wait for a reply that came damaged: serial servers
// split a frame by at most 50 ms.
const spoiltSilence = 60 * time.Millisecond

// Errors of an exchange, made once.
var (
	errTimeout = fmt.Errorf("%w before the deadline", drivers.ErrNoReply)
	errSpoilt  = fmt.Errorf("%w that is whole: %w", drivers.ErrNoReply, drivers.ErrDamaged)
)

// Exchange sends tx and returns the one frame that f accepts: a device is the
// bus as its driver sees it.
func (dev *device) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	return dev.bus.exchange(ctx, tx, f, dev)
}

func (b *Bus) exchange(ctx context.Context, tx []byte, f drivers.Framer, dev *device) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !b.line.isOpen() {
		return nil, drivers.ErrLinkDown
	}
	if len(tx) == 0 {
		return b.hear(ctx, f, dev)
	}
	begun := b.opts.Now()
	reply, err := b.ask(ctx, tx, f, dev)
	b.lastByte = b.opts.Now()
	b.metrics.busy.Add(uint64(max(b.lastByte.Sub(begun), 0)))
	if err == nil {
		b.proven(b.lastByte)
	} else {
		b.lived(b.lastByte)
	}
	b.opts.Beat()
	return reply, err
}

// ask is one request and the wait for its reply.
func (b *Bus) ask(ctx context.Context, tx []byte, f drivers.Framer, dev *device) ([]byte, error) {
	if err := b.ready(ctx, dev); err != nil {
		return nil, b.broken(err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err // whoever wanted it gave up while the line was made ready
	}
	if err := b.say(dev, tx); err != nil {
		return nil, b.broken(err)
	}
	b.opts.Beat() // the gap before and the wait behind are each long enough
	sent := b.opts.Now().Add(b.mode.charTime(len(tx)))
	timeout := dev.timing.Timeout
	if b.hurry {
		timeout = min(timeout, 2*dev.slowest+hurrySlack)
	}
	deadline, hurried := sent.Add(timeout), false
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline, hurried = d, true
	}
	reply, err := b.await(ctx, tx, f, deadline)
	if hurried && errors.Is(err, drivers.ErrNoReply) {
		err = context.DeadlineExceeded // the caller's patience ended, not the device's time
	}
	switch {
	case err != nil:
		b.misses++
		b.unanswered(sent, dev, errors.Is(err, drivers.ErrDamaged))
	default:
		b.misses = 0
		dev.slowest = max(dev.slowest, b.opts.Now().Sub(sent))
	}
	if b.trace.on.Load() {
		b.tracedReply(dev, reply, err)
	}
	return reply, err
}

// tracedReply notes a reply, or all that came instead of one.
func (b *Bus) tracedReply(dev *device, reply []byte, err error) {
	if err != nil {
		b.tracedRest(dev, b.rx[:b.received], err.Error())
		return
	}
	b.traced(dev, false, reply)
}

// say puts bytes on the line.
func (b *Bus) say(dev *device, tx []byte) error {
	if err := b.line.send(tx); err != nil {
		return err
	}
	b.metrics.sent.Add(uint64(len(tx)))
	b.traced(dev, true, tx)
	return nil
}

// prepare keeps the silence between frames, sets the device's own line mode,
// drops what arrived unasked and wakes the device.
func (b *Bus) prepare(dev *device) error {
	if b.opts.Framing == drivers.TCP {
		return nil // the transaction id tells replies apart
	}
	gap := dev.timing.Gap
	if b.link.Serial && dev.timing.Mode != b.mode {
		gap = max(gap, frameGap(b.mode)) // the others must hear that the last frame has ended
	}
	if rest := gap - b.opts.Now().Sub(b.lastByte); rest > 0 {
		b.line.rest(min(rest, gap))
	}
	if b.link.Serial && dev.timing.Mode != b.mode {
		if err := b.line.configure(dev.timing.Mode); err != nil {
			return err
		}
		b.mode = dev.timing.Mode
	}
	n, err := b.line.discard()
	b.foreign(n)
	if err != nil || len(dev.timing.Wake) == 0 {
		return err
	}
	if err := b.say(dev, dev.timing.Wake); err != nil {
		return err
	}
	b.line.rest(b.mode.charTime(len(dev.timing.Wake)) + dev.timing.WakePause)
	n, err = b.line.discard()
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
	b.received = 0
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
		b.received = w.end
		if n > 0 {
			b.heardAt = b.opts.Now()
		}
		b.metrics.received.Add(uint64(n))
		reply := b.scan(&w, f)
		b.notice(&w, f, reply)
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
		need, err := b.judge(w, f)
		switch {
		case err != nil:
			w.spoilt = w.spoilt || errors.Is(err, drivers.ErrDamaged)
			w.start++
			b.foreign(1)
		case need > 0:
			return nil
		default:
			reply := b.rx[w.start : w.end+need]
			if b.echo && !w.skipped && len(w.tx) > 0 && bytes.Equal(reply, w.tx) {
				w.skipped = true // our own voice: the device has not spoken yet
				w.start += len(reply)
				b.foreign(len(reply))
				continue
			}
			if w.tx != nil {
				b.foreign(-need) // a device that talks unasked may have begun its next frame
			}
			return reply
		}
	}
	return nil
}

// notice learns whether the line plays back what is sent on it. Only a request
// that cannot be its own reply tells.
func (b *Bus) notice(w *window, f drivers.Framer, reply []byte) {
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
	if b.deaf() {
		b.line.shut() // the next request goes out on a fresh connection
	}
	if w.spoilt {
		return nil, errSpoilt
	}
	return nil, errTimeout
}

// deaf reports whether a connection is not worth keeping: nobody behind it has
// said anything for several timeouts. A silent device alone is no reason, its
// neighbours would pay for it; and a DTU takes long to dial in again.
func (b *Bus) deaf() bool {
	if b.link.Serial || b.link.Listen {
		return false
	}
	return len(b.devices) == 1 || b.opts.Now().Sub(b.heardAt) >= deafAfter*b.opts.Timeout
}

// unanswered keeps the device from being asked again while its reply may
// still be on the way. Transaction ids make that needless.
func (b *Bus) unanswered(sent time.Time, dev *device, spoilt bool) {
	if b.opts.Framing == drivers.TCP {
		return
	}
	wait := 2 * dev.timing.Timeout
	switch {
	case dev.demoted:
		wait = 4 * dev.timing.Timeout
	case spoilt: // it came, most likely
		wait = dev.timing.Timeout
	}
	dev.notBefore = sent.Add(wait)
}

// broken closes a link that cannot be used.
func (b *Bus) broken(err error) error {
	b.line.shut()
	b.lost(err)
	return fmt.Errorf("%w: %w", drivers.ErrLinkDown, err)
}

// foreign counts bytes that belonged to no reply.
func (b *Bus) foreign(n int) {
	if n > 0 {
		b.metrics.foreign.Add(uint64(n))
	}
}
