package bus

import (
	"context"
	"errors"
	"time"

	"gatehouse/drivers"
)

// sourcePause is the least time between two runs of a source that ends without
// its link failing.
const sourcePause = time.Second

// listen lets the device that talks unasked have the line until it fails.
func (b *Bus) listen(ctx context.Context) {
	b.heard = window{}
	err := b.source.Run(ctx, b.collect)
	b.flush()
	if ctx.Err() != nil {
		return
	}
	dev := b.devices[0]
	dev.metrics.errors[kindOf(err)].Add(1)
	b.line.shut()
	if errors.Is(err, drivers.ErrLinkDown) {
		return // broken has seen to it
	}
	b.opts.Log.Error("the driver of a device that talks unasked ended", "device", dev.id, "err", err)
	b.redial.at = b.opts.Now().Add(sourcePause)
}

// hear waits for the next frame of a device that talks unasked. What arrived
// behind the frame before is not lost.
func (b *Bus) hear(ctx context.Context, f drivers.Framer, dev *device) ([]byte, error) {
	b.flush()
	w := &b.heard
	last := b.opts.Now()
	deadline := last.Add(dev.timing.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	for {
		b.turnAway()
		from := w.start
		reply := b.scan(w, f)
		b.skipped(dev, b.rx[from:w.start])
		if reply != nil {
			return b.hearing(w, dev, reply, last), nil
		}
		if w.end == len(b.rx) || w.start == w.end {
			b.makeRoom(w)
		}
		n, err := b.line.receive(b.rx[w.end:], deadline)
		b.opts.Beat()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, b.broken(err)
		}
		now := b.opts.Now()
		if n > 0 {
			w.end += n
			b.metrics.received.Add(uint64(n))
			last, b.heardAt = now, now
			deadline = now.Add(dev.timing.Timeout)
			continue
		}
		b.lived(now)
		if !now.Before(deadline) {
			return b.silence(w, f, dev, last)
		}
	}
}

// silence is what is left when nothing more came: what looked like the
// beginning of a frame may have hidden a whole one behind it.
func (b *Bus) silence(w *window, f drivers.Framer, dev *device, last time.Time) ([]byte, error) {
	from := w.start
	for w.start < w.end {
		w.start++
		b.foreign(1)
		if reply := b.scan(w, f); reply != nil {
			b.skipped(dev, b.rx[from:w.start])
			return b.hearing(w, dev, reply, last), nil
		}
	}
	err := errTimeout
	if w.spoilt {
		w.spoilt = false
		err = errSpoilt
		dev.metrics.errors[kindDamaged].Add(1)
	}
	if b.trace.on.Load() {
		b.tracedRest(dev, b.rx[from:w.end], err.Error())
	}
	return nil, errTimeout
}

// hearing takes a frame out of the window.
func (b *Bus) hearing(w *window, dev *device, reply []byte, last time.Time) []byte {
	b.traced(dev, false, reply)
	w.start += len(reply)
	b.lastByte = last
	dev.metrics.polls.Add(1)
	b.proven(last)
	b.restore(dev, last)
	return reply
}

// skipped shows what was no frame: with a wrong baud or parity that is all there is.
func (b *Bus) skipped(dev *device, rest []byte) {
	if len(rest) > 0 && b.trace.on.Load() {
		b.tracedRest(dev, rest, drivers.ErrForeign.Error())
	}
}

// turnAway answers orders while a source has the line: it takes none.
func (b *Bus) turnAway() {
	select {
	case o := <-b.orders:
		o.done <- drivers.ErrNotWritable
	default:
	}
}
