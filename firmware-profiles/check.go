package profiles

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

// The closed lists of the schema.
var (
	// widths is how many addresses a value of each type takes.
	widths  = map[string]int{"bit": 1, "u16": 1, "s16": 1, "u32": 2, "s32": 2, "f32": 2, "u64": 4, "s64": 4, "f64": 4}
	types   = []string{"u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "bit"}
	spaces  = []string{"coil", "discrete", "holding", "input"}
	orders  = []string{"HL", "LH"}
	classes = []string{"normal", "warmup", "fault", "alarm"}
	grades  = []string{"A", "B", "C"}
	drivers = []string{"modbus"}
	bauds   = []int{1200, 2400, 4800, 9600, 14400, 19200, 38400, 57600, 115200}
	parity  = []string{"none", "even", "odd"}
)

// pulseStep is the unit in which modules time a pulse.
const pulseStep = 100 * time.Millisecond

// checker adds to a Doc what is wrong in meaning.
type checker struct {
	*strict.Doc
	p     *Profile
	names map[string]bool // of expanded points
}

func (p *Profile) check(d *strict.Doc, fileName string) {
	c := checker{Doc: d, p: p, names: make(map[string]bool)}
	if p.Model != fileName {
		c.Fail("model", "name the file after the model", "is %q, but the file is named %q", p.Model, fileName)
	}
	for _, f := range []struct{ key, value string }{
		{"maker", p.Maker}, {"names.zh", p.Names.ZH}, {"names.en", p.Names.EN}, {"source", p.Source},
	} {
		if f.value == "" {
			c.Fail(f.key, "write it", "is missing")
		}
	}
	oneOf(c, "grade", p.Grade, grades)
	oneOf(c, "driver", p.Driver, drivers)
	c.line("link", p.Link.Baud, p.Link.Parity, p.Link.Stop)
	if a := p.Link.Address; a < 1 || a+p.Link.Addresses-1 > 247 {
		c.Fail("link.address", "use the factory address, 1 to 247", "%d is no device address", a)
	}
	if p.Timing.Poll < pulseStep {
		c.Fail("timing.poll", "give a period of 100ms or more", "is missing or too short")
	}
	if p.Timing.Timeout < 0 || p.Timing.Gap < 0 {
		c.Fail("timing", "use positive durations", "is negative")
	}
	if p.Hole < 0 || p.Hole > 120 {
		c.Fail("hole", "use 0 to 120", "%d addresses cannot be read over", p.Hole)
	}
	for i, pr := range p.Probes {
		key := fmt.Sprintf("probes[%d]", i)
		c.line(key, pr.Baud, pr.Parity, pr.Stop)
		oneOf(c, key+".space", pr.Space, spaces)
		if pr.Count < 1 || pr.Count > 125 || int(pr.Address)+pr.Count > 1<<16 {
			c.Fail(key+".count", "read 1 to 125 registers", "%d cannot be read at once", pr.Count)
		}
	}
	c.states()
	if len(p.Points) == 0 {
		c.Fail("points", "a profile without points measures nothing", "is missing")
	}
	for i := range p.Points {
		c.point(fmt.Sprintf("points[%d]", i), &p.Points[i])
	}
	c.references()
	c.variants()
}

func oneOf(c checker, key, value string, list []string) {
	if value == "" {
		c.Fail(key, strict.OneOf("", list), "is missing")
	} else if !slices.Contains(list, value) {
		c.Fail(key, strict.OneOf(value, list), "unknown value %q", value)
	}
}

func (c checker) line(key string, baud int, par string, stop int) {
	if !slices.Contains(bauds, baud) {
		c.Fail(key+".baud", fmt.Sprintf("one of: %d", bauds), "%d is no usual speed", baud)
	}
	oneOf(c, key+".parity", par, parity)
	if stop != 1 && stop != 2 {
		c.Fail(key+".stop", "1 or 2", "%d is no number of stop bits", stop)
	}
}

func (c checker) states() {
	for table, set := range c.p.States {
		seen := make(map[string]bool)
		for _, code := range slices.Sorted(maps.Keys(set)) {
			s := set[code]
			key := fmt.Sprintf("states.%s.%d", table, code)
			if !point.ValidName(s.Name) || seen[s.Name] {
				c.Fail(key+".name", "use a name of its own, of letters, digits and '_'", "%q cannot name a state", s.Name)
			}
			seen[s.Name] = true
			oneOf(c, key+".class", s.Class, classes)
		}
	}
}

func (c checker) point(key string, p *Point) {
	if !point.ValidName(p.Name) {
		c.Fail(key+".name", "use letters, digits, '_', '.' and '-'", "%q cannot name a point", p.Name)
	}
	if p.Names.ZH == "" || p.Names.EN == "" {
		c.Fail(key+".names", "write names: {zh: …, en: …}", "is missing or half")
	}
	c.meaning(key, p)
	oneOf(c, key+".space", p.Space, spaces)
	oneOf(c, key+".type", p.Type, types)
	oneOf(c, key+".order", p.Order, orders)
	bitSpace := p.Space == "coil" || p.Space == "discrete"
	if slices.Contains(spaces, p.Space) && (p.Type == "bit") != bitSpace {
		c.Fail(key+".type", "leave it out, or pick a bit of a register with bits", "type %s does not stand in %s", p.Type, p.Space)
	}
	if p.Count < 0 || p.Count > 512 {
		c.Fail(key+".count", "use 1 to 512", "%d is no number of points", p.Count)
		return
	}
	if end := int(p.Address) + max(p.Count, 1)*widths[p.Type]; end > 1<<16 {
		c.Fail(key+".address", "addresses are zero-based, 0 to 65535", "ends at %d", end-1)
	}
	if p.UnitPlus < 0 || p.UnitPlus >= c.p.Link.Addresses {
		c.Fail(key+".unit_plus", "raise link.addresses to the number of addresses the device takes", "%d lies outside the device", p.UnitPlus)
	}
	for n := range max(p.Count, 1) {
		name := p.Name
		if p.Count > 0 {
			name += fmt.Sprint(n + 1)
		}
		if c.names[name] {
			c.Fail(key+".name", "give each point its own name", "the name %q is taken", name)
			break
		}
		c.names[name] = true
	}
	c.number(key, p)
	c.write(key, p)
}

// meaning checks role and unit.
func (c checker) meaning(key string, p *Point) {
	info, known := point.Roles[p.Role]
	switch {
	case p.Role == "":
		c.Fail(key+".role", "see the published list of roles", "is missing")
		return
	case !known:
		c.Fail(key+".role", strict.OneOf(p.Role, RoleNames()), "unknown role %q", p.Role)
		return
	}
	c.unit(key, p.Unit, p.Role)
	if (p.States != "") != (info.Kind == point.State) {
		c.Fail(key+".states", "state points name a table of states, others do not", "does not go with role %s", p.Role)
	}
	if info.Output != (p.Write != nil) {
		c.Fail(key+".write", "output roles have write, others do not", "does not go with role %s", p.Role)
	}
	if p.Invert && info.Kind != point.Bool {
		c.Fail(key+".invert", "only contacts have a sense", "does not go with role %s", p.Role)
	}
}

func (c checker) unit(key string, unit point.Unit, role point.Role) {
	units := point.Roles[role].Units
	switch {
	case !point.KnownUnit(unit):
		c.Fail(key+".unit", strict.OneOf(unit, point.Units), "unknown unit %q", unit)
	case units == nil && unit != point.NoUnit:
		c.Fail(key+".unit", "remove it", "role %s has no unit", role)
	case units != nil && !slices.Contains(units, unit):
		c.Fail(key+".unit", strict.OneOf("", units), "unit %q does not fit role %s", unit, role)
	}
}

// number checks what turns raw bits into a value.
func (c checker) number(key string, p *Point) {
	float := strings.HasPrefix(p.Type, "f")
	if size := 16 * widths[p.Type]; p.Bits != 0 && (p.Type[0] != 'u' || size < 64 && p.Bits>>size != 0) {
		c.Fail(key+".bits", "pick bits of an unsigned type that is wide enough", "%#x does not fit %s", p.Bits, p.Type)
	}
	if float && p.Kind() != point.Number {
		c.Fail(key+".type", "use a whole number", "a %s is no contact and no state", p.Type)
	}
	if float && len(p.Sentinels) > 0 {
		c.Fail(key+".sentinels", "use min and max", "a float has none")
	}
	if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
		c.Fail(key+".min", "swap them", "min is above max")
	}
	for _, l := range []struct {
		key string
		l   *Lookup
	}{{key + ".decimals", p.Decimals}, {key + ".unit_from", p.UnitFrom}} {
		c.lookup(l.key, l.l, p)
	}
	if p.Decimals != nil {
		for code, n := range p.Decimals.Map {
			if n != math.Trunc(n) || n < 0 || n > 9 {
				c.Fail(fmt.Sprintf("%s.decimals.map.%d", key, code), "use 0 to 9", "%v is no number of decimals", n)
			}
		}
	}
}

