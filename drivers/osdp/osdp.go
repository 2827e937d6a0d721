// Package osdp is the panel of one door reader that speaks OSDP.
//
// It guarantees: a card or a typed code leaves it as a keyed hash only, never as
// a number, be it in a reading, a log line or an error; without a secure channel
// it leaves it not at all, unless the site allows that and the reader was never
// installed. The default key is used once per install order, within ten minutes,
// and only to bring in a random key that was made durable before it was sent; it
// never replaces a key that the reader had just proven, and is never taken for
// one of its own.
//
// A reader is installed once a key of it is kept, or its keys cannot be read. One
// that then speaks clear text, fails to prove its key, or only ever puts off and
// refuses, is reported at its third start at the latest, for as long as it lasts,
// and never believed: no card, no contact, no confirmed output; only what it says
// is wrong stands.
//
// A lost reply is asked for again by the identical packet, so a card is neither
// lost nor read twice; after 8 s without a valid reply all begins anew. An output
// is confirmed by nothing but the reader's ACK or output status, and one that could
// not be confirmed is not switched later. A key change is told as done only when
// the reader has proven the new key. Steady-state polling does not allocate, in
// clear text and inside a session.
//
// The reader's state (space secure) has the codes of the constants below.
package osdp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

// Codes of a point of space secure.
const (
	Offline      = 0 // not started yet
	Clear        = 1 // clear text, as the site allows
	Secure       = 2
	NotInstalled = 3 // no key; cards are dropped
	Installing   = 4 // an install order is running
	Fallback     = 5 // installed, and it gives no proof of its key
)

// Times of the protocol and of this panel.
const (
	silence       = 8 * time.Second        // without a valid reply: the reader is offline, the session is over
	refresh       = 900 * time.Millisecond // levels are asked for and told again
	quick         = 500 * time.Millisecond // below this period a poll has one level beside it, else two
	mostStarts    = 3                      // without an authentic reply: no reader of ours
	installWindow = 10 * time.Minute
	firstRetry    = 10 * time.Second // of a secure channel that failed; doubles
	lastRetry     = 10 * time.Minute
	provenRetry   = 30 * time.Second // the longest wait for a reader whose session was good until then
	keyRetry      = time.Minute      // before a new key that did not arrive is sent again
	settled       = 10 * time.Second // a session that lived so long was a good one
	codePause     = 3 * time.Second  // ends a typed code
	outputLife    = 2 * time.Second  // an unconfirmed output is not sent again after it
	quietLog      = time.Minute      // between two lines about the same trouble
)

// phase is where the panel stands with the reader.
type phase uint8

const (
	phaseID phase = iota
	phaseCap
	phaseChallenge
	phaseCrypt
	phaseOnline
)

// Driver is one reader.
type Driver struct {
	link       drivers.Link
	log        *slog.Logger
	now        func() time.Time
	hash       func([]byte) string
	keys       drivers.Key
	allowClear bool
	jobs       []drivers.Job
	extra      int // levels that may be asked for beside a poll
	points     points
	outputs    map[point.ID]*output

	phase   phase
	crc     bool // check mode
	crcGood bool // the reader has understood this mode
	next    byte // sequence number of the next command
	heard   time.Time
	known   bool                            // what the reader is was logged
	starts  int                             // how often it made the panel begin anew since it was last authentic
	putOff  struct{ first, last time.Time } // busy and nothing else; zero: no

	pending  command // until it is answered
	framer   osdp.Framer
	judge    drivers.Framer
	tx       []byte
	block    [2]byte
	payload  [64]byte
	outcome  error         // of the output that was written last
	blamed   time.Time     // when a broken session was logged
	puzzled  time.Time     // when a read of a wrong form was logged
	refusals map[byte]bool // commands whose refusal was logged

	session session
	install install

	state     int
	told      time.Time // when state was emitted
	toldState int
	lstat     time.Time // when it was answered
	istat     time.Time
	ready     []point.Reading // not yet emitted
}

