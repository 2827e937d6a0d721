package osdp

import (
	"context"
	"errors"
	"fmt"

	"gatehouse/drivers"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

// output is a point that is commanded: one command, with what it says for active
// and for inactive.
type output struct {
	code    byte
	on, off []byte
}

// beep is how a buzzer sounds until it is told to stop: on and off, in steps of
// 100 ms.
const beep = 5

// newOutput builds the commands of an output. The spec was checked.
func newOutput(p *drivers.PointSpec) *output {
	w := p.Write
	number := byte(w.At.Address)
	steps := uint16(w.PulseFor / timerStep)
	value := func(v *uint16, otherwise byte) byte {
		if v == nil {
			return otherwise
		}
		return byte(*v)
	}
	switch w.At.Space {
	case "led":
		reader, led := byte(w.At.Address>>8), number
		colour := value(w.On, osdp.Red)
		o := &output{code: osdp.CmdLED, off: osdp.AppendLED(nil, reader, led, value(w.Off, osdp.Black))}
		if steps > 0 {
			o.on = osdp.AppendLEDFor(nil, reader, led, colour, steps)
		} else {
			o.on = osdp.AppendLED(nil, reader, led, colour)
		}
		return o
	case "buzzer":
		o := &output{code: osdp.CmdBuz, off: osdp.AppendBuz(nil, number, value(w.Off, osdp.ToneOff), 0, 0, 0)}
		tone := value(w.On, osdp.ToneDefault)
		if steps > 0 {
			o.on = osdp.AppendBuz(nil, number, tone, byte(steps), 0, 1)
		} else {
			o.on = osdp.AppendBuz(nil, number, tone, beep, beep, 0)
		}
		return o
	}
	on, off, timed := osdp.OutOn, osdp.OutOff, osdp.OutOnTimed
	if p.Invert {
		on, off, timed = osdp.OutOff, osdp.OutOn, osdp.OutOffTimed
	}
	o := &output{code: osdp.CmdOut, off: osdp.AppendOut(nil, number, off, 0)}
	if steps > 0 {
		// The reader ends it by itself: a crash leaves nothing energised.
		o.on = osdp.AppendOut(nil, number, timed, steps)
	} else {
		o.on = osdp.AppendOut(nil, number, on, 0)
	}
	return o
}

// mostSteps is how many exchanges a write may need before its own: the reply that
// is outstanding, and a start from nothing.
const mostSteps = 8

// Why an output was not confirmed.
var (
	errLost        = fmt.Errorf("%w: the session with the reader began anew", drivers.ErrBusy)
	errUnconfirmed = errors.New("the reader answered, and did not confirm it")
	errUnproven    = fmt.Errorf("%w: the reader gives no proof of its key, and an order in clear text could be anybody's", drivers.ErrRefused)
)

// Write commands an output: true is its active state. The reader's reply is what
// confirms it. A reader that was not yet spoken to is taken to a session first.
// An installed one without a session is told to light and to sound, no more.
func (d *Driver) Write(ctx context.Context, p point.ID, v point.Value) error {
	out, ok := d.outputs[p]
	if !ok {
		return fmt.Errorf("%s: %w", p, drivers.ErrNotWritable)
	}
	if v.Kind != point.Bool {
		return fmt.Errorf("%s: %w with %s: want true or false", p, drivers.ErrNotWritable, v)
	}
	payload := out.off
	if v.On() {
		payload = out.on
	}
	d.outcome = errLost
	for range mostSteps {
		now := d.now()
		d.expire(now)
		mine := d.pending.output == p && d.pending.value == v.On()
		if !mine && (d.pending.code != 0 || d.phase != phaseOnline || d.session.byDefault()) {
			if err := d.step(ctx); err != nil {
				return err
			}
			d.outcome = errLost
			continue
		}
		if out.code == osdp.CmdOut && d.session.installed && !d.session.up {
			return fmt.Errorf("%s: %w", p, errUnproven)
		}
		if !mine {
			d.send(now, command{code: out.code, output: p, value: v.On()}, payload)
		}
		if err := d.exchange(ctx); err != nil {
			return err
		}
		return d.outcome
	}
	return fmt.Errorf("%s: %w: the reader is starting", p, drivers.ErrBusy)
}

var _ drivers.Writer = (*Driver)(nil)
