package osdp

import (
	"errors"
	"fmt"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

// timerStep is the step in which readers time; longestBuzz the longest tone that
// one byte of steps holds.
const (
	timerStep   = 100 * time.Millisecond
	longestBuzz = 255 * timerStep
)

// spaces says what stands in each space, and how many of it there can be. Spaces of
// outputs are written, all others read.
var spaces = map[string]struct {
	kind   point.Kind
	last   uint32 // the highest number
	output bool
}{
	"card":        {kind: point.Text, last: 255},
	"keypad":      {kind: point.Text, last: 255},
	"tamper":      {kind: point.Bool},
	"power":       {kind: point.Bool},
	"secure":      {kind: point.State},
	"secure_lost": {kind: point.Bool},
	"input":       {kind: point.Bool, last: 255},
	"output":      {kind: point.Bool, last: 255, output: true},
	"led":         {kind: point.Bool, last: 0xFFFF, output: true}, // reader in the high byte
	"buzzer":      {kind: point.Bool, last: 255, output: true},
}

const spaceList = "card, keypad, tamper, power, secure, secure_lost, input, output, led or buzzer"

// check reports every fault of a spec at once.
func check(spec drivers.Spec, deps drivers.Deps) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if spec.Framing == drivers.TCP {
		fail("framing tcp: OSDP has its own frames; leave the framing out")
	}
	if spec.Address < 0 || spec.Address > osdp.MaxAddress {
		fail("address %d: want 0 to %d", spec.Address, osdp.MaxAddress)
	}
	if len(spec.Points) == 0 {
		fail("no points: nothing to poll")
	}
	if len(spec.Commands) > 0 {
		fail("commands: a reader has its own; a profile adds none")
	}
	seen := make(map[point.ID]bool)
	for i := range spec.Points {
		p := &spec.Points[i]
		if seen[p.ID] {
			fail("point %s: listed twice", p.ID)
		}
		seen[p.ID] = true
		for _, err := range checkPoint(spec, p, deps) {
			fail("point %s: %w", p.ID, err)
		}
	}
	if every := fastest(spec); every > slowest {
		fail("a poll every %v: a reader that is not spoken to for %v ends its session; poll at least every %v", every, silence, slowest)
	}
	for i, err := range errs {
		errs[i] = fmt.Errorf("osdp device %s: %w", spec.Device, err)
	}
	return errors.Join(errs...)
}

// place is where a point stands: an output may say so in Write alone.
func place(p *drivers.PointSpec) drivers.Item {
	if p.Write != nil {
		return p.Write.At
	}
	return p.At
}

func checkPoint(spec drivers.Spec, p *drivers.PointSpec, deps drivers.Deps) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	at := place(p)
	s, ok := spaces[at.Space]
	if !ok {
		fail("space %q: want %s", at.Space, spaceList)
		return errs
	}
	if s.output != (p.Write != nil) {
		fail("space %s: output, led and buzzer are written, all others are read", at.Space)
		return errs
	}
	if p.Kind != s.kind {
		fail("kind %d: a point of space %s has kind %d", p.Kind, at.Space, s.kind)
	}
	if at.Address > s.last {
		fail("address %d: the last of space %s is %d", at.Address, at.Space, s.last)
	}
	if at.UnitPlus != 0 {
		fail("unit_plus %d: a reader has one address", at.UnitPlus)
	}
	if p.Order != "" && p.Order != "HL" && (p.Order != "LH" || at.Space != "card") {
		fail("order %q: want HL (the first byte first), or LH for a card point", p.Order)
	}
	if p.Bits != 0 || p.Decimals != nil || p.UnitFrom != nil || p.StatusOf != "" || p.Sentinels != nil ||
		p.Min != nil || p.Max != nil || p.MaxStep != nil || p.Swap {
		fail("bits, decimals, unit_from, status_of, sentinels, min, max, max_step and swap: a reader sends no numbers")
	}
	if p.Invert && (p.Kind != point.Bool || at.Space == "led" || at.Space == "buzzer") {
		fail("invert: only a contact has a sense")
	}
	if (p.Active != nil || p.Inactive != nil) && (p.Kind != point.Bool || s.output) {
		fail("active and inactive: only a contact has codes")
	}
	if p.Active != nil && p.Inactive != nil && *p.Active == *p.Inactive {
		fail("active and inactive: both are %d", *p.Active)
	}
	if s.kind == point.Text && deps.Card == nil {
		fail("no hash for cards and codes: they may not leave the driver")
	}
	if len(p.States) > 0 {
		if s.kind != point.State {
			fail("states: only space secure has them")
		}
		for code := range uint64(Fallback + 1) {
			if _, ok := p.States[code]; !ok {
				fail("states: code %d (%s) is missing", code, stateNames[code].Name)
			}
		}
	}
	if !s.output {
		if period(spec, p) <= 0 {
			fail("no poll period: give the point or the device one")
		}
		return errs
	}
	return append(errs, checkOutput(p.Write)...)
}

