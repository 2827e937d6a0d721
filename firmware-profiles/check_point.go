package profiles

import (
	"fmt"
	"math"
	"slices"

	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

func (c checker) point(key string, p *Point) {
	if !point.ValidName(p.Name) {
		c.Fail(key+".name", "use letters, digits, '_', '.' and '-'", "%q cannot name a point", p.Name)
	}
	c.bilingual(key, p.Names)
	c.role(key, p)
	if p.Count < 0 || p.Count > 512 {
		c.Fail(key+".count", "use 1 to 512", "%d is no number of points", p.Count)
		return
	}
	if p.Count > 0 && c.way.name == "dlt645" {
		c.Fail(key+".count", "write each point out", "data ids do not stand in rows")
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
	switch {
	case p.UnitPlus != 0 && !c.way.registers:
		c.Fail(key+".unit_plus", "remove it", "a device of driver %s has one address at most", c.way.name)
	case p.UnitPlus < 0 || p.UnitPlus >= c.p.Link.Addresses:
		c.Fail(key+".unit_plus", "raise link.addresses to the number of addresses the device takes", "%d lies outside the device", p.UnitPlus)
	}
	c.value(key, p)
}

// role checks that the point has what its role asks for.
func (c checker) role(key string, p *Point) {
	info, known := point.Roles[p.Role]
	switch {
	case p.Role == "":
		c.Fail(key+".role", "see the published list of roles", "is missing")
		return
	case !known:
		c.Fail(key+".role", strict.OneOf(p.Role, RoleNames()), "unknown role %q", p.Role)
		return
	}
	if (p.States != "") != (info.Kind == point.State) && !(c.open(p) && p.States == "") {
		c.Fail(key+".states", "state points name a table of states, others do not", "does not go with role %s", p.Role)
	}
	if info.Output != (p.Write != nil) {
		c.Fail(key+".write", "output roles have write, others do not", "does not go with role %s", p.Role)
	}
	if p.Invert && info.Kind != point.Bool {
		c.Fail(key+".invert", "only contacts have a sense", "does not go with role %s", p.Role)
	}
}

// open reports whether the place of a point may be missing: the site gives it.
func (c checker) open(p *Point) bool { return c.p.Confirm && p.Open() && p.Write == nil }

// value checks where a point stands and what its bytes mean.
func (c checker) value(key string, p *Point) {
	if _, known := point.Roles[p.Role]; known && !(c.open(p) && p.Unit == point.NoUnit) {
		c.unit(key, p.Unit, p.Role)
	}
	if c.open(p) {
		if p.Count > 0 {
			c.Fail(key+".count", "write each point out, so that the site can place it", "is a row without a place")
		}
		if p.Type != "" {
			oneOf(c, key+".type", p.Type, c.way.types)
		}
	} else {
		c.place(key, p)
	}
	oneOf(c, key+".order", p.Order, orders)
	c.kind(key, p)
	c.codes(key, p)
	c.number(key, p)
	c.lookups(key, p)
	c.write(key, p)
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

// place checks space, type, size and address.
func (c checker) place(key string, p *Point) {
	oneOf(c, key+".space", p.Space, c.way.spaces)
	switch {
	case c.way.types != nil:
		oneOf(c, key+".type", p.Type, c.way.types)
	case p.Type != "":
		c.Fail(key+".type", "remove it", "space %s says what the value is", p.Space)
	}
	c.bitInBitSpace(key, p.Space, p.Type)
	if p.Swap && (!c.way.registers || p.Space != "holding" && p.Space != "input") {
		c.Fail(key+".swap", "remove it", "only registers have two bytes to swap")
	}
	if c.way.name == "dlt645" && p.Order == "LH" {
		c.Fail(key+".order", "remove it", "the order of bytes is the protocol's")
	}
	c.size(key, p)
	end := int64(p.Address) + int64(max(p.Count, 1)*c.way.width(p)) - 1
	last := c.way.items.last
	if l, narrower := readerItems[p.Space]; c.way.name == "osdp" && narrower {
		last = l
	}
	if end > last {
		c.Fail(key+".address", fmt.Sprintf("addresses are zero-based, 0 to %d", last), "ends at %d", end)
	}
	if c.way.name == "lineframe" {
		c.inFrame(key, end)
	}
}

// inFrame checks that the longest frame has a value's last byte.
func (c checker) inFrame(key string, end int64) {
	f := c.p.Frame
	if f == nil {
		return
	}
	if longest := f.longest(); longest > 0 && longest <= maxFrame && end >= int64(longest) {
		c.Fail(key+".address", fmt.Sprintf("the frame has bytes 0 to %d", longest-1), "ends at byte %d", end)
	}
}

func (c checker) bitInBitSpace(key, space, kind string) {
	bitSpace := space == "coil" || space == "discrete"
	if c.way.registers && slices.Contains(c.way.spaces, space) && (kind == "bit") != bitSpace {
		c.Fail(key+".type", "leave it out, or pick a bit of a register with bits", "type %s does not stand in %s", kind, space)
	}
}

// size checks how many bytes a value of no fixed width takes.
func (c checker) size(key string, p *Point) {
	f, known := forms[p.Type]
	switch {
	case !known || !f.sized():
		if p.Size != 0 {
			c.Fail(key+".size", "remove it", "type %s has its own", p.Type)
		}
	case c.way.name == "dlt645":
		if !sizeOfData.has(int64(p.Size)) {
			c.Fail(key+".size", "use 1 to 8, as the data id's table has it", "%d bytes are no value", p.Size)
		}
	case p.Size < 0 || p.Size > maxFrame:
		c.Fail(key+".size", "use 1 to 256; 0 is up to the end of the frame", "%d bytes are no value", p.Size)
	case p.Count > 0 && p.Size == 0:
		c.Fail(key+".size", "give it", "a row needs it")
	case p.Type == "bcd" && (p.Size > 8 || p.Size == 0 && p.Kind() != point.Text):
		c.Fail(key+".size", "use 1 to 8", "%d bytes of digits are no number", p.Size)
	}
}

// kind checks that a value of that kind can stand where it does.
func (c checker) kind(key string, p *Point) {
	info, known := point.Roles[p.Role]
	if !known {
		return
	}
	f := forms[p.Type]
	switch {
	case c.way.name == "osdp":
		c.reader(key, p, info)
	case info.Kind == point.Text && c.way.name != "lineframe":
		c.Fail(key+".role", "cards are read by drivers osdp and lineframe", "does not go with driver %s", c.way.name)
	case info.Kind == point.Text:
		c.credential(key, p, f)
	case info.Kind != point.Text && p.Type == "text":
		c.Fail(key+".type", "use decimal or hex for digits", "a text is no number")
	case p.Type == "sbcd" && info.Kind != point.Number:
		c.Fail(key+".type", "use bcd", "only a number has a sign")
	case f.class == 'f' && info.Kind != point.Number:
		c.Fail(key+".type", "use a whole number", "a %s is no contact and no state", p.Type)
	}
}

// credential checks a card or a code that a line-frame device reads: an
// occurrence, and a secret.
func (c checker) credential(key string, p *Point, f form) {
	if !c.p.Unasked() {
		c.Fail(key+".role", "leave frame.request out, or use another role", "a card that is asked for would be read again with every answer")
	}
	switch {
	case p.Role == "keypad" && p.Type != "text" && p.Type != "decimal":
		c.Fail(key+".type", "use text or decimal", "a %s is no typed code", p.Type)
	case f.class == 's' || f.class == 'f':
		c.Fail(key+".type", "use text, hex, decimal, bcd, u8, u16 or u32", "a %s is no credential", p.Type)
	}
	if p.Bits != 0 || len(p.Sentinels) > 0 || p.StatusOf != "" {
		c.Fail(key, "remove bits, sentinels and status_of", "a credential is read whole")
	}
}

// readerItems is the highest number in the spaces of a door reader that have
// not 256 of a kind: it has one cover, and up to 256 lights at each of its readers.
var readerItems = map[string]int64{"tamper": 0, "power": 0, "secure": 0, "secure_lost": 0, "led": math.MaxUint16}

// reader checks what a door reader has in each space.
func (c checker) reader(key string, p *Point, info point.RoleInfo) {
	if p.Bits != 0 || p.Decimals != nil || p.UnitFrom != nil || p.StatusOf != "" || p.Sentinels != nil || p.Min != nil || p.Max != nil || p.MaxStep != nil {
		c.Fail(key, "remove bits, decimals, unit_from, status_of, sentinels, min, max and max_step", "a door reader sends no numbers")
	}
	if p.Order == "LH" && p.Space != "card" {
		c.Fail(key+".order", "remove it", "only a card's number has an order")
	}
	switch p.Space {
	case "card", "keypad":
		if p.Role != point.Role(p.Space) {
			c.Fail(key+".role", "use role "+p.Space, "space %s holds nothing else", p.Space)
		}
	case "output", "led", "buzzer":
		if p.Invert && p.Space != "output" {
			c.Fail(key+".invert", "swap on and off", "only a contact has a sense")
		}
		if !info.Output {
			c.Fail(key+".role", "use relay, siren, indicator or buzzer", "role %s is read, but a door reader's %s is commanded", p.Role, p.Space)
		}
	case "secure":
		if info.Kind != point.State {
			c.Fail(key+".role", "use role state", "role %s does not go with space secure", p.Role)
		}
	default:
		if info.Kind != point.Bool || info.Output {
			c.Fail(key+".role", "use the role of a contact", "role %s does not go with space %s", p.Role, p.Space)
		}
	}
}

func (c checker) write(key string, p *Point) {
	w := p.Write
	if w == nil {
		return
	}
	key += ".write"
	switch {
	case c.way.name == "osdp":
		if uint32(w.Address) != p.Address || w.PulseAddress != nil && uint32(*w.PulseAddress) != p.Address {
			c.Fail(key+".address", "write the point's own address", "a door reader's %s is commanded where it stands", p.Space)
		}
		c.told(key, p)
	case p.Space == "":
	case p.Space != "coil" && p.Space != "holding":
		c.Fail(key, "outputs are coils or holding registers", "nothing can be written to a %s", p.Space)
	case p.Space == "holding" && (w.On == nil || w.Off == nil):
		c.Fail(key, "give on and off", "does not say what is written to the register")
	case p.Space == "holding" && w.PulseAddress != nil:
		c.Fail(key+".pulse_address", "remove it", "only coils take a pulse")
	}
	switch {
	case (w.On == nil) != (w.Off == nil):
		c.Fail(key+".on", "give on and off together", "stands without the other")
	case w.On != nil && *w.On == *w.Off:
		c.Fail(key+".on", "give two values", "%d is written for both", *w.On)
	}
	if top := int(max(w.Address, deref(w.PulseAddress))) + (max(p.Count, 1)-1)*c.way.width(p); top > math.MaxUint16 {
		c.Fail(key+".address", "addresses are zero-based, 0 to 65535", "ends at %d", top)
	}
	if w.Multiple && !c.way.registers {
		c.Fail(key+".multiple", "remove it", "driver %s has one way to write", c.way.name)
	}
	if (w.PulseAddress != nil) != (w.PulseMax > 0) || w.PulseMax%pulseStep != 0 || c.way.registers && w.PulseMax > longestPulse {
		c.Fail(key+".pulse_max", fmt.Sprintf("give pulse_address and pulse_max together, in steps of 100ms up to %v", longestPulse), "does not describe a pulse")
	}
	if p.Space == "coil" {
		c.coilValues(key, w)
	}
}

// longestPulse is the longest that the value of a coil can say.
const longestPulse = 0x7FFF * pulseStep

// coilValues checks what is written to a coil as one bit.
func (c checker) coilValues(key string, w *Write) {
	if !w.Multiple || w.On == nil || w.Off == nil {
		return
	}
	if !isBit(*w.On) || !isBit(*w.Off) || min(*w.On, 1) == min(*w.Off, 1) {
		c.Fail(key+".on", "give a 1 and a 0", "function 15 carries one bit")
	}
}

// isBit reports whether a value is one that function 15 can carry.
func isBit(value uint16) bool { return value <= 1 || value == 0xFF00 }

// The most that a door reader takes, OSDP v2.2: colours of a light, tones, and
// times of one or two bytes in steps of 100 ms.
const (
	lastColour   = 7
	lastTone     = math.MaxUint8
	longestTimer = math.MaxUint16 * pulseStep
	longestBuzz  = math.MaxUint8 * pulseStep
)

// told checks what is written to an output of a door reader.
func (c checker) told(key string, p *Point) {
	w, highest, longest := p.Write, uint16(lastColour), longestTimer
	switch p.Space {
	case "output":
		if w.On != nil || w.Off != nil {
			c.Fail(key+".on", "remove on and off; use invert", "an output has codes of its own")
		}
	case "buzzer":
		highest, longest = lastTone, longestBuzz
	}
	for _, v := range []*uint16{w.On, w.Off} {
		if v != nil && *v > highest {
			c.Fail(key+".on", fmt.Sprintf("use 0 to %d", highest), "%d is not known to a %s", *v, p.Space)
		}
	}
	if w.PulseMax > longest {
		c.Fail(key+".pulse_max", fmt.Sprintf("use %v or less", longest), "%v is too long", w.PulseMax)
	}
}
