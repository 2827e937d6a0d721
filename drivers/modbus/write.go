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
	active, inactive []byte
}

// levels returns the raw values of an output. A register has none of its own:
// its spec states both.
func levels(w *drivers.Output) (on, off uint16) {
	on, off = coilOn, coilOff
	if w.On != nil {
		on = *w.On
	}
	if w.Off != nil {
		off = *w.Off
	}
	return on, off
}

// outputs builds the frames of every output, and a probe for a device that is
// only written to.
func (p *planner) outputs() error {
	for i := range p.spec.Points {
		ps := &p.spec.Points[i]
		w := ps.Write
		if w == nil {
			continue
		}
		on, off := levels(w)
		if ps.Invert {
			on, off = off, on
		}
		at, many := w.At, w.Multiple
		inactive, err := p.writes(at, off, many)
		if err != nil {
			return err
		}
		if w.PulseFor > 0 {
			// The module switches off by itself: a crash leaves nothing energised.
			at, on, many = *w.PulseAt, uint16(w.PulseFor/pulseUnit), false
		}
		active, err := p.writes(at, on, many)
		if err != nil {
			return err
		}
		if p.d.outputs == nil {
			p.d.outputs = make(map[point.ID]output)
		}
		p.d.outputs[ps.ID] = output{active: active, inactive: inactive}
		if len(p.d.probes) == 0 {
			if err := p.reads(&request{}, place(p.spec, w.At, 1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// writes builds the frame that writes one item: functions 5 and 6, or 15 and 16
// for devices that know no other.
func (p *planner) writes(at drivers.Item, value uint16, many bool) ([]byte, error) {
	data := binary.BigEndian.AppendUint16(nil, uint16(at.Address))
	var function byte
	switch coil := at.Space == "coil"; {
	case coil && many:
		function = modbus.WriteMultipleCoils
		data = append(data, 0, 1, 1, byte(min(value, 1))) // quantity, bytes, the bit
	case many:
		function = modbus.WriteMultipleRegisters
		data = append(data, 0, 1, 2) // quantity, bytes
		data = binary.BigEndian.AppendUint16(data, value)
	case coil:
		function = modbus.WriteSingleCoil
		data = binary.BigEndian.AppendUint16(data, value)
	default:
		function = modbus.WriteSingleRegister
		data = binary.BigEndian.AppendUint16(data, value)
	}
	tx, err := p.encode(byte(p.spec.Address+at.UnitPlus), function, data...)
	if err != nil {
		return nil, fmt.Errorf("writing %s %d: %w", at.Space, at.Address, err)
	}
	return tx, nil
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
	tx := out.inactive
	if v.On() {
		tx = out.active
	}
	_, err := d.exchange(ctx, tx)
	return err
}