func checkOutput(w *drivers.Output) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	highest := uint16(osdp.White)
	longest := osdp.MaxTimer * timerStep
	switch w.At.Space {
	case "output":
		if w.On != nil || w.Off != nil {
			fail("on and off: an output has its own codes; use invert")
		}
	case "buzzer":
		highest, longest = 0xFF, longestBuzz // tones above 2 are the maker's
	}
	for _, v := range []*uint16{w.On, w.Off} {
		if v != nil && *v > highest {
			fail("on and off: %d is above %d", *v, highest)
		}
	}
	if w.Multiple {
		fail("multiple: one command writes one output")
	}
	if w.PulseFor < 0 || w.PulseFor%timerStep != 0 || w.PulseFor > longest {
		fail("pulse %v: want a multiple of 100ms, at most %v", w.PulseFor, longest)
	}
	return errs
}

// period is how often a point is polled.
func period(spec drivers.Spec, p *drivers.PointSpec) time.Duration {
	if p.Every > 0 {
		return p.Every
	}
	return spec.Every
}

// slowest leaves room for a lost reply within the silence that ends a session.
const slowest = silence / 2

// fastest is the period of the device: the shortest of its points'.
func fastest(spec drivers.Spec) (every time.Duration) {
	for i := range spec.Points {
		p := &spec.Points[i]
		if e := period(spec, p); p.Write == nil && (every == 0 || e < every) {
			every = e
		}
	}
	return every
}

// Sizes of a poll and of a common reply, in a session.
const (
	pollBytes  = 14
	replyBytes = 30
)

// plan sorts the points. The spec was checked.
func (d *Driver) plan(spec drivers.Spec) {
	d.outputs = make(map[point.ID]*output)
	job := drivers.Job{Every: fastest(spec), TxBytes: pollBytes, RxBytes: replyBytes}
	for i := range spec.Points {
		p := &spec.Points[i]
		if p.Write != nil {
			d.outputs[p.ID] = newOutput(p)
			continue
		}
		job.Points = append(job.Points, p.ID)
		job.Critical = job.Critical || p.Critical
		number := byte(p.At.Address)
		l := level{id: p.ID, number: int(p.At.Address), active: p.Active, inactive: p.Inactive, invert: p.Invert}
		switch p.At.Space {
		case "card":
			d.points.cards = append(d.points.cards, cardPoint{id: p.ID, reader: number, reversed: p.Order == "LH"})
		case "keypad":
			d.points.keypads = append(d.points.keypads, keypad{id: p.ID, reader: number})
		case "tamper":
			d.points.tamper = append(d.points.tamper, l)
		case "power":
			d.points.power = append(d.points.power, l)
		case "input":
			d.points.inputs = append(d.points.inputs, l)
		case "secure_lost":
			d.points.lost = append(d.points.lost, l)
		case "secure":
			s := statePoint{id: p.ID, states: stateNames}
			for code := range p.States {
				if code <= Fallback {
					s.states[code] = p.States[code]
				}
			}
			d.points.secure = append(d.points.secure, s)
		}
	}
	d.extra = 2
	if job.Every < quick {
		d.extra = 1
	}
	if len(job.Points) > 0 {
		d.jobs = []drivers.Job{job}
	}
}
