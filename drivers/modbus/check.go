package modbus

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

// dataType is how a number stands in registers.
type dataType struct {
	class     byte // 'u', 's', 'f', or 'b' for a bit
	registers int
}

var types = map[string]dataType{
	"u16": {'u', 1}, "u32": {'u', 2}, "u64": {'u', 4},
	"s16": {'s', 1}, "s32": {'s', 2}, "s64": {'s', 4},
	"f32": {'f', 2}, "f64": {'f', 4},
	"bit": {'b', 1},
}

// typeOf fills in the default: a register is u16, a coil or input a bit.
func typeOf(p *drivers.PointSpec) string {
	switch {
	case p.At.Space == "coil" || p.At.Space == "discrete":
		return "bit"
	case p.Type == "":
		return "u16"
	}
	return p.Type
}

// width is how many items a point's value takes.
func width(p *drivers.PointSpec) int { return types[typeOf(p)].registers }

// check reports every fault of a spec at once.
func check(spec drivers.Spec) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	lowest, highest := 0, 255
	switch spec.Framing {
	case drivers.RTU:
		lowest, highest = 1, modbus.MaxUnit
	case drivers.TCP:
	default:
		fail("framing %q: want rtu or tcp", spec.Framing)
	}
	if spec.Address < lowest || spec.Address > highest {
		fail("address %d: want %d to %d", spec.Address, lowest, highest)
	}
	if spec.Hole < 0 {
		fail("hole %d: cannot be negative", spec.Hole)
	}
	if len(spec.Points) == 0 {
		fail("no points: nothing to poll")
	}
	seen := make(map[point.ID]bool)
	for i := range spec.Points {
		p := &spec.Points[i]
		if seen[p.ID] {
			fail("point %s: listed twice", p.ID)
		}
		seen[p.ID] = true
		for _, err := range checkPoint(spec, p, highest) {
			fail("point %s: %w", p.ID, err)
		}
	}
	for i, err := range errs {
		errs[i] = fmt.Errorf("modbus device %s: %w", spec.Device, err)
	}
	return errors.Join(errs...)
}

func checkPoint(spec drivers.Spec, p *drivers.PointSpec, highest int) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.Write != nil {
		errs = append(errs, checkOutput(spec, p.Write, highest)...)
	}
	if !readable(p) {
		return errs
	}
	if period(spec, p) <= 0 {
		fail("no poll period: give the point or the device one")
	}
	t, ok := types[typeOf(p)]
	if !ok {
		fail("type %q: want u16, s16, u32, s32, u64, s64, f32, f64 or bit", p.Type)
		return errs
	}
	errs = append(errs, checkItem(spec, p.At, t.registers, highest)...)
	if p.Order != "" && p.Order != "HL" && p.Order != "LH" {
		fail("order %q: want HL (high word first) or LH", p.Order)
	}
	if n := bits.Len64(p.Bits); n > 16*t.registers {
		fail("bits 0x%X: bit %d is outside %s", p.Bits, n-1, typeOf(p))
	}
	switch p.Kind {
	case point.Number:
	case point.Bool, point.State:
		if t.class == 'f' {
			fail("type %s: a bool or state is a whole number", p.Type)
		}
		if p.Kind == point.State && len(p.States) == 0 {
			fail("no states: a state point needs its table of codes")
		}
	default:
		fail("kind %d: a register is a number, a bool or a state", p.Kind)
	}
	if t.class == 'f' && p.Bits != 0 {
		fail("bits: cannot be picked from a floating-point number")
	}
	if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
		fail("range: min %g is above max %g", *p.Min, *p.Max)
	}
	for _, l := range []*drivers.Lookup{p.Decimals, p.UnitFrom} {
		if l != nil {
			errs = append(errs, checkItem(spec, l.At, 1, highest)...)
		}
	}
	if s := statusOf(spec, p); p.StatusOf != "" && (s == nil || s.Kind != point.State || !readable(s)) {
		fail("status_of %q: the device has no state point of that name", p.StatusOf)
	}
	return errs
}

func checkItem(spec drivers.Spec, at drivers.Item, count, highest int) (errs []error) {
	if functions[at.Space] == 0 {
		errs = append(errs, fmt.Errorf("space %q: want coil, discrete, holding or input", at.Space))
	}
	if int64(at.Address)+int64(count) > 1<<16 {
		errs = append(errs, fmt.Errorf("address %d: the last is 65535", at.Address))
	}
	if unit := spec.Address + at.UnitPlus; unit < 0 || unit > highest {
		errs = append(errs, fmt.Errorf("unit id %d: want at most %d", unit, highest))
	}
	return errs
}

// pulseUnit is the step in which relay modules time their pulses, and
// longestPulse the number of steps a coil value can carry.
const (
	pulseUnit    = 100 * time.Millisecond
	longestPulse = 0x7FFF
)

func checkOutput(spec drivers.Spec, w *drivers.Output, highest int) (errs []error) {
	items := []drivers.Item{w.At}
	if w.PulseAt != nil {
		items = append(items, *w.PulseAt)
	}
	for _, at := range items {
		if at.Space != "coil" {
			errs = append(errs, fmt.Errorf("write space %q: want coil", at.Space))
			continue
		}
		errs = append(errs, checkItem(spec, at, 1, highest)...)
	}
	switch n := w.PulseFor / pulseUnit; {
	case w.PulseFor == 0:
	case w.PulseAt == nil:
		errs = append(errs, errors.New("pulse: this module times no pulses (no pulse address)"))
	case w.PulseFor%pulseUnit != 0 || n < 1 || n > longestPulse:
		errs = append(errs, fmt.Errorf("pulse %v: want a multiple of 100ms, at most %v", w.PulseFor, longestPulse*pulseUnit))
	}
	return errs
}