func (c checker) lookup(key string, l *Lookup, p *Point) {
	if l == nil {
		return
	}
	if l.Space != "holding" && l.Space != "input" {
		c.Fail(key+".space", "holding or input", "a code stands in a register, not in a %q", l.Space)
	}
	if l.Bits > math.MaxUint16 {
		c.Fail(key+".bits", "pick bits of 16", "%#x is wider than a register", l.Bits)
	}
	if p.Kind() != point.Number {
		c.Fail(key, "remove it", "does not go with role %s", p.Role)
	}
	for code, factor := range l.Map {
		if factor < 0 {
			c.Fail(fmt.Sprintf("%s.map.%d", key, code), "use a positive number", "%v is negative", factor)
		}
	}
}

func (c checker) write(key string, p *Point) {
	w := p.Write
	if w == nil {
		return
	}
	key += ".write"
	if p.Space != "coil" {
		c.Fail(key, "outputs are coils", "nothing can be written to a %s", p.Space)
	}
	if (w.PulseAddress != nil) != (w.PulseMax > 0) || w.PulseMax%pulseStep != 0 {
		c.Fail(key+".pulse_max", "give pulse_address and pulse_max together, in steps of 100ms", "does not describe a pulse")
	}
}

// references checks the names by which parts of the profile call each other.
func (c checker) references() {
	for i, p := range c.p.Points {
		key := fmt.Sprintf("points[%d]", i)
		if p.States != "" && c.p.States[p.States] == nil {
			c.Fail(key+".states", "add it under states", "there is no table %q", p.States)
		}
		if p.StatusOf == "" {
			continue
		}
		i := slices.IndexFunc(c.p.Points, func(o Point) bool { return o.Name == p.StatusOf && o.Count == 0 })
		if i < 0 || c.p.Points[i].Kind() != point.State {
			c.Fail(key+".status_of", "name a point of role detector_state or state", "%q is no state point", p.StatusOf)
		}
	}
}

