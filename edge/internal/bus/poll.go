package bus

import (
	"context"
	"errors"
	"time"

	"gatehouse/drivers"
)

// hurrySlack is what a short try gives a device beyond twice the longest it ever
// took to answer. When devices fall silent one after the other (a riser lost its
// power), those that live must be found among them: whoever follows a request
// that got no reply has a short try first, and its whole time when all others
// had their turn.
const hurrySlack = 25 * time.Millisecond

// poll runs one job and hands over what it read.
func (b *Bus) poll(ctx context.Context, j *job, start time.Time) {
	dev := j.dev
	b.hurry = b.misses > 0 && !j.hurried && dev.slowest > 0
	tried := j.tried()
	err := dev.driver.Do(ctx, j.index, b.collect)
	hurried := b.hurry
	b.hurry = false
	b.flush()
	if ctx.Err() != nil {
		return // the end of the daemon is nobody's failure
	}
	now := b.opts.Now()
	b.polled(dev, now.Sub(start))
	if tried {
		b.vain = now
	}
	switch {
	case err == nil:
		j.refused, b.learned = false, true
		b.succeeded(j, now)
		return
	case errors.Is(err, drivers.ErrRefused):
		b.refused(j, err)
		b.succeeded(j, now)
	case errors.Is(err, drivers.ErrBusy):
		b.busy(j, now)
	case hurried:
		j.hurried = true // it may only be slow: it gets its whole time when the others had their turn
		return
	default:
		b.failed(j, now, err)
	}
	dev.metrics.errors[kindOf(err)].Add(1)
}

// flush hands over what was read.
func (b *Bus) flush() {
	if len(b.batch) > 0 {
		b.opts.Emit(b.batch)
		b.batch = b.batch[:0]
	}
}

// polled counts a poll or probe and its time.
func (b *Bus) polled(dev *device, took time.Duration) {
	b.metrics.observe(max(took, 0))
	dev.metrics.polls.Add(1)
	dev.metrics.nanoseconds.Add(uint64(max(took, 0)))
}

// probe asks a demoted device whether it is there.
func (b *Bus) probe(ctx context.Context, dev *device, start time.Time) {
	for i, d := range b.devices {
		if d == dev {
			b.probed = i
		}
	}
	err := dev.driver.Probe(ctx)
	if ctx.Err() != nil {
		return
	}
	now := b.opts.Now()
	b.polled(dev, now.Sub(start))
	if err == nil || errors.Is(err, drivers.ErrRefused) {
		// An answer is cheap: after a power cut the rest may be back as well.
		b.nextProbe = now
		b.restore(dev, now)
		return
	}
	b.nextProbe = now.Add(b.cycle)
	dev.metrics.errors[kindOf(err)].Add(1)
}

// refused says once that a device does not give what its profile asks for.
func (b *Bus) refused(j *job, err error) {
	if j.refused {
		return
	}
	j.refused = true
	b.opts.Log.Warn("device refuses a request", "device", j.dev.id, "err", err,
		"hint", "check that its profile and firmware variant fit the model")
}
