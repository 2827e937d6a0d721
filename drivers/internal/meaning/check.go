package meaning

import (
	"errors"
	"fmt"
	"math"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// Check reports what cannot be meant by a point of a device that is only read
// and sends nothing beside its values that says how to read them.
func Check(p *drivers.PointSpec) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.Write != nil {
		fail("write: this device is only read")
	}
	if p.Decimals != nil || p.UnitFrom != nil {
		fail("decimals and unit_from: no code stands beside the value; give scale and unit")
	}
	if p.Swap {
		fail("swap: there are no registers; use order")
	}
	if p.At.UnitPlus != 0 {
		fail("unit_plus %d: the device has one address", p.At.UnitPlus)
	}
	if p.Order != "" && p.Order != "HL" && p.Order != "LH" {
		fail("order %q: want HL (high byte first) or LH", p.Order)
	}
	if p.Size < 0 {
		fail("size %d: cannot be negative", p.Size)
	}
	switch p.Kind {
	case point.Number, point.Bool, point.State, point.Text:
	default:
		fail("kind %d: want a number, a bool, a state or a text", p.Kind)
	}
	if (p.Kind == point.State) != (len(p.States) > 0) {
		fail("states: a state point needs its table of codes, others have none")
	}
	if p.Kind != point.Bool && (p.Active != nil || p.Inactive != nil || p.Invert) {
		fail("active, inactive and invert: only a bool has them")
	}
	if p.Active != nil && p.Inactive != nil && *p.Active == *p.Inactive {
		fail("active and inactive: both are %d", *p.Active)
	}
	if p.Kind != point.Number && (p.Min != nil || p.Max != nil || p.MaxStep != nil) {
		fail("min, max and max_step: only a number has them")
	}
	if p.Kind == point.Text && len(p.Sentinels) > 0 {
		fail("sentinels: a text has none")
	}
	if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
		fail("range: min %g is above max %g", *p.Min, *p.Max)
	}
	if p.MaxStep != nil && (!(*p.MaxStep > 0) || math.IsInf(*p.MaxStep, 0)) { // NaN is not above 0
		fail("max_step %g: want more than zero", *p.MaxStep)
	}
	return errs
}

// CheckSpec reports what cannot be meant by the spec of such a device as a whole.
func CheckSpec(spec drivers.Spec) (errs []error) {
	if len(spec.Points) == 0 {
		errs = append(errs, errors.New("no points: nothing to read"))
	}
	if len(spec.Commands) > 0 {
		errs = append(errs, errors.New("commands: this device is only read"))
	}
	seen := make(map[point.ID]bool)
	for i := range spec.Points {
		id := spec.Points[i].ID
		if seen[id] {
			errs = append(errs, fmt.Errorf("point %s: listed twice", id))
		}
		seen[id] = true
	}
	return errs
}

// Status finds the point that vouches for p, or nil.
func Status(spec drivers.Spec, p *drivers.PointSpec) *drivers.PointSpec {
	for i := range spec.Points {
		if s := &spec.Points[i]; s.ID.Name() == p.StatusOf && s.Kind == point.State {
			return s
		}
	}
	return nil
}
