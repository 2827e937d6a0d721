package sim

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Bounds that keep a slip of the pen from filling the memory.
const (
	minStep = time.Millisecond
	maxRamp = 10000 // changes of one ramp
)

// listenerName is what may stand before the slash of a unit's name.
var listenerName = regexp.MustCompile(`^[a-z0-9-]+$`)

// checker collects everything a scenario has wrong, each with its position.
type checker struct {
	file string
	tree *ast.File
	errs []error
}

func (c *checker) fail(at, format string, args ...any) {
	line, col := position(c.tree, at)
	c.errs = append(c.errs, fmt.Errorf("%s:%d:%d: %s", c.file, line, col, fmt.Sprintf(format, args...)))
}

func (c *checker) scenario(sc *Scenario) {
	if len(sc.Listeners) == 0 {
		c.fail("$.listeners", "listeners: none; give at least one with tcp or pty")
	}
	listeners := make(map[string]bool)
	for i, l := range sc.Listeners {
		c.listener(fmt.Sprintf("$.listeners[%d]", i), l, listeners)
	}
	units := make(map[string]map[Space]map[uint16]uint16)
	for i := range sc.Units {
		c.unit(fmt.Sprintf("$.units[%d]", i), &sc.Units[i], listeners, units)
	}
	devices := c.devices(sc, listeners)
	for i := range sc.Steps {
		at := fmt.Sprintf("$.steps[%d]", i)
		s := &sc.Steps[i]
		if d := devices[s.Unit]; d != nil {
			c.step(at, s, units[s.Unit], d)
		} else {
			c.fail(at+".unit", "unit %q: no such unit; want listener/id of one under units", s.Unit)
		}
		if sc.Period > 0 && s.end() >= sc.Period {
			c.fail(at, "step ends at %s, not before the period of %s", s.end(), sc.Period)
		}
	}
	for i := range sc.Noise {
		at := fmt.Sprintf("$.noise[%d]", i)
		if tables, ok := units[sc.Noise[i].Unit]; ok {
			c.noise(at, &sc.Noise[i], tables)
		} else {
			c.fail(at+".unit", "unit %q: no such unit; want listener/id of one under units", sc.Noise[i].Unit)
		}
	}
}

func (c *checker) listener(at string, l Listener, seen map[string]bool) {
	if !listenerName.MatchString(l.Name) {
		c.fail(at+".name", "name %q: want letters a-z, digits and '-'", l.Name)
	}
	if seen[l.Name] {
		c.fail(at+".name", "name %q is taken by another listener", l.Name)
	}
	seen[l.Name] = true
	places := 0
	for _, p := range []*string{l.TCP, l.PTY, l.Dial} {
		if p != nil {
			places++
		}
	}
	if places != 1 {
		c.fail(at, "give one of tcp: host:port, pty: path and dial: host:port")
	}
	if l.Framing != "" && l.Framing != "rtu" && l.Framing != "tcp" || l.Framing == "tcp" && l.TCP == nil {
		c.fail(at+".framing", "framing %q: want rtu, or tcp on a TCP address", l.Framing)
	}
	v := l.Server
	if v.Chop < 0 || v.Pause < 0 || v.Latency < 0 || v.Every < 0 || (v.Every > 0) != (v.Heartbeat != "") {
		c.fail(at+".server", "server: want chop, pause and latency not below 0, and heartbeat with every or neither")
	}
	if v.Register != "" && l.Dial == nil {
		c.fail(at+".server", "server: register is for a listener with dial")
	}
}

func (c *checker) unit(at string, u *Unit, listeners map[string]bool, units map[string]map[Space]map[uint16]uint16) {
	if !listeners[u.Listener] {
		c.fail(at+".listener", "listener %q: no such listener", u.Listener)
	}
	if u.ID < 1 || u.ID > 247 {
		c.fail(at+".id", "id %d: want 1 to 247", u.ID)
	}
	name := unitName(u.Listener, u.ID)
	if units[name] != nil {
		c.fail(at+".id", "unit %s is given twice", name)
	}
	tables := make(map[Space]map[uint16]uint16)
	for space, cells := range u.spaces() {
		tables[space] = cells.flat()
		c.bits(at+"."+string(space), space, cells)
	}
	units[name] = tables
	if _, ok := tables[Holding][breakerState]; u.Breaker && !ok {
		c.fail(at+".breaker", "breaker: holding %d, its state, does not exist", breakerState)
	}
	if p := u.Pulse; p != nil {
		if p.Step <= 0 || p.Coils == 0 {
			c.fail(at+".pulse", "pulse: want at, coils above 0 and step above 0")
		}
		for i := range p.Coils {
			if _, ok := tables[Coil][i]; !ok {
				c.fail(at+".pulse", "pulse: coil %d does not exist", i)
				break
			}
		}
	}
}

