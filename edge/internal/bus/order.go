package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// order is what somebody wants a device to do, on its way into the bus goroutine.
type order struct {
	ctx    context.Context
	device string
	again  bool // may be repeated without harm when no answer came
	do     func(context.Context, *device) error
	done   chan<- error // has room for one
}

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
	done := make(chan error, 1)
	o.done = done
	select {
	case b.orders <- o:
	case <-o.ctx.Done():
		return o.ctx.Err()
	case <-b.ended:
		return fmt.Errorf("bus %s has ended: %w", b.opts.ID, drivers.ErrLinkDown)
	}
	select {
	case err := <-done:
		return err
	case <-o.ctx.Done():
		return o.ctx.Err()
	case <-b.ended:
		return fmt.Errorf("bus %s has ended: %w", b.opts.ID, drivers.ErrLinkDown)
	}
}

// obey carries out one order.
func (b *Bus) obey(ctx context.Context, o order) {
	dev := find(b.devices, o.device)
	if dev == nil {
		o.done <- drivers.ErrNotWritable
		return
	}
	for attempt := 0; ; attempt++ {
		if err := o.ctx.Err(); err != nil {
			o.done <- err
			return
		}
		if !b.line.isOpen() {
			b.connect(ctx) // an order does not wait for the back-off
		}
		err := o.do(o.ctx, dev)
		b.flush()
		switch {
		case err == nil, errors.Is(err, drivers.ErrRefused):
			b.restore(dev, b.opts.Now())
		case o.again && attempt < b.opts.Retries && ctx.Err() == nil && !errors.Is(err, drivers.ErrNotWritable):
			if errors.Is(err, drivers.ErrBusy) {
				time.Sleep(busyPause)
			}
			continue
		}
		o.done <- err
		return
	}
}
