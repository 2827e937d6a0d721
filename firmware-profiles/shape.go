package profiles

import (
	"fmt"
	"strconv"
	"time"
)

// offlineOSDP is the silence after which both libosdp (osdp_common.h) and OSDP.Net
// (Bus.cs) take a reader for lost.
const offlineOSDP = 8 * time.Second

// fill puts the defaults in, so that nobody downstream knows them.
func (p *Profile) fill() {
	p.Link.Addresses = max(p.Link.Addresses, 1)
	if p.Driver == "osdp" && p.Timing.Offline == 0 {
		p.Timing.Offline = offlineOSDP
	}
	if p.Unasked() && p.Timing.Poll == 0 {
		p.Timing.Poll = p.Timing.Offline / 3 // nobody asks; how fresh a value is follows from it
	}
	for i := range p.Fingerprint {
		m := &p.Fingerprint[i]
		if m.Type == "" {
			m.Type = defaultType(p.Driver, m.Space)
		}
		if m.Order == "" {
			m.Order = "HL"
		}
	}
	for i := range p.Points {
		p.Points[i].fill(p.Driver)
	}
}

// fill puts in the defaults of a point. One whose place only the site knows
// gets its type with it.
func (p *Point) fill(driver string) {
	if p.Type == "" && !p.Open() {
		p.Type = defaultType(driver, p.Space)
	}
	if p.Order == "" {
		p.Order = "HL"
	}
	if p.Scale == 0 {
		p.Scale = 1
	}
	for _, l := range []**Lookup{&p.Decimals, &p.UnitFrom} {
		if *l != nil && (*l).Space == "" {
			own := **l // it may be a variant's, which others share
			own.Space = p.Space
			*l = &own
		}
	}
}

// defaultType is the type of a value that states none.
func defaultType(driver, space string) string {
	switch {
	case !wayOf(driver).registers:
		return "" // each is stated, or the space says it all
	case space == "coil" || space == "discrete":
		return "bit"
	}
	return "u16"
}

// Open reports whether the profile leaves it to the site where the point stands.
func (p Point) Open() bool { return p.Space == "" }

// Unasked reports whether the device talks by itself: nobody asks it, and it
// owns its link.
func (p Profile) Unasked() bool {
	return p.Driver == "lineframe" && p.Frame != nil && len(p.Frame.Request) == 0
}

// Addresses is the range of addresses that can be set on a device of this
// kind; ok is false if it has none.
func (p Profile) Addresses() (first, last int, ok bool) {
	s := wayOf(p.Driver).addresses
	return int(s.first), int(s.last), s != span{}
}

// SlowestPoll is how seldom a device of this kind may be asked before it gives up
// what was agreed with it; 0 if it does not care.
func (p Profile) SlowestPoll() time.Duration { return wayOf(p.Driver).slowest }

// expand writes rows of points out.
func (p *Profile) expand() {
	var out []Point
	for _, pt := range p.Points {
		if pt.Count == 0 {
			out = append(out, pt)
			continue
		}
		width := wayOf(p.Driver).width(&pt)
		for n := range pt.Count {
			out = append(out, pt.nth(n, n*width))
		}
	}
	p.Points = out
}

// nth is one point of a row, some addresses on.
func (p Point) nth(n, on int) Point {
	number := strconv.Itoa(n + 1)
	p.Count = 0
	p.Name += number
	p.Names = Bilingual{ZH: p.Names.ZH + number, EN: p.Names.EN + " " + number}
	p.Address += uint32(on)
	if p.Write != nil {
		w := *p.Write
		w.Address += uint16(on)
		if w.PulseAddress != nil {
			at := *w.PulseAddress + uint16(on)
			w.PulseAddress = &at
		}
		p.Write = &w
	}
	return p
}

// With returns the profile as the named variant has it; "" is the model as it is.
func (p Profile) With(variant string) (Profile, error) {
	if variant == "" {
		return p, nil
	}
	v, ok := p.Variants[variant]
	if !ok {
		return Profile{}, fmt.Errorf("profile %s has no variant %q", p.Model, variant)
	}
	points := make([]Point, len(p.Points))
	for i, pt := range p.Points {
		points[i] = v.Points[pt.Name].apply(p.Driver, pt)
	}
	p.Points = points
	return p, nil
}

// apply returns the point as the patch has it.
func (c Patch) apply(driver string, p Point) Point {
	p.move(driver, deref(c.Space), deref(c.Type))
	replace(&p.Address, c.Address)
	replace(&p.Unit, c.Unit)
	replace(&p.Order, c.Order)
	replace(&p.Scale, c.Scale)
	keep(&p.Min, c.Min)
	keep(&p.Max, c.Max)
	keep(&p.MaxStep, c.MaxStep)
	keep(&p.Active, c.Active)
	keep(&p.Inactive, c.Inactive)
	keep(&p.UnitFrom, c.UnitFrom)
	p.fill(driver)
	return p
}

// apply returns the point where the register says it stands.
func (r Register) apply(driver string, p Point) Point {
	p.move(driver, r.Space, r.Type)
	replace(&p.Address, r.Address)
	p.Order = or(r.Order, p.Order)
	replace(&p.Swap, r.Swap)
	replace(&p.Bits, r.Bits)
	p.Unit = or(r.Unit, p.Unit)
	replace(&p.Scale, r.Scale)
	replace(&p.Offset, r.Offset)
	keep(&p.Active, r.Active)
	keep(&p.Inactive, r.Inactive)
	keep(&p.Min, r.Min)
	keep(&p.Max, r.Max)
	keep(&p.MaxStep, r.MaxStep)
	if r.Sentinels != nil {
		p.Sentinels = r.Sentinels
	}
	p.fill(driver)
	return p
}

// move puts a point into another space. A type that it did not state follows,
// and so do the codes beside it.
func (p *Point) move(driver, space, kind string) {
	for _, l := range []**Lookup{&p.Decimals, &p.UnitFrom} {
		if *l != nil && space != "" && (*l).Space == p.Space {
			own := **l
			own.Space = space
			*l = &own
		}
	}
	if p.Type == defaultType(driver, p.Space) && space != "" {
		p.Type = ""
	}
	p.Space, p.Type = or(space, p.Space), or(kind, p.Type)
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func deref[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

// replace sets a field to what was stated, if it was.
func replace[T any](field *T, stated *T) {
	if stated != nil {
		*field = *stated
	}
}

// keep sets an optional field to what was stated, if it was.
func keep[T any](field **T, stated *T) {
	if stated != nil {
		*field = stated
	}
}
