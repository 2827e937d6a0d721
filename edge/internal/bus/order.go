package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// order is what somebody wants a device to do, on its way into the bus goroutine.
type order struct {
	ctx    context.Context
	device string
	dev    *device
	again  bool // may be repeated without harm when no answer came
	do     func(context.Context, *device) error
	begun  chan struct{} // closed when it is being carried out
	done   chan error    // has room for one
}

// ErrNotBegun occurs when whoever ordered something gave up before anything of
// it was sent.
var ErrNotBegun = errors.New("nothing was sent")

// Write commands an output, ahead of every poll. It returns when the device
// confirmed, refused, or could not be reached; before Run it waits for it.
func (b *Bus) Write(ctx context.Context, p point.ID, v point.Value) error {
	err := b.order(order{ctx: ctx, device: p.Device(), again: true, do: func(ctx context.Context, d *device) error {
		if d.writer == nil {
			return drivers.ErrNotWritable
		}
		return d.writer.Write(ctx, p, v)
	}})
	if err != nil {
		return fmt.Errorf("writing %s: %w", p, err)
	}
	return nil
}

// ErrNoCommand occurs when a device has no command of that name.
var ErrNoCommand = errors.New("no such command")

// Command carries out what a person ordered of a device, ahead of every poll,
// and never twice: what became of an order that got no answer is for the person
// to see.
func (b *Bus) Command(ctx context.Context, id, name string) error {
	err := b.order(order{ctx: ctx, device: id, do: func(ctx context.Context, d *device) error {
		c, ok := d.driver.(drivers.Commander)
		if !ok {
			return ErrNoCommand
		}
		return c.Command(ctx, name)
	}})
	if err != nil {
		return fmt.Errorf("command %s of device %s: %w", name, id, err)
	}
	return nil
}

// Commands are the names of what can be ordered of a device.
func (b *Bus) Commands(id string) []string {
	for _, d := range b.devices {
		if c, ok := d.driver.(drivers.Commander); ok && d.id == id {
			return c.Commands()
		}
	}
	return nil
}

// order hands an order to the bus goroutine and waits for what becomes of it.
func (b *Bus) order(o order) error {
	o.begun, o.done = make(chan struct{}), make(chan error, 1)
	select {
	case b.orders <- o:
	case <-o.ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotBegun, o.ctx.Err())
	case <-b.ended:
		return b.verdict(o)
	}
	select {
	case <-o.begun:
	case err := <-o.done:
		return err
	case <-b.ended:
		return b.verdict(o)
	case <-o.ctx.Done():
		select {
		case <-o.begun:
		default:
			return fmt.Errorf("%w: %w", ErrNotBegun, o.ctx.Err()) // obey will see that too
		}
	}
	// What is being carried out has an outcome, and it is worth knowing.
	select {
	case err := <-o.done:
		return err
	case <-b.ended:
		return b.verdict(o)
	}
}

// verdict is what is known of an order when the bus has ended.
func (b *Bus) verdict(o order) error {
	select {
	case err := <-o.done:
		return err
	default:
		return fmt.Errorf("bus %s has ended: %w", b.opts.ID, drivers.ErrLinkDown)
	}
}

// release returns the first held order that no late reply can confirm any more.
func (b *Bus) release(now time.Time) (order, bool) {
	for i, o := range b.held {
		if !o.dev.settled.After(now) {
			b.held = slices.Delete(b.held, i, i+1)
			return o, true
		}
	}
	return order{}, false
}

// obey carries out one order.
func (b *Bus) obey(ctx context.Context, o order) {
	dev := find(b.devices, o.device)
	if dev == nil {
		o.done <- drivers.ErrNotWritable
		return
	}
	if dev.settled.After(b.opts.Now()) && b.opts.Framing != drivers.TCP {
		o.dev = dev
		b.held = append(b.held, o)
		return
	}
	if !b.line.isOpen() {
		b.connect(ctx) // an order does not wait for the back-off
	}
	if err := o.ctx.Err(); err != nil {
		o.done <- fmt.Errorf("%w: %w", ErrNotBegun, err)
		return
	}
	close(o.begun)
	b.listenFirst(o.ctx, dev)
	for attempt := 0; ; attempt++ {
		if !b.line.isOpen() {
			b.connect(ctx)
		}
		err := o.do(o.ctx, dev)
		b.flush()
		if err != nil && !errors.Is(err, drivers.ErrRefused) && !errors.Is(err, drivers.ErrUnderway) {
			dev.settled = dev.notBefore
		}
		switch {
		case err == nil, errors.Is(err, drivers.ErrRefused):
			b.restore(dev, b.opts.Now())
		case o.again && attempt < b.opts.Retries && ctx.Err() == nil && o.ctx.Err() == nil && !errors.Is(err, drivers.ErrNotWritable):
			if errors.Is(err, drivers.ErrBusy) {
				time.Sleep(busyPause)
			}
			continue
		}
		o.done <- err
		return
	}
}

// listenFirst reads once before the first order on a line, for only a read shows
// whether the line plays back what is sent on it: an echo confirms no order.
func (b *Bus) listenFirst(ctx context.Context, dev *device) {
	if b.learned || b.opts.Framing == drivers.TCP || b.source != nil {
		return
	}
	_ = dev.driver.Probe(ctx) // a device that is dead shows in what follows
	b.learned = true
}