// New builds the driver of one reader. It reports every fault of the spec.
func New(spec drivers.Spec, deps drivers.Deps) (drivers.Driver, error) {
	if deps.Link == nil {
		return nil, fmt.Errorf("osdp device %s: no link", spec.Device)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if err := check(spec, deps); err != nil {
		return nil, err
	}
	d := &Driver{
		link: deps.Link, log: deps.Log, now: deps.Now, hash: deps.Card, keys: deps.Key, allowClear: spec.AllowClear,
		framer: osdp.Framer{Address: byte(spec.Address)}, refusals: make(map[byte]bool),
		crc: true, toldState: -1,
	}
	d.judge = func(rx []byte) (int, error) {
		need, err := d.framer.Judge(rx)
		switch {
		case err == nil:
			return need, nil
		case errors.Is(err, osdp.ErrDamaged):
			return 0, drivers.ErrDamaged
		}
		return 0, drivers.ErrForeign
	}
	d.plan(spec)
	d.session.installed = d.wasInstalled()
	return d, nil
}

// Jobs returns the one job: the poll.
func (d *Driver) Jobs() []drivers.Job { return d.jobs }

// Close ends the session and forgets its keys; the bus owns the link.
func (d *Driver) Close() error {
	d.session.end()
	return nil
}

// Do takes the reader one step further: towards a session, or one poll and the
// levels that are due. What a reply said is emitted once. After an error that is
// no reply what was heard before it waits for the next Do.
func (d *Driver) Do(ctx context.Context, index int, emit func(point.Reading)) error {
	if index != 0 || len(d.jobs) == 0 {
		return fmt.Errorf("osdp: no job %d", index)
	}
	d.flush(emit)
	err := d.poll(ctx)
	if err == nil || answered(err) {
		d.flush(emit)
	}
	return err
}

// answered reports whether an error is the reader's own word.
func answered(err error) bool {
	return errors.Is(err, drivers.ErrRefused) || errors.Is(err, drivers.ErrBusy)
}

// Probe takes one step without emitting; nothing that it hears is lost.
func (d *Driver) Probe(ctx context.Context) error {
	err := d.step(ctx)
	if answered(err) {
		return nil
	}
	return err
}

// poll is one step, and the levels that are due: late ones only, when it read
// something.
func (d *Driver) poll(ctx context.Context) error {
	if err := d.step(ctx); err != nil {
		if errors.Is(err, drivers.ErrRefused) || d.state == Fallback && answered(err) {
			d.report(d.now())
		}
		return err
	}
	late := refresh
	if len(d.ready) > 0 {
		late = 2 * refresh // who passes waits, but nobody hides a level behind many cards
	}
	for n := 0; n < d.extra && d.phase == phaseOnline && !d.session.byDefault(); n++ {
		now := d.now()
		code := d.due(now, late)
		if code == 0 {
			break
		}
		d.send(now, command{code: code}, nil)
		if err := d.exchange(ctx); err != nil {
			return err
		}
	}
	now := d.now()
	d.points.endCodes(d, now)
	d.report(now)
	return nil
}

// due is the level command whose answer is so old that it is to be asked again,
// or 0.
func (d *Driver) due(now time.Time, late time.Duration) byte {
	switch {
	case d.points.local() && now.Sub(d.lstat) >= late:
		return osdp.CmdLStat
	case len(d.points.inputs) > 0 && now.Sub(d.istat) >= late:
		return osdp.CmdIStat
	}
	return 0
}

// flush emits what is ready.
func (d *Driver) flush(emit func(point.Reading)) {
	for i := range d.ready {
		emit(d.ready[i])
		d.ready[i] = point.Reading{}
	}
	d.ready = d.ready[:0]
}

// most is how many readings wait for the next poll; a reader that is probed only
// has no more to say.
const most = 64

// keep makes a reading ready.
func (d *Driver) keep(r point.Reading) {
	if len(d.ready) < most {
		d.ready = append(d.ready, r)
	}
}