// devices builds everything that a step can name, and checks that what hangs on
// one listener fits together.
func (c *checker) devices(sc *Scenario, listeners map[string]bool) map[string]device {
	out := make(map[string]device)
	modbus, framing := make(map[string]bool), make(map[string]string)
	for _, l := range sc.Listeners {
		framing[l.Name] = l.Framing
	}
	for i := range sc.Units {
		u := &sc.Units[i]
		modbus[u.Listener] = true
		out[unitName(u.Listener, u.ID)] = &unit{}
	}
	lines := make(map[string]station)
	for _, p := range sc.others(func(at string, err error) {
		for fault := range strings.SplitSeq(err.Error(), "\n") {
			c.fail(at, "%s", fault)
		}
	}) {
		switch {
		case !listeners[p.listener]:
			c.fail(p.at+".listener", "listener %q: no such listener", p.listener)
		case modbus[p.listener]:
			c.fail(p.at+".listener", "listener %q: the line carries Modbus units", p.listener)
		case framing[p.listener] == "tcp":
			c.fail(p.at+".listener", "listener %q: framing tcp is for Modbus", p.listener)
		}
		s, err := p.device.join(lines[p.listener])
		if err != nil {
			c.fail(p.at, "%s", err)
			continue
		}
		lines[p.listener] = s
		out[p.name] = p.device
	}
	for i, l := range sc.Listeners {
		if l.TCP != nil && l.Framing != "rtu" && lines[l.Name] == nil && l.Server != (Server{}) {
			c.fail(fmt.Sprintf("$.listeners[%d].server", i), "server: Modbus TCP needs none; give framing: rtu for units behind a serial server")
		}
	}
	return out
}

// bits refuses a coil or discrete input that is neither 0 nor 1.
func (c *checker) bits(at string, space Space, cells Cells) {
	if space != Coil && space != Discrete {
		return
	}
	for _, cell := range cells {
		if cell.Value > 1 {
			c.fail(at, "%s %d: want 0 or 1, not %d", space, cell.Address, cell.Value)
		}
	}
}

func (c *checker) step(at string, s *Step, tables map[Space]map[uint16]uint16, d device) {
	if s.At < 0 {
		c.fail(at+".at", "at %s: before the start", s.At)
	}
	kinds := 0
	for _, given := range []bool{
		s.Set != nil, s.Ramp != nil, s.Silent != 0, s.Fault != nil,
		s.Values != nil, s.Card != nil, s.Keys != "", s.Text != "",
	} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		c.fail(at, "give exactly one of set, ramp, silent, fault, values, card, keys and text")
	}
	if s.Silent < 0 {
		c.fail(at+".silent", "silent %s: want a time above 0", s.Silent)
	}
	if s.For < 0 || s.For > 0 && s.Set == nil && s.Values == nil && s.Fault == nil {
		c.fail(at+".for", "for %s: want a time above 0, beside set, values or fault", s.For)
	}
	if err := able(d, s); err != nil {
		for fault := range strings.SplitSeq(err.Error(), "\n") {
			c.fail(at, "%s", fault)
		}
	}
	for space, cells := range s.Set {
		c.bits(at+".set", space, cells)
		for _, cell := range cells {
			c.exists(at+".set", space, cell.Address, tables)
		}
	}
	if r := s.Ramp; r != nil {
		c.exists(at+".ramp.address", r.Space, r.Address, tables)
		if r.Every < minStep || r.Over < r.Every || r.Over/r.Every > maxRamp {
			c.fail(at+".ramp", "ramp: want every of %s at least, and over of 1 to %d times that", minStep, maxRamp)
		}
		if r.Space == Coil || r.Space == Discrete {
			c.fail(at+".ramp.space", "space %s: a bit cannot ramp", r.Space)
		}
	}
}

func (c *checker) noise(at string, n *Noise, tables map[Space]map[uint16]uint16) {
	words := uint16(1)
	switch n.Type {
	case "u16":
		if n.Base-n.Spread < 0 || n.Base+n.Spread > 0xFFFF {
			c.fail(at+".base", "base %g ± %g does not fit one register", n.Base, n.Spread)
		}
	case "f32":
		words = 2
	default:
		c.fail(at+".type", "type %q: want u16 or f32", n.Type)
	}
	if n.Space == Coil || n.Space == Discrete {
		c.fail(at+".space", "space %s: a bit has no noise", n.Space)
	}
	for i := range words {
		c.exists(at+".address", n.Space, n.Address+i, tables)
	}
	if n.Every < minStep || n.Spread < 0 {
		c.fail(at, "noise: want every of %s at least and spread not below 0", minStep)
	}
}

func (c *checker) exists(at string, space Space, addr uint16, tables map[Space]map[uint16]uint16) {
	table, ok := tables[space]
	if !ok {
		c.fail(at, "space %q: want coil, discrete, holding or input", space)
		return
	}
	if _, ok := table[addr]; !ok {
		c.fail(at, "%s %d: the unit has no such address", space, addr)
	}
}
