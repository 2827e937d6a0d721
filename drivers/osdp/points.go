package osdp

import (
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/card"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

// points are what is read, by where it stands in the reader.
type points struct {
	cards   []cardPoint
	keypads []keypad
	tamper  []level
	power   []level
	inputs  []level
	secure  []statePoint
	lost    []level
}

// local reports whether LSTAT tells anything that is wanted.
func (p *points) local() bool { return len(p.tamper)+len(p.power) > 0 }

// cardPoint is one reading head.
type cardPoint struct {
	id       point.ID
	reader   byte
	reversed bool
}

// keypad is one keypad and what was typed since the last code.
type keypad struct {
	id     point.ID
	reader byte
	digits [card.MaxDigits]byte
	n      int
	tooFar bool // more digits than a code has
	last   time.Time
}

// level is a contact or a flag.
type level struct {
	id               point.ID
	number           int
	active, inactive *uint64
	invert           bool
}

// reading is what a code says. Without declared codes 0 is inactive.
func (l *level) reading(code byte, at time.Time) point.Reading {
	v, on := uint64(code), code != 0
	r := point.Reading{Point: l.id, At: at, Quality: point.Good}
	switch {
	case l.active != nil && v == *l.active:
		on = true
	case l.inactive != nil && v == *l.inactive:
		on = false
	case l.active != nil && l.inactive != nil:
		r.Quality = point.Fault
		return r
	case l.active != nil:
		on = false
	case l.inactive != nil:
		on = true
	}
	r.Value = point.Truth(on != l.invert)
	return r
}

// statePoint tells how it stands with the session.
type statePoint struct {
	id     point.ID
	states [Fallback + 1]drivers.State
}

// stateNames are the states of a profile that names none.
var stateNames = [Fallback + 1]drivers.State{
	Offline:      {Name: "offline", Class: drivers.ClassWarmup},
	Clear:        {Name: "clear", Class: drivers.ClassNormal},
	Secure:       {Name: "secure", Class: drivers.ClassNormal},
	NotInstalled: {Name: "not_installed", Class: drivers.ClassNormal},
	Installing:   {Name: "installing", Class: drivers.ClassNormal},
	Fallback:     {Name: "fallback", Class: drivers.ClassAlarm},
}

// report tells how it stands with the session, when that has changed or was told
// long ago. While a session is being made nothing is told, for the last one may be
// gone, but that there is an alarm.
func (d *Driver) report(now time.Time) {
	certain := d.phase == phaseOnline || d.state == Fallback || d.state == Offline && !d.heard.IsZero()
	if !certain {
		return
	}
	if d.state == d.toldState && now.Sub(d.told) < refresh {
		return
	}
	d.told, d.toldState = now, d.state
	for i := range d.points.secure {
		p := &d.points.secure[i]
		s := p.states[d.state]
		r := point.Reading{Point: p.id, At: now, Quality: point.Good,
			Value: point.Value{Kind: point.State, Num: float64(d.state), Text: s.Name}}
		switch s.Class {
		case drivers.ClassWarmup:
			r.Quality = point.Unknown
		case drivers.ClassFault:
			r.Quality = point.Fault
		}
		d.keep(r)
	}
	if d.state == Offline {
		return
	}
	for i := range d.points.lost {
		var code byte
		if d.state == Fallback {
			code = 1
		}
		d.keep(d.points.lost[i].reading(code, now))
	}
}

// trusted reports whether what the reader says of cards may be believed, and
// nobody can have listened; or the site does not ask for that, of a reader that
// could never do better.
func (d *Driver) trusted() bool {
	return d.session.proven() || d.allowClear && !d.session.installed
}

// doubted reports whether the reader owes a proof that it has not given. All it
// says may be forged; that something is wrong stands all the same.
func (d *Driver) doubted() bool {
	return !d.session.proven() && (d.session.installed || d.session.byDefault())
}

// online handles a reply of a reader that is polled. What it does not know, it
// passes over.
func (d *Driver) online(now time.Time, c command, code byte, payload []byte) {
	switch c.code {
	case osdp.CmdKeySet:
		d.keyTaken() // which key it holds shows at the next challenge
	case osdp.CmdLStat:
		d.lstat = now
	case osdp.CmdIStat:
		d.istat = now
	}
	if c.output != "" {
		d.outcome = errUnconfirmed
		if code == osdp.ReplyACK || code == osdp.ReplyOStat {
			d.outcome = nil
		}
	}
	var err error
	switch code {
	case osdp.ReplyLStat:
		var tamper, power byte
		if tamper, power, err = osdp.DecodeLStat(payload); err == nil {
			d.lstat = now
			d.tell(d.points.tamper, tamper, now)
			d.tell(d.points.power, power, now)
		}
	case osdp.ReplyIStat:
		d.istat = now
		for i := range d.points.inputs {
			if in := &d.points.inputs[i]; in.number < len(payload) && !d.doubted() {
				d.keep(in.reading(payload[in.number], now))
			} else {
				d.keep(point.Reading{Point: in.id, At: now, Quality: point.Fault}) // it has not so many, or is not believed
			}
		}
	case osdp.ReplyRaw:
		err = d.card(now, payload)
	case osdp.ReplyKeypad:
		err = d.keysPressed(now, payload)
	}
	if err != nil && now.Sub(d.puzzled) >= quietLog {
		d.puzzled = now
		d.log.Warn("what the reader read was not taken", "err", err)
	}
}

// tell tells levels that are active when something is wrong.
func (d *Driver) tell(levels []level, code byte, now time.Time) {
	for i := range levels {
		r := levels[i].reading(code, now)
		if d.doubted() && !r.Value.On() {
			r = point.Reading{Point: r.Point, At: now, Quality: point.Fault}
		}
		d.keep(r)
	}
}

// fault tells that levels cannot be known: those of LSTAT, or those of ISTAT.
func (p *points) fault(d *Driver, now time.Time, local bool) {
	groups := [][]level{p.inputs}
	if local {
		groups = [][]level{p.tamper, p.power}
	}
	for _, g := range groups {
		for i := range g {
			d.keep(point.Reading{Point: g[i].id, At: now, Quality: point.Fault})
		}
	}
}

// card handles a card, or a key of a keypad that sends its keys as bits.
func (d *Driver) card(now time.Time, payload []byte) error {
	raw, err := osdp.DecodeRaw(payload)
	if err != nil || !d.trusted() {
		return err
	}
	if key, ok := card.Key(raw.Data, raw.Bits); ok {
		d.typed(now, raw.Reader, key)
		return nil
	}
	for i := range d.points.cards {
		p := &d.points.cards[i]
		if p.reader != raw.Reader {
			continue
		}
		credential, err := card.Wiegand(raw.Data, raw.Bits, p.reversed)
		if err != nil {
			return err
		}
		d.event(p.id, credential, now)
	}
	return nil
}

// event makes a credential what it may be outside, and overwrites it.
func (d *Driver) event(id point.ID, c card.Credential, now time.Time) {
	d.keep(point.Reading{Point: id, At: now, Quality: point.Good, Kind: point.Event,
		Value: point.Value{Kind: point.Text, Text: d.hash(c)}})
	c.Wipe()
}

// keysPressed handles keys that were pressed.
func (d *Driver) keysPressed(now time.Time, payload []byte) error {
	reader, keys, err := osdp.DecodeKeypad(payload)
	if err != nil || !d.trusted() {
		return err
	}
	for _, key := range keys {
		d.typed(now, reader, key)
	}
	return nil
}

// typed adds a key to what was typed. A single digit is never told: hashed or
// not, ten values are no secret. Any other key ends the code.
func (d *Driver) typed(now time.Time, reader, key byte) {
	for i := range d.points.keypads {
		p := &d.points.keypads[i]
		switch {
		case p.reader != reader:
		case key < '0' || key > '9':
			d.endCode(p, now)
		case p.n == len(p.digits):
			p.tooFar, p.last = true, now
		default:
			p.digits[p.n] = key
			p.n++
			p.last = now
		}
	}
}

// endCode emits what was typed as one code.
func (d *Driver) endCode(p *keypad, now time.Time) {
	if p.n > 0 && !p.tooFar {
		if c, err := card.Code(p.digits[:p.n]); err == nil {
			d.event(p.id, c, now)
		}
	}
	p.forget()
}

func (p *keypad) forget() {
	clear(p.digits[:])
	p.n, p.tooFar = 0, false
}

// endCodes ends the codes that nobody goes on with.
func (p *points) endCodes(d *Driver, now time.Time) {
	for i := range p.keypads {
		if k := &p.keypads[i]; k.n > 0 && now.Sub(k.last) >= codePause {
			d.endCode(k, now)
		}
	}
}

// forgetCodes drops what was begun before the reader was lost.
func (p *points) forgetCodes() {
	for i := range p.keypads {
		p.keypads[i].forget()
	}
}