func (c checker) variants() {
	for name, v := range c.p.Variants {
		key := "variants." + name
		if !point.ValidName(name) {
			c.Fail(key, "use letters, digits, '_', '.' and '-'", "%q cannot name a variant", name)
		}
		if v.Names.ZH == "" || v.Names.EN == "" {
			c.Fail(key+".names", "write names: {zh: …, en: …}", "is missing or half")
		}
		for pointName, patch := range v.Points {
			at := key + ".points." + pointName
			i := slices.IndexFunc(c.p.Points, func(p Point) bool { return p.Name == pointName && p.Count == 0 })
			if i < 0 {
				c.Fail(at, "name a point of this profile", "there is no point %q", pointName)
				continue
			}
			p := patch.apply(c.p.Points[i])
			if patch.Unit != nil {
				c.unit(at, p.Unit, p.Role)
			}
			if patch.UnitFrom != nil {
				c.lookup(at+".unit_from", patch.UnitFrom, &p)
			}
			oneOf(c, at+".order", p.Order, orders)
			if p.Scale == 0 {
				c.Fail(at+".scale", "use the factor to the unit", "is zero")
			}
		}
	}
}

// RoleNames lists the published roles in order.
func RoleNames() []point.Role {
	names := make([]point.Role, 0, len(point.Roles))
	for r := range point.Roles {
		names = append(names, r)
	}
	slices.Sort(names)
	return names
}
