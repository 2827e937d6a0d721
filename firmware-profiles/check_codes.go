package profiles

import (
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"

	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

func (c checker) states(key string, tables map[string]StateSet) {
	for table, set := range tables {
		c.stateSet(key+"."+table, set)
	}
}

func (c checker) stateSet(at string, set StateSet) {
	seen := make(map[string]bool)
	for _, code := range slices.Sorted(maps.Keys(set)) {
		s := set[code]
		key := fmt.Sprintf("%s.%d", at, code)
		if !point.ValidName(s.Name) || seen[s.Name] {
			c.Fail(key+".name", "use a name of its own, of letters, digits and '_'", "%q cannot name a state", s.Name)
		}
		seen[s.Name] = true
		oneOf(c, key+".class", s.Class, classes)
	}
}

// table checks the states of a point against the codes that it can have.
func (c checker) table(key string, set StateSet, p *Point) {
	normal := false
	for _, code := range slices.Sorted(maps.Keys(set)) {
		if p.Type != "" && !p.holds(code) {
			c.Fail(key+".states", "use the raw value, after bits", "code %#x never occurs in %s", code, p.Type)
		}
		normal = normal || set[code].Class == "normal"
	}
	if len(set) > 0 && !normal && p.Role == "detector_state" {
		c.Fail(key+".states", "name the code of a detector that is well: class: normal", "has none: the detector would never be believed")
	}
	if p.Space != "secure" || c.way.name != "osdp" || len(set) == 0 {
		return
	}
	for code := range uint64(lastSecure + 1) {
		if _, named := set[code]; !named {
			c.Fail(key+".states", fmt.Sprintf("name all, 0 to %d", lastSecure), "code %d of the secure channel is missing", code)
			break
		}
	}
}

// lastSecure is the last state of a door reader's secure channel.
const lastSecure = 5

// zeroScales refuses what a default would hide.
func (p *Profile) zeroScales(d *strict.Doc) {
	for i := range p.Points {
		if key := fmt.Sprintf("points[%d].scale", i); p.Points[i].Scale == 0 && d.Has(key) {
			d.Fail(key, scaleHint, "is zero")
		}
	}
}

const scaleHint = "use the factor from the raw value to the unit"

// codes checks the raw values that mean something of their own.
func (c checker) codes(key string, p *Point) {
	switch {
	case p.Active == nil && p.Inactive == nil:
	case p.Kind() != point.Bool:
		c.Fail(key+".active", "remove it: a state point names its codes under states", "only contacts are active or not")
	case p.Active == nil:
		c.Fail(key+".inactive", "give active too", "does not say what is active")
	case p.Type == "bit":
		c.Fail(key+".active", "use invert", "a bit has two codes")
	case p.Write != nil && c.way.name == "osdp":
		c.Fail(key+".active", "remove it", "an output is told, not read")
	case p.Inactive == nil && point.Roles[p.Role].Safety:
		c.Fail(key+".active", "give inactive too: then any third code is a fault", "alone makes every other code look safe")
	case p.Inactive != nil && *p.Active == *p.Inactive:
		c.Fail(key+".inactive", "give the two codes", "%d is both", *p.Active)
	}
	for _, code := range []struct {
		key   string
		value *uint64
	}{{".active", p.Active}, {".inactive", p.Inactive}} {
		if code.value != nil && p.Type != "" && !p.holds(*code.value) {
			c.Fail(key+code.key, "use the raw value, after bits", "%#x never occurs", *code.value)
		}
	}
	for _, s := range p.Sentinels {
		if p.Type != "" && !p.holds(s) {
			c.Fail(key+".sentinels", "use the raw value, after bits", "%#x never occurs", s)
		}
	}
}

// holds reports whether a raw code can occur in the point.
func (p *Point) holds(code uint64) bool {
	width := p.rawWidth()
	return width == 0 || width >= 64 || code>>width == 0
}

// rawWidth is how many bits a code of the point has, after bits; 0 if the type
// does not say.
func (p *Point) rawWidth() int {
	if p.Bits != 0 {
		return bits.OnesCount64(p.Bits)
	}
	width, _ := p.width()
	return width
}

// width is how many bits the raw value has, 0 if the type does not say, and
// whether some of them can be picked. Digits count as they are sent.
func (p *Point) width() (width int, unsigned bool) {
	switch f := forms[p.Type]; p.Type {
	case "bit":
		return 1, false
	case "bcd", "sbcd":
		return 8 * p.Size, true
	case "hex":
		return 4 * p.Size, true
	default:
		return 8 * f.size, f.class == 'u'
	}
}

// number checks what turns raw bits into a value.
func (c checker) number(key string, p *Point) {
	f, isNumber := forms[p.Type], p.Kind() == point.Number
	if isNumber && p.Scale <= 0 && point.Roles[p.Role].Safety {
		c.Fail(key+".scale", "use a positive factor", "%v would turn danger into calm", p.Scale)
	}
	if !isNumber && c.way.name != "osdp" && (p.Min != nil || p.Max != nil) && p.Role != "" {
		bound := ".min"
		if p.Min == nil {
			bound = ".max"
		}
		c.Fail(key+bound, "remove min and max", "only a number has a range")
	}
	width, unsigned := p.width()
	if p.Bits != 0 && p.Type != "" && (!unsigned || width < 64 && p.Bits>>width != 0) {
		c.Fail(key+".bits", "pick bits of an unsigned type that is wide enough", "%#x does not fit %s", p.Bits, p.Type)
	}
	if f.class == 'f' && len(p.Sentinels) > 0 {
		c.Fail(key+".sentinels", "use min and max", "a float has none")
	}
	if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
		c.Fail(key+".min", "swap them", "min is above max")
	}
	if p.MaxStep != nil && c.p.Unasked() {
		c.Fail(key+".max_step", "remove it", "a device that talks unasked cannot be asked again")
	}
	if p.MaxStep != nil && (*p.MaxStep <= 0 || p.Kind() != point.Number) {
		c.Fail(key+".max_step", "give a positive step of a number, or remove it", "%v is no step", *p.MaxStep)
	}
}

func (c checker) lookups(key string, p *Point) {
	c.lookup(key+".decimals", p.Decimals, p)
	c.lookup(key+".unit_from", p.UnitFrom, p)
	if p.UnitFrom != nil {
		for code, factor := range p.UnitFrom.Map {
			if factor == 0 {
				c.Fail(fmt.Sprintf("%s.unit_from.map.%d", key, code), "use the factor to the unit; a code that is not named is a fault", "is zero")
			}
		}
	}
	if p.Decimals == nil {
		return
	}
	for code, n := range p.Decimals.Map {
		if n != math.Trunc(n) || n < 0 || n > 9 {
			c.Fail(fmt.Sprintf("%s.decimals.map.%d", key, code), "use 0 to 9", "%v is no number of decimals", n)
		}
	}
}

func (c checker) lookup(key string, l *Lookup, p *Point) {
	if l == nil {
		return
	}
	if !c.way.registers {
		c.Fail(key, "remove it; give scale and unit", "no code stands beside a value of driver %s", c.way.name)
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
