package profiles

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

// The closed lists of the schema; those of the drivers are in ways.
var (
	orders  = []string{"HL", "LH"}
	classes = []string{"normal", "warmup", "fault", "alarm"}
	grades  = []string{"A", "B", "C"}
	bauds   = []int{1200, 2400, 4800, 9600, 14400, 19200, 38400, 57600, 115200}
	parity  = []string{"none", "even", "odd"}
)

// Bounds of time.
const (
	shortestPoll = 10 * time.Millisecond
	pulseStep    = 100 * time.Millisecond // in which modules time a pulse
	longestWake  = 64                     // bytes

	// A line is not polled during a command: one pause must not look like a hung
	// bus, and all together must not make a device look lost.
	longestPause  = 2 * time.Second
	longestPauses = 2 * time.Second

	shortestTimeout = 10 * time.Millisecond
	longestTimeout  = 30 * time.Second
	longestGap      = time.Second
)

// checker adds to a Doc what is wrong in meaning.
type checker struct {
	*strict.Doc
	p     *Profile
	way   way
	names map[string]bool // of expanded points
	sound map[string]bool // points of which nothing is wrong so far
	// stated drops findings on keys that the file does not have: they are echoes
	// of what was found where it stands.
	stated bool
}

// Fail records a finding, as strict.Doc has it.
func (c checker) Fail(key, hint, what string, args ...any) {
	if !c.stated || c.Has(key) {
		c.Doc.Fail(key, hint, what, args...)
	}
}

func (p *Profile) check(d *strict.Doc, fileName string) {
	c := checker{Doc: d, p: p, way: wayOf(p.Driver), names: make(map[string]bool), sound: make(map[string]bool)}
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
	oneOf(c, "driver", p.Driver, driverNames())
	c.link()
	c.timing()
	c.probes()
	c.fingerprint()
	c.frame()
	c.states("states", p.States)
	c.points()
	c.references()
	c.commands()
	c.variants()
}

func oneOf(c checker, key, value string, list []string) {
	if value == "" {
		c.Fail(key, strict.OneOf("", list), "is missing")
	} else if !slices.Contains(list, value) {
		c.Fail(key, strict.OneOf(value, list), "unknown value %q", value)
	}
}

