package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// poll runs one job and hands over what it read.
func (b *Bus) poll(ctx context.Context, j *job, start time.Time) {
	dev := j.dev
	b.current = dev
	err := dev.driver.Do(ctx, j.index, b.collect)
	b.current = nil
	if len(b.batch) > 0 {
		b.opts.Emit(b.batch)
		b.batch = b.batch[:0]
	}
	if ctx.Err() != nil {
		return // the end of the daemon is nobody's failure
	}
	now := b.opts.Now()
	b.metrics.seconds.Observe(now.Sub(start).Seconds())
	dev.metrics.polls.Add(1)
	switch {
	case err == nil:
		dev.refusing = false
		b.succeeded(j, now)
		return
	case errors.Is(err, drivers.ErrRefused):
		b.refused(dev, err)
		b.succeeded(j, now)
	case errors.Is(err, drivers.ErrBusy):
		b.busy(j, now)
	default:
		b.failed(j, now, err)
	}
	dev.metrics.errors[kindOf(err)].Add(1)
}

// probe asks a demoted device whether it is there.
func (b *Bus) probe(ctx context.Context, dev *device, start time.Time) {
	for i, d := range b.devices {
		if d == dev {
			b.probed = i
		}
	}
	b.current = dev
	err := dev.driver.Probe(ctx)
	b.current = nil
	if ctx.Err() != nil {
		return
	}
	now := b.opts.Now()
	b.metrics.seconds.Observe(now.Sub(start).Seconds())
	dev.metrics.polls.Add(1)
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
func (b *Bus) refused(dev *device, err error) {
	if dev.refusing {
		return
	}
	dev.refusing = true
	b.opts.Log.Warn("device refuses a request", "device", dev.id, "err", err,
		"hint", "check that its profile and firmware variant fit the model")
}

// writeRequest is a command on its way into the bus goroutine.
type writeRequest struct {
	ctx   context.Context
	point point.ID
	value point.Value
	done  chan<- error // has room for one
}

// Write commands an output, ahead of every poll. It returns when the device
// confirmed, refused, or could not be reached; before Run it waits for it.
func (b *Bus) Write(ctx context.Context, p point.ID, v point.Value) error {
	done := make(chan error, 1)
	select {
	case b.writes <- writeRequest{ctx: ctx, point: p, value: v, done: done}:
	case <-ctx.Done():
		return fmt.Errorf("writing %s: %w", p, ctx.Err())
	case <-b.ended:
		return fmt.Errorf("writing %s: bus %s has ended: %w", p, b.opts.ID, drivers.ErrLinkDown)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("writing %s: %w", p, ctx.Err())
	case <-b.ended:
		return fmt.Errorf("writing %s: bus %s has ended: %w", p, b.opts.ID, drivers.ErrLinkDown)
	}
}

// write carries out one command.
func (b *Bus) write(ctx context.Context, w writeRequest) {
	if err := b.command(ctx, w); err != nil {
		w.done <- fmt.Errorf("writing %s: %w", w.point, err)
		return
	}
	w.done <- nil
}

func (b *Bus) command(ctx context.Context, w writeRequest) error {
	var dev *device
	for _, d := range b.devices {
		if d.id == w.point.Device() {
			dev = d
		}
	}
	if dev == nil || dev.writer == nil {
		return drivers.ErrNotWritable
	}
	for attempt := 0; ; attempt++ {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if !b.line.isOpen() {
			b.connect(ctx) // a command does not wait for the back-off
		}
		b.current = dev
		err := dev.writer.Write(w.ctx, w.point, w.value)
		b.current = nil
		switch {
		case err == nil, errors.Is(err, drivers.ErrRefused):
			b.restore(dev, b.opts.Now())
			return err
		case errors.Is(err, drivers.ErrNotWritable), attempt >= b.opts.Retries, ctx.Err() != nil:
			return err
		case errors.Is(err, drivers.ErrBusy):
			time.Sleep(busyPause)
		}
	}
}
