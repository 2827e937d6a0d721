package config

import (
	"maps"
	"slices"
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
	Device     string
	Address    int
	Meter      string // 12 digits; "" is the only meter on the line
	Every      time.Duration
	Framing    drivers.Framing
	AllowClear bool
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

// Compile turns a profile, in the variant at hand and with every point placed,
// into what a driver needs to know of one device. It expects overrides that
// fit, as loading a config checks them.
func Compile(p profiles.Profile, t Target, overrides map[string]Override) drivers.Spec {
	spec := drivers.Spec{
		Device: t.Device, Framing: t.Framing, Address: t.Address, Meter: t.Meter, Every: t.Every, Hole: p.Hole,
		Frame: compileFrame(p.Frame), Points: make([]drivers.PointSpec, len(p.Points)),
		Commands: compileCommands(p.Commands), AllowClear: t.AllowClear,
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
		At:   drivers.Item{Space: p.Space, Address: p.Address, UnitPlus: p.UnitPlus},
		Type: p.Type, Size: p.Size, Order: p.Order, Swap: p.Swap, Bits: p.Bits,
		Scale: p.Scale, Offset: p.Offset,
		Decimals: compileLookup(p.Decimals, p.UnitPlus), UnitFrom: compileLookup(p.UnitFrom, p.UnitPlus),
		Active: p.Active, Inactive: p.Inactive,
		Invert:   p.Invert != (o.Contact == contactNC),
		StatusOf: p.StatusOf, Sentinels: p.Sentinels, Min: p.Min, Max: p.Max, MaxStep: p.MaxStep,
		Write: compileWrite(p, o.Pulse),
	}
	if spec.Write != nil && of.Driver == "osdp" {
		spec.At = drivers.Item{} // a reader is told what to switch, and not asked
	}
	if set := of.States[p.States]; set != nil {
		spec.States = make(map[uint64]drivers.State, len(set))
		for code, s := range set {
			spec.States[code] = drivers.State{Name: s.Name, Class: drivers.Class(s.Class)}
		}
	}
	return spec
}

func compileWrite(p profiles.Point, pulse time.Duration) *drivers.Output {
	w := p.Write
	if w == nil {
		return nil
	}
	at := func(address uint16) drivers.Item {
		return drivers.Item{Space: p.Space, Address: uint32(address), UnitPlus: p.UnitPlus}
	}
	out := &drivers.Output{At: at(w.Address), On: w.On, Off: w.Off, Multiple: w.Multiple, PulseFor: pulse}
	if w.PulseAddress != nil {
		pulseAt := at(*w.PulseAddress)
		out.PulseAt = &pulseAt
	}
	return out
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

func compileFrame(f *profiles.Frame) *drivers.Frame {
	if f == nil {
		return nil
	}
	frame := &drivers.Frame{Request: f.Request, Start: f.Start, End: f.End, Size: f.Size, Max: f.Max}
	if l := f.Length; l != nil {
		frame.Length = &drivers.Length{At: l.At, Size: l.Size, Little: l.Little, Add: l.Add}
	}
	if c := f.Check; c != nil {
		frame.Check = drivers.Check{Kind: c.Kind, From: c.From, Until: c.Until, At: c.At}
	}
	return frame
}

// compileCommands lists them by name.
func compileCommands(commands map[string]profiles.Command) []drivers.Command {
	var out []drivers.Command
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		cmd := drivers.Command{Name: name}
		for _, s := range commands[name].Steps {
			cmd.Steps = append(cmd.Steps, drivers.Step{
				At: drivers.Item{Space: s.Space, Address: uint32(s.Address)}, Value: s.Value, Multiple: s.Multiple, Pause: s.Pause,
			})
		}
		out = append(out, cmd)
	}
	return out
}
