package sim

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Change is what happens to one unit at one moment of the scenario.
type Change struct {
	At     time.Duration
	Unit   string
	Note   string
	Set    []Assign
	Silent *bool
	Fault  *Fault
	Values map[string]float64
	Card   *Card
	Keys   string
	Text   string
	noise  bool
}

// Assign is one raw value at one place.
type Assign struct {
	Space   Space
	Address uint16
	Value   uint16
}

// String says what changes: "holding 1 = 300" or "silent".
func (c Change) String() string {
	var parts []string
	if c.Silent != nil {
		parts = append(parts, map[bool]string{true: "silent", false: "answers again"}[*c.Silent])
	}
	if c.Fault != nil {
		parts = append(parts, map[bool]string{true: "in order", false: "misbehaves"}[*c.Fault == Fault{}])
	}
	for _, a := range c.Set {
		parts = append(parts, fmt.Sprintf("%s %d = %d", a.Space, a.Address, a.Value))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Values)) {
		parts = append(parts, fmt.Sprintf("%s = %g", name, c.Values[name]))
	}
	if c.Card != nil {
		parts = append(parts, fmt.Sprintf("card of %d bits", c.Card.Bits))
	}
	if c.Keys != "" {
		parts = append(parts, fmt.Sprintf("%d keys", len(c.Keys)))
	}
	if c.Text != "" {
		parts = append(parts, fmt.Sprintf("text of %d characters", len(c.Text)))
	}
	return strings.Join(parts, ", ")
}

// end is the offset at which the last change of the step happens.
func (s *Step) end() time.Duration {
	end := s.At + s.For + s.Silent
	if s.Ramp != nil {
		end += s.Ramp.Over
	}
	return end
}

// timeline hands out the changes of a scenario in order. It is pure: what
// comes out depends on the scenario and the seed alone.
type timeline struct {
	changes []Change // of one period, by time
	i       int
	shift   time.Duration // start of the present period
	period  time.Duration // 0: the steps run once
	noise   []noiseSource
}

type noiseSource struct {
	Noise
	rng  *rand.Rand
	next time.Duration
}

func newTimeline(sc *Scenario, seed uint64, loop bool) *timeline {
	t := &timeline{}
	devices := make(map[string]device)
	for _, p := range sc.others(func(string, error) {}) { // Load has proved that all can be built
		devices[p.name] = p.device
	}
	initial := make(map[string]map[Space]map[uint16]uint16)
	for i := range sc.Units {
		u := &sc.Units[i]
		tables := make(map[Space]map[uint16]uint16)
		for space, cells := range u.spaces() {
			tables[space] = cells.flat()
		}
		initial[unitName(u.Listener, u.ID)] = tables
	}
	last := time.Duration(0)
	for i := range sc.Steps {
		s := &sc.Steps[i]
		t.changes = append(t.changes, s.changes(initial[s.Unit], devices[s.Unit])...)
		last = max(last, s.end())
	}
	slices.SortStableFunc(t.changes, func(a, b Change) int { return cmp.Compare(a.At, b.At) })
	if loop && len(t.changes) > 0 {
		t.period = sc.Period
		if t.period == 0 {
			t.period = last + time.Second
		}
	}
	for i, n := range sc.Noise {
		t.noise = append(t.noise, noiseSource{Noise: n, rng: rand.New(rand.NewPCG(seed, uint64(i))), next: n.Every})
	}
	return t
}

// changes spells a step out. The tables and the device are as they begin.
func (s *Step) changes(initial map[Space]map[uint16]uint16, d device) []Change {
	if s.Ramp != nil {
		return s.ramp()
	}
	do := Change{At: s.At, Unit: s.Unit, Note: s.Note, Fault: s.Fault, Values: s.Values, Keys: s.Keys, Text: s.Text}
	back := Change{At: s.At + s.For + s.Silent, Unit: s.Unit, Note: ended(s.Note)}
	if s.Silent > 0 {
		do.Silent, back.Silent = new(true), new(false)
	}
	if s.Fault != nil {
		back.Fault = &Fault{}
	}
	if s.Card != nil {
		if c, err := s.Card.Card(); err == nil { // Load has proved it
			do.Card = &c
		}
	}
	if s.Values != nil {
		back.Values = make(map[string]float64, len(s.Values))
	}
	for name := range s.Values {
		back.Values[name], _ = d.value(name)
	}
	for _, space := range []Space{Coil, Discrete, Holding, Input} {
		for _, c := range s.Set[space] {
			do.Set = append(do.Set, Assign{space, c.Address, c.Value})
			back.Set = append(back.Set, Assign{space, c.Address, initial[space][c.Address]})
		}
	}
	if back.At == do.At {
		return []Change{do}
	}
	return []Change{do, back}
}

func (s *Step) ramp() []Change {
	r := s.Ramp
	n := int(r.Over / r.Every)
	out := make([]Change, 0, n+1)
	for i := range n + 1 {
		v := float64(r.From) + (float64(r.To)-float64(r.From))*float64(i)/float64(n)
		c := Change{
			At: s.At + r.Over*time.Duration(i)/time.Duration(n), Unit: s.Unit,
			Set: []Assign{{r.Space, r.Address, uint16(math.Round(v))}},
		}
		if i == 0 {
			c.Note = s.Note
		}
		if i == n {
			c.Note = ended(s.Note)
		}
		out = append(out, c)
	}
	return out
}

func ended(note string) string {
	if note == "" {
		return ""
	}
	return note + ": over"
}

// next returns the change that comes next; false when there is none.
func (t *timeline) next() (Change, bool) {
	if t.i == len(t.changes) && t.period > 0 {
		t.i, t.shift = 0, t.shift+t.period
	}
	quiet := -1
	for i := range t.noise {
		if quiet < 0 || t.noise[i].next < t.noise[quiet].next {
			quiet = i
		}
	}
	if t.i < len(t.changes) {
		at := t.changes[t.i].At + t.shift
		if quiet < 0 || at <= t.noise[quiet].next {
			c := t.changes[t.i]
			c.At = at
			t.i++
			return c, true
		}
	}
	if quiet < 0 {
		return Change{}, false
	}
	return t.noise[quiet].draw(), true
}

// draw returns the next value of a noisy measurement.
func (n *noiseSource) draw() Change {
	v := n.Base + n.Spread*(2*n.rng.Float64()-1)
	words := []uint16{uint16(math.Round(v))}
	if n.Type == "f32" {
		words = float32Words(float32(v))
	}
	c := Change{At: n.next, Unit: n.Unit, noise: true}
	for i, w := range words {
		c.Set = append(c.Set, Assign{n.Space, n.Address + uint16(i), w})
	}
	n.next += n.Every
	return c
}
