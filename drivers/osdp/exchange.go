package osdp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

// command is what was sent and not yet answered. The zero command is none.
type command struct {
	code   byte
	output point.ID // which output it writes, if any
	value  bool
	sent   time.Time // first
	again  int       // how often the reader asked for it again
}

// step sends what is due next, or again what was not answered.
func (d *Driver) step(ctx context.Context) error {
	now := d.now()
	d.expire(now)
	if d.pending.code == 0 {
		d.advance(now)
	}
	return d.exchange(ctx)
}

// expire ends what has lasted too long: silence, an output that nobody waits for
// any more, the use of the default key without an order.
func (d *Driver) expire(now time.Time) {
	switch {
	case now.Sub(d.heard) > silence:
		d.silent(now)
	case d.pending.output != "" && now.Sub(d.pending.sent) > outputLife:
		d.restart()
	case d.usesDefault() && !d.install.open(now):
		d.restart()
	}
	if d.install.expired(now) {
		d.install.end()
		d.log.Warn("the install order has ended without a new key", "hint", "reset the reader to its default key and order install again")
		if d.state == Installing {
			d.state = d.clearState(now)
		}
	}
}

// silent begins anew because nothing good was heard for long. A reader without power
// is no alarm here: one that puts off the panel all the time is, and so is one that
// talks again and again and never as far as to a proof.
func (d *Driver) silent(now time.Time) {
	delaying := d.session.up && now.Sub(d.putOff.last) < silence/2
	avoiding := d.phase != phaseID && !d.session.up
	d.restart()
	d.crc, d.crcGood = true, false
	d.session.delay, d.session.retry = 0, time.Time{}
	switch {
	case delaying:
		d.distrust(now, errBusyOnly)
	case avoiding:
		d.startAgain(now, errors.New("it answers, and falls silent before it proves its key"))
	}
}

// errBusyOnly is the reason against a reader that is never done.
var errBusyOnly = errors.New("it is busy and nothing else")

// startAgain begins anew because of what a reader said in clear text, or did not
// say. Anybody can make the panel do that again and again.
func (d *Driver) startAgain(now time.Time, reason error) {
	d.restart()
	if d.starts = min(d.starts+1, mostStarts); d.starts == mostStarts {
		d.distrust(now, reason)
	}
}

// restart begins anew at sequence number 0.
func (d *Driver) restart() {
	d.pending, d.next, d.phase = command{}, 0, phaseID
	d.session.end()
	d.points.forgetCodes()
	d.lstat, d.istat = time.Time{}, time.Time{}
}

// advance sends the command that the phase asks for.
func (d *Driver) advance(now time.Time) {
	if d.phase == phaseOnline && d.wantsSession(now) {
		d.phase = phaseChallenge
	}
	if d.phase == phaseChallenge {
		if err := d.challenge(now); err != nil {
			d.fallBack(now, err)
		}
	}
	switch d.phase {
	case phaseID:
		d.send(now, command{code: osdp.CmdID}, zero)
	case phaseCap:
		d.send(now, command{code: osdp.CmdCap}, zero)
	case phaseCrypt:
		d.prove(now)
	case phaseOnline:
		if !d.session.up || !d.install.due(now) || !d.changeKey(now) {
			d.send(now, command{code: osdp.CmdPoll}, nil)
		}
	}
}

// zero is the payload of ID and CAP.
var zero = []byte{0}

// send makes the next command, inside the session if there is one.
func (d *Driver) send(now time.Time, c command, payload []byte) {
	frame := osdp.Frame{Code: c.code, Payload: payload}
	d.number(now, &frame, c)
	if d.session.up {
		d.tx = d.session.channel.Seal(d.tx[:0], &frame)
		return
	}
	d.tx = osdp.Append(d.tx[:0], &frame)
}

// sendBlock makes a command of the handshake.
func (d *Driver) sendBlock(now time.Time, code, block, data byte, payload []byte) {
	d.block = [2]byte{block, data}
	frame := osdp.Frame{Code: code, Payload: payload, Block: d.block[:]}
	d.number(now, &frame, command{code: code})
	d.tx = osdp.Append(d.tx[:0], &frame)
}

// number gives the command its place in the sequence: 0, then 1, 2, 3, 1 and so on.
func (d *Driver) number(now time.Time, f *osdp.Frame, c command) {
	c.sent = now
	d.pending = c
	f.Address, f.Control = d.framer.Address, osdp.Control(d.next, d.crc)
	d.framer.Sequence, d.framer.CRC = d.next, d.crc
	d.next = d.next%3 + 1
}

// exchange sends the pending command and handles its reply. Without one it stays
// pending, and the identical packet goes out the next time: the reader sends
// again what it answered, so nothing is read twice.
func (d *Driver) exchange(ctx context.Context) error {
	rx, err := d.link.Exchange(ctx, d.tx, d.judge)
	if err != nil {
		return err
	}
	f, err := osdp.Parse(rx)
	if err != nil {
		return fmt.Errorf("%w: %w", drivers.ErrForeign, err)
	}
	now := d.now()
	if f.Code == osdp.ReplyBusy && !f.Secured() {
		d.clearBusy(now)
		return drivers.ErrBusy
	}
	d.putOff.first = time.Time{}
	if f.Code == osdp.ReplyNAK && !f.Secured() {
		d.heard = now
		return d.clearNAK(now, f.Payload)
	}
	if d.session.up && !f.Secured() {
		d.heard = now
		d.fallBack(now, errors.New("it answers in clear text inside a session"))
		return nil
	}
	payload := f.Payload
	if f.Secured() {
		if payload, err = d.open(now, &f); err != nil {
			return fmt.Errorf("%w: %w", drivers.ErrForeign, err)
		}
	}
	c := d.pending
	d.heard, d.crcGood, d.pending = now, true, command{}
	err = d.handle(now, c, &f, payload)
	if f.Code == osdp.ReplyRaw || f.Code == osdp.ReplyKeypad {
		clear(f.Payload)
		if d.session.channel != nil {
			d.session.channel.Wipe()
		}
	}
	return err
}