func (c checker) link() {
	l := c.p.Link
	c.line("link", l.Baud, l.Parity, l.Stop)
	switch own := c.way.addresses; {
	case own == span{}:
		if c.Has("link.address") {
			c.Fail("link.address", "remove it", "a device of driver %s has none", c.way.name)
		}
	case !c.Has("link.address") || !own.has(int64(l.Address)) || !own.has(int64(l.Address)+int64(l.Addresses)-1):
		c.Fail("link.address", fmt.Sprintf("use the factory address, %d to %d", own.first, own.last), "%d is no device address", l.Address)
	}
	if !c.way.registers && l.Addresses > 1 {
		c.Fail("link.addresses", "remove it", "a device of driver %s has one at most", c.way.name)
	}
	switch {
	case !c.way.registers && c.p.Hole != 0:
		c.Fail("hole", "remove it", "driver %s reads no rows of addresses", c.way.name)
	case c.p.Hole < 0 || c.p.Hole > 120:
		c.Fail("hole", "use 0 to 120", "%d addresses cannot be read over", c.p.Hole)
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

func (c checker) timing() {
	t := c.p.Timing
	if t.Poll < shortestPoll && !(c.p.Unasked() && !c.Has("timing.poll")) {
		c.Fail("timing.poll", fmt.Sprintf("give a period of %v or more", shortestPoll), "is missing or too short")
	}
	if slowest := c.way.slowest; slowest > 0 && t.Poll > slowest {
		c.Fail("timing.poll", fmt.Sprintf("use %v or less", slowest), "%v of silence end the session", t.Poll)
	}
	if t.Timeout != 0 && (t.Timeout < shortestTimeout || t.Timeout > longestTimeout) {
		c.Fail("timing.timeout", fmt.Sprintf("use %v to %v", shortestTimeout, longestTimeout), "%v is out of range", t.Timeout)
	}
	if t.Gap < 0 || t.Gap > longestGap {
		c.Fail("timing.gap", fmt.Sprintf("use 0s to %v", longestGap), "%v is out of range", t.Gap)
	}
	switch {
	case t.Offline == 0 && c.p.Unasked():
		c.Fail("timing.offline", "say how long it may be silent before something is wrong", "is missing: the device talks unasked")
	case c.Has("timing.offline") && t.Offline <= t.Poll:
		c.Fail("timing.offline", "give more than one poll, best three", "%v is not longer than the poll", t.Offline)
	}
	w := t.Wake
	switch {
	case w == nil:
	case c.way.name == "osdp" || c.p.Unasked():
		c.Fail("timing.wake", "remove it", "nothing wakes such a device")
	case len(w.Bytes) == 0 || len(w.Bytes) > longestWake:
		c.Fail("timing.wake.bytes", fmt.Sprintf("write 1 to %d bytes, as in FE FE", longestWake), "%d bytes wake nothing", len(w.Bytes))
	case w.Pause < 0 || w.Pause > time.Second:
		c.Fail("timing.wake.pause", "use 0s to 1s", "%v is out of range", w.Pause)
	}
}

// probes checks them: of a driver that reads no registers only the line counts,
// its own question finds the device.
func (c checker) probes() {
	for i, pr := range c.p.Probes {
		key := fmt.Sprintf("probes[%d]", i)
		c.line(key, pr.Baud, pr.Parity, pr.Stop)
		if !c.way.registers {
			for _, part := range []string{".space", ".address", ".count"} {
				if c.Has(key + part) {
					c.Fail(key+part, "remove it", "driver %s has a question of its own", c.way.name)
				}
			}
			continue
		}
		oneOf(c, key+".space", pr.Space, c.way.spaces)
		if pr.Count < 1 || pr.Count > 125 || int(pr.Address)+pr.Count > 1<<16 {
			c.Fail(key+".count", "read 1 to 125 registers", "%d cannot be read at once", pr.Count)
		}
	}
}

func (c checker) fingerprint() {
	if len(c.p.Fingerprint) > 0 && !c.way.registers {
		c.Fail("fingerprint", "remove it", "driver %s tells its devices by its own question", c.way.name)
		return
	}
	for i, m := range c.p.Fingerprint {
		key := fmt.Sprintf("fingerprint[%d]", i)
		oneOf(c, key+".space", m.Space, c.way.spaces)
		oneOf(c, key+".type", m.Type, c.way.types)
		oneOf(c, key+".order", m.Order, orders)
		f := forms[m.Type]
		c.bitInBitSpace(key, m.Space, m.Type)
		if end := int(m.Address) + max(f.size/2, 1); end > 1<<16 {
			c.Fail(key+".address", "addresses are zero-based, 0 to 65535", "ends at %d", end-1)
		}
		switch {
		case len(m.Equals) == 0 && m.Min == nil && m.Max == nil:
			c.Fail(key, "give equals, min or max", "any answer would fit")
		case len(m.Equals) > 0 && (m.Min != nil || m.Max != nil):
			c.Fail(key+".equals", "keep it, or min and max", "goes with no range")
		case len(m.Equals) > 0 && f.class == 'f':
			c.Fail(key+".equals", "use min and max", "a float equals nothing")
		case m.Min != nil && m.Max != nil && *m.Min > *m.Max:
			c.Fail(key+".min", "swap them", "min is above max")
		}
		for _, code := range m.Equals {
			if like := (Point{Type: m.Type}); !like.holds(code) {
				c.Fail(key+".equals", "use the raw value", "%#x does not fit %s", code, m.Type)
			}
		}
	}
}

func (c checker) points() {
	if len(c.p.Points) == 0 {
		c.Fail("points", "a profile without points measures nothing", "is missing")
	}
	for i := range c.p.Points {
		before := len(c.Problems())
		p := &c.p.Points[i]
		c.point(fmt.Sprintf("points[%d]", i), p)
		c.sound[p.Name] = len(c.Problems()) == before
	}
}

// references checks the names by which parts of the profile call each other.
func (c checker) references() {
	at := func(i int) string { return fmt.Sprintf("points[%d]", i) }
	for i, p := range c.p.Points {
		key := at(i)
		if p.States != "" && c.p.States[p.States] == nil {
			c.Fail(key+".states", "add it under states", "there is no table %q", p.States)
		}
		c.table(key, c.p.States[p.States], &p)
		if p.StatusOf == "" {
			continue
		}
		i := slices.IndexFunc(c.p.Points, func(o Point) bool { return o.Name == p.StatusOf && o.Count == 0 })
		if i < 0 || c.p.Points[i].Kind() != point.State {
			c.Fail(key+".status_of", "name a point of role detector_state or state", "%q is no state point", p.StatusOf)
		}
	}
	c.together(at)
}

// sizeOfData is how many bytes a value behind a data id can have.
var sizeOfData = span{1, 8}

// together checks what points of one device must agree on: of a DL/T 645 meter
// one data id is read once, for all that stands in it. Key says where a point
// was given its place; "" is not looked at.
func (c checker) together(key func(point int) string) {
	if c.way.name != "dlt645" {
		return
	}
	for i := range c.p.Points {
		p := &c.p.Points[i]
		if key(i) == "" || p.Open() || !sizeOfData.has(int64(p.Size)) {
			continue
		}
		for j := range c.p.Points {
			o := &c.p.Points[j]
			switch {
			case i == j || o.Open() || !sizeOfData.has(int64(o.Size)):
				continue
			case o.Address == p.Address && o.Size != p.Size:
				c.Fail(key(i)+".address", "give both the whole of the data, and pick by bits", "has %d bytes, but point %s has %d of the same data", p.Size, o.Name, o.Size)
			case (o.Name == p.StatusOf || o.StatusOf == p.Name) && o.Address != p.Address:
				c.Fail(key(i)+".address", "let a value and its state stand in one data id", "point %s stands in other data", o.Name)
			default:
				continue
			}
			break // one is enough
		}
	}
}

func (c checker) commands() {
	if len(c.p.Commands) > 0 && !c.way.registers {
		c.Fail("commands", "remove it", "driver %s takes no written orders", c.way.name)
		return
	}
	for name, cmd := range c.p.Commands {
		key := "commands." + name
		if !point.ValidName(name) {
			c.Fail(key, "use letters, digits, '_', '.' and '-'", "%q cannot name a command", name)
		}
		c.bilingual(key, cmd.Names)
		if len(cmd.Steps) == 0 {
			c.Fail(key+".steps", "list what is written: [{space: holding, address: …, value: …}]", "is missing")
		}
		var pauses time.Duration
		for i, s := range cmd.Steps {
			pauses += max(s.Pause, 0)
			at := fmt.Sprintf("%s.steps[%d]", key, i)
			oneOf(c, at+".space", s.Space, []string{"coil", "holding"})
			for _, part := range []string{".address", ".value"} {
				if !c.Has(at + part) {
					c.Fail(at+part, "write it, a 0 too", "is missing")
				}
			}
			if s.Space == "coil" && s.Multiple && !isBit(s.Value) {
				c.Fail(at+".value", "use 0 or 1", "%#x is no bit, as function 15 carries it", s.Value)
			}
			if s.Pause < 0 || s.Pause > longestPause {
				c.Fail(at+".pause", fmt.Sprintf("use 0s to %v", longestPause), "%v is out of range", s.Pause)
			}
		}
		if pauses > longestPauses {
			c.Fail(key+".steps", fmt.Sprintf("use %v or less in all", longestPauses), "the line is not polled for %v", pauses)
		}
	}
}

func (c checker) bilingual(key string, names Bilingual) {
	if names.ZH == "" || names.EN == "" {
		c.Fail(key+".names", "write names: {zh: …, en: …}", "is missing or half")
	}
}

func (c checker) variants() {
	for name, v := range c.p.Variants {
		key := "variants." + name
		if !point.ValidName(name) {
			c.Fail(key, "use letters, digits, '_', '.' and '-'", "%q cannot name a variant", name)
		}
		c.bilingual(key, v.Names)
		for pointName, patch := range v.Points {
			at := key + ".points." + pointName
			i := slices.IndexFunc(c.p.Points, func(p Point) bool { return p.Name == pointName && p.Count == 0 })
			if i < 0 {
				c.Fail(at, "name a point of this profile", "there is no point %q", pointName)
				continue
			}
			if patch.Scale != nil && *patch.Scale == 0 { // before the default hides it
				c.Fail(at+".scale", scaleHint, "is zero")
			}
			p := patch.apply(c.p.Driver, c.p.Points[i])
			patched := c
			patched.stated = !c.sound[pointName]
			patched.value(at, &p)
			patched.table(at, c.p.States[p.States], &p)
		}
		c.variantTogether(key, v)
	}
}

// variantTogether checks what the points agree on as a variant has them.
func (c checker) variantTogether(key string, v Variation) {
	whole := *c.p
	whole.Points = slices.Clone(whole.Points)
	for i, p := range whole.Points {
		whole.Points[i] = v.Points[p.Name].apply(whole.Driver, p)
	}
	c.p, c.stated = &whole, true
	c.together(func(i int) string { return key + ".points." + whole.Points[i].Name })
}

// RoleNames lists the published roles in order.
func RoleNames() []point.Role {
	return slices.Sorted(maps.Keys(point.Roles))
}
