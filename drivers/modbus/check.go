package modbus

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

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

	units := unitRange{0, 255}
	switch spec.Framing {
	case drivers.RTU:
		units = unitRange{1, modbus.MaxUnit} // 0 is everybody's, and nobody answers to it (SL 2.2)
	case drivers.TCP:
	default:
		fail("framing %q: want rtu or tcp", spec.Framing)
	}
	if !units.holds(spec.Address) {
		fail("address %d: want %d to %d", spec.Address, units.lowest, units.highest)
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
		for _, err := range checkPoint(spec, p, units) {
			fail("point %s: %w", p.ID, err)
		}
	}
	errs = append(errs, checkCommands(spec, units)...)
	for i, err := range errs {
		errs[i] = fmt.Errorf("modbus device %s: %w", spec.Device, err)
	}
	return errors.Join(errs...)
}

// unitRange is the unit ids that a framing can address.
type unitRange struct{ lowest, highest int }

func (r unitRange) holds(unit int) bool { return r.lowest <= unit && unit <= r.highest }

func checkPoint(spec drivers.Spec, p *drivers.PointSpec, units unitRange) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.Write != nil {
		errs = append(errs, checkOutput(spec, p.Write, units)...)
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
	errs = append(errs, checkItem(spec, p.At, t.registers, units)...)
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
	errs = append(errs, checkNumber(spec, p, units)...)
	errs = append(errs, checkCodes(p, t)...)
	if s := statusOf(spec, p); p.StatusOf != "" && (s == nil || s.Kind != point.State || !readable(s)) {
		fail("status_of %q: the device has no state point of that name", p.StatusOf)
	}
	return errs
}

// checkNumber checks what turns a raw number into a reading.
func checkNumber(spec drivers.Spec, p *drivers.PointSpec, units unitRange) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	finite := func(name string, x *float64) {
		if x != nil && (math.IsNaN(*x) || math.IsInf(*x, 0)) {
			fail("%s %g: want a finite number", name, *x)
		}
	}
	finite("scale", &p.Scale)
	finite("offset", &p.Offset)
	finite("min", p.Min)
	finite("max", p.Max)
	finite("max_step", p.MaxStep)
	if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
		fail("range: min %g is above max %g", *p.Min, *p.Max)
	}
	if p.MaxStep != nil && *p.MaxStep <= 0 {
		fail("max_step %g: want more than 0", *p.MaxStep)
	}
	if p.Kind != point.Number && (p.MaxStep != nil || p.Decimals != nil || p.UnitFrom != nil) {
		fail("max_step, decimals, unit_from: only a number has them")
	}
	for _, l := range []*drivers.Lookup{p.Decimals, p.UnitFrom} {
		if l == nil {
			continue
		}
		errs = append(errs, checkItem(spec, l.At, 1, units)...)
		if n := bits.Len64(l.Bits); n > 16 {
			fail("bits 0x%X of a code: bit %d is outside a register", l.Bits, n-1)
		}
		for code, x := range l.Map {
			switch {
			case l == p.Decimals && (x != math.Trunc(x) || x < 0 || x > mostDecimals): // NaN is not its own Trunc
				fail("decimals %g for code %d: want 0 to %d", x, code, mostDecimals)
			case l == p.UnitFrom && (x == 0 || math.IsNaN(x) || math.IsInf(x, 0)):
				fail("factor %g for unit code %d: want a finite number other than 0", x, code)
			}
		}
	}
	return errs
}

// checkCodes checks the raw values a point is known by.
func checkCodes(p *drivers.PointSpec, t dataType) (errs []error) {
	width := 16 * t.registers
	switch {
	case p.At.Space == "coil" || p.At.Space == "discrete":
		width = 1
	case p.Bits != 0:
		width = bits.OnesCount64(p.Bits)
	}
	fits := func(name string, code uint64) {
		if n := bits.Len64(code); n > width {
			errs = append(errs, fmt.Errorf("%s 0x%X: the point has %d bits", name, code, width))
		}
	}
	for _, code := range p.Sentinels {
		fits("sentinel", code)
	}
	if p.Active != nil {
		fits("active", *p.Active)
	}
	if p.Inactive != nil {
		fits("inactive", *p.Inactive)
	}
	switch {
	case p.Active == nil && p.Inactive == nil:
	case p.Kind != point.Bool:
		errs = append(errs, errors.New("active, inactive: only a bool has them"))
	case p.Active != nil && p.Inactive != nil && *p.Active == *p.Inactive:
		errs = append(errs, fmt.Errorf("active and inactive are both 0x%X: one code cannot mean both", *p.Active))
	}
	return errs
}

func checkItem(spec drivers.Spec, at drivers.Item, count int, units unitRange) (errs []error) {
	if functions[at.Space] == 0 {
		errs = append(errs, fmt.Errorf("space %q: want coil, discrete, holding or input", at.Space))
	}
	if int64(at.Address)+int64(count) > 1<<16 {
		errs = append(errs, fmt.Errorf("address %d: the last is 65535", at.Address))
	}
	if unit := spec.Address + at.UnitPlus; !units.holds(unit) {
		errs = append(errs, fmt.Errorf("unit id %d: want %d to %d", unit, units.lowest, units.highest))
	}
	return errs
}
