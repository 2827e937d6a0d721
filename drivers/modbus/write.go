package modbus

import (
	"context"
	"encoding/binary"
	"fmt"

	"gatehouse/drivers"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

// Values of a coil (MODBUS Application Protocol V1.1b3, 6.5).
const (
	coilOff uint16 = 0x0000
	coilOn  uint16 = 0xFF00
)

// output is a point that is commanded: the frames for active and inactive.
type output struct {
	active, inactive *request
}

// planOutputs builds the frames of every output, and a probe for a device that
// is only written to.
func (d *Driver) planOutputs(spec drivers.Spec) error {
	for i := range spec.Points {
		p := &spec.Points[i]
		if p.Write == nil {
			continue
		}
		on, off := coilOn, coilOff
		if p.Invert {
			on, off = off, on
		}
		inactive, err := writeCoil(spec, p.Write.At, off)
		if err != nil {
			return err
		}
		at := p.Write.At
		if p.Write.PulseFor > 0 {
			// The module switches off by itself: a crash leaves nothing energised.
			at, on = *p.Write.PulseAt, uint16(p.Write.PulseFor/pulseUnit)
		}
		active, err := writeCoil(spec, at, on)
		if err != nil {
			return err
		}
		d.outputs[p.ID] = &output{active: active, inactive: inactive}
		if len(d.probes) == 0 {
			if _, err := d.readRequest(spec.Framing, place(spec, p.Write.At, 1)); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeCoil(spec drivers.Spec, at drivers.Item, value uint16) (*request, error) {
	var data [4]byte
	binary.BigEndian.PutUint16(data[0:], uint16(at.Address))
	binary.BigEndian.PutUint16(data[2:], value)
	return newRequest(spec.Framing, byte(spec.Address+at.UnitPlus), modbus.WriteSingleCoil, data[:]...)
}

// Write commands an output: true is its active state. The device's echo is
// what confirms it.
func (d *Driver) Write(ctx context.Context, p point.ID, v point.Value) error {
	out, ok := d.outputs[p]
	if !ok {
		return fmt.Errorf("%s: %w", p, drivers.ErrNotWritable)
	}
	if v.Kind != point.Bool {
		return fmt.Errorf("%s: %w with %s: want true or false", p, drivers.ErrNotWritable, v)
	}
	r := out.inactive
	if v.On() {
		r = out.active
	}
	_, err := d.exchange(ctx, r)
	return err
}