// clearBusy notes that the reader puts the panel off, which anybody can say for it.
func (d *Driver) clearBusy(now time.Time) {
	p := &d.putOff
	if p.first.IsZero() || now.Sub(p.last) > silence {
		p.first = now
	}
	p.last = now
	if now.Sub(p.first) > silence {
		p.first = now
		d.distrust(now, errBusyOnly)
	}
}

// mostBad is how many replies may fail to authenticate before the session is
// given up: one can be another's.
const mostBad = 3

// open authenticates a reply.
func (d *Driver) open(now time.Time, f *osdp.Frame) ([]byte, error) {
	if !d.session.up {
		return nil, osdp.ErrMAC
	}
	payload, err := d.session.channel.Open(f)
	if err == nil {
		d.session.bad = 0
		if d.session.kind == osdp.KeyOwn {
			d.starts = 0
		}
		if d.session.delay > 0 && now.Sub(d.session.since) > settled {
			d.session.delay = 0
		}
		return payload, nil
	}
	if d.session.bad++; d.session.bad >= mostBad {
		d.loseSession(now, err)
	}
	return nil, err
}

// handle sorts an authentic reply, or one that needs no proof.
func (d *Driver) handle(now time.Time, c command, f *osdp.Frame, payload []byte) error {
	switch {
	case f.Code == osdp.ReplyNAK:
		return d.nak(now, c, payload)
	case f.Code == osdp.ReplyBusy:
		// An authentic one is a link of the chain: the command is made anew.
		if c.code == osdp.CmdKeySet {
			d.install.sent = false
		}
		return drivers.ErrBusy
	}
	switch d.phase {
	case phaseID:
		d.identify(f.Code, payload)
		d.phase = phaseCap
	case phaseCap:
		d.begin(now)
	case phaseChallenge:
		d.answered(now, f)
	case phaseCrypt:
		d.accepted(now, f)
	case phaseOnline:
		d.online(now, c, f.Code, payload)
	}
	return nil
}

// identify logs once what the reader says it is.
func (d *Driver) identify(code byte, payload []byte) {
	id, err := osdp.DecodePDID(payload)
	if code != osdp.ReplyPDID || err != nil || d.known {
		return
	}
	d.known = true
	d.log.Info("door reader", "vendor", fmt.Sprintf("%06X", id.Vendor), "model", id.Model, "version", id.Version,
		"serial", id.Serial, "firmware", fmt.Sprintf("%d.%d.%d", id.Firmware[0], id.Firmware[1], id.Firmware[2]))
}

// clearNAK handles a refusal in clear text. Inside a session it proves nothing
// but that the session is over for the reader.
func (d *Driver) clearNAK(now time.Time, payload []byte) error {
	reason, _ := osdp.DecodeNAK(payload)
	handshake := d.session.fresh && (d.phase == phaseChallenge || d.phase == phaseCrypt)
	switch {
	case reason == osdp.NAKCheck && !d.crcGood:
		d.startAgain(now, reason)
		d.crc = !d.crc // some know checksums only
		return nil
	case reason == osdp.NAKCheck && d.pending.again < mostBad:
		d.pending.again++
		return fmt.Errorf("%w: %w", drivers.ErrBusy, reason) // the line spoilt the command: it is sent again
	case reason == osdp.NAKCheck || reason == osdp.NAKSequence && !handshake:
		d.startAgain(now, reason)
		return nil
	case d.session.up:
		d.pending = command{}
		d.loseSession(now, reason)
		return nil
	}
	c := d.pending
	d.pending, d.crcGood = command{}, true
	return d.nak(now, c, payload)
}

// nak handles a refusal by who is entitled to it.
func (d *Driver) nak(now time.Time, c command, payload []byte) error {
	reason, _ := osdp.DecodeNAK(payload)
	switch d.phase {
	case phaseID:
		d.phase = phaseCap
		return nil
	case phaseCap:
		d.begin(now)
		return nil
	case phaseChallenge, phaseCrypt:
		if !d.session.fresh {
			d.startAgain(now, reason) // some begin a session at sequence number 0 only
			return nil
		}
		d.failHandshake(now, reason)
		return nil
	}
	if c.code == osdp.CmdKeySet {
		d.keyRefused(reason)
		return nil
	}
	if d.session.up {
		switch reason {
		case osdp.NAKSequence:
			d.startAgain(now, reason)
			return nil
		case osdp.NAKUnsupported, osdp.NAKCondition:
			d.loseSession(now, reason)
			return nil
		}
	}
	switch {
	case c.output != "":
		d.outcome = fmt.Errorf("%w: %w", drivers.ErrRefused, reason)
		return nil
	case c.code == osdp.CmdLStat:
		d.lstat = now
		d.points.fault(d, now, true)
	case c.code == osdp.CmdIStat:
		d.istat = now
		d.points.fault(d, now, false)
	default:
		return fmt.Errorf("%w: %w", drivers.ErrRefused, reason)
	}
	if !d.refusals[c.code] {
		d.refusals[c.code] = true
		d.log.Warn("the reader does not tell a level that its profile asks for", "command", fmt.Sprintf("%02X", c.code), "err", reason)
	}
	return nil
}
