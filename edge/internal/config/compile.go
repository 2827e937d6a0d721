package config

import (
	"time"

	"gatehouse/drivers"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/protocol/point"
)

// The senses of a contact.
const (
	contactNO = "no" // normally open: closed is active
	contactNC = "nc" // normally closed: open is active, and so is a cut wire
)

// Target is which device a profile is compiled for.
type Target struct {
	Device  string
	Address int
	Every   time.Duration
	Framing drivers.Framing
}

// Override is what a site changes of a profile's point.
type Override struct {
	Role    point.Role    // "" keeps the profile's
	Contact string        // no, nc; "" is no
	Pulse   time.Duration // above 0: commands are pulses
}

func (o Override) role(p profiles.Point) point.Role {
	if o.Role != "" {
		return o.Role
	}
	return p.Role
}

// Compile turns a profile, in the variant at hand, into what a driver needs to
// know of one device. It expects overrides that fit, as loading a config
// checks them.
func Compile(p profiles.Profile, t Target, overrides map[string]Override) drivers.Spec {
	spec := drivers.Spec{
		Device: t.Device, Framing: t.Framing, Address: t.Address, Every: t.Every, Hole: p.Hole,
		Points: make([]drivers.PointSpec, len(p.Points)),
	}
	for i, pt := range p.Points {
		spec.Points[i] = compilePoint(p, pt, t, overrides[pt.Name])
	}
	return spec
}

func compilePoint(of profiles.Profile, p profiles.Point, t Target, o Override) drivers.PointSpec {
	role := o.role(p)
	spec := drivers.PointSpec{
		ID: point.MakeID(t.Device, p.Name), Role: role, Unit: p.Unit, Kind: p.Kind(),
		Every: t.Every, Critical: point.Roles[role].Safety,
		At:   drivers.Item{Space: p.Space, Address: uint32(p.Address), UnitPlus: p.UnitPlus},
		Type: p.Type, Order: p.Order, Bits: p.Bits,
		Scale: p.Scale, Offset: p.Offset,
		Decimals: compileLookup(p.Decimals, p.UnitPlus), UnitFrom: compileLookup(p.UnitFrom, p.UnitPlus),
		Invert:   p.Invert != (o.Contact == contactNC),
		StatusOf: p.StatusOf, Sentinels: p.Sentinels, Min: p.Min, Max: p.Max,
	}
	if set := of.States[p.States]; set != nil {
		spec.States = make(map[uint64]drivers.State, len(set))
		for code, s := range set {
			spec.States[code] = drivers.State{Name: s.Name, Class: drivers.Class(s.Class)}
		}
	}
	if w := p.Write; w != nil {
		spec.Write = &drivers.Output{At: drivers.Item{Space: p.Space, Address: uint32(w.Address), UnitPlus: p.UnitPlus}, PulseFor: o.Pulse}
		if w.PulseAddress != nil {
			spec.Write.PulseAt = &drivers.Item{Space: p.Space, Address: uint32(*w.PulseAddress), UnitPlus: p.UnitPlus}
		}
	}
	return spec
}

func compileLookup(l *profiles.Lookup, unitPlus int) *drivers.Lookup {
	if l == nil {
		return nil
	}
	return &drivers.Lookup{
		At:   drivers.Item{Space: l.Space, Address: uint32(l.Address), UnitPlus: unitPlus},
		Bits: l.Bits, Map: l.Map,
	}
}
