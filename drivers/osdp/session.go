package osdp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/protocol/osdp"
)

// session is the secure channel, from the first try on.
type session struct {
	channel   *osdp.Channel // nil: none
	up        bool          // both sides have proven that they hold the key
	key       []byte
	kind      byte // osdp.KeyDefault or osdp.KeyOwn
	cp        [osdp.RandomSize]byte
	pd        [osdp.RandomSize]byte
	since     time.Time
	bad       int  // replies in a row that did not authenticate
	installed bool // there is a key, or one that cannot be read
	noOwn     bool // the reader holds none of the own keys: the default key is next
	fresh     bool // the reader was started anew for this try

	delay time.Duration // before the next try; 0: none has failed
	retry time.Time
}

// end forgets the keys of the session.
func (s *session) end() {
	if s.channel != nil {
		s.channel.Wipe()
	}
	clear(s.key) // a copy
	s.channel, s.up, s.key, s.bad = nil, false, nil, 0
}

// byDefault reports whether the session has the key that everybody knows.
func (s *session) byDefault() bool { return s.up && s.kind == osdp.KeyDefault }

// proven reports whether the reader has proven a key of its own.
func (s *session) proven() bool { return s.up && s.kind == osdp.KeyOwn }

// usesDefault reports whether the default key is in use, be it for a session or to
// begin one.
func (d *Driver) usesDefault() bool {
	return d.session.kind == osdp.KeyDefault && (d.session.up || d.phase == phaseCrypt || d.pending.code == osdp.CmdChlng)
}

// begin is what follows the capabilities. What a reader says there of its
// security is clear text: whether it knows any shows at a challenge.
func (d *Driver) begin(now time.Time) {
	d.session.installed = d.wasInstalled()
	d.session.noOwn, d.session.fresh = false, true
	if soon := now.Add(firstRetry); d.session.retry.After(soon) {
		d.session.retry = soon // it may be another reader, or the right one again
	}
	d.phase = phaseOnline
	if d.wantsSession(now) {
		d.phase = phaseChallenge
		return
	}
	d.state = d.clearState(now)
}

// stored are the keys that are kept for the reader.
func (d *Driver) stored() ([][]byte, error) {
	if d.keys == nil {
		return nil, nil
	}
	return d.keys.Candidates()
}

// wasInstalled reports whether the reader was ever given a key. Where that cannot
// be known, it was.
func (d *Driver) wasInstalled() bool {
	keys, err := d.stored()
	return err != nil || len(keys) > 0
}

// candidates are the keys that the reader may hold. A key that anybody would try
// proves nothing.
func (d *Driver) candidates() ([][]byte, error) {
	keys, err := d.stored()
	if err != nil {
		return nil, fmt.Errorf("its keys cannot be read: %w", err)
	}
	keys = slices.DeleteFunc(slices.Clone(keys), func(k []byte) bool { return len(k) != osdp.KeySize || osdp.Guessable(k) })
	if len(keys) == 0 {
		return nil, errNoKey
	}
	return keys, nil
}

// errNoKey is the reason against a reader for which there is nothing to try.
var errNoKey = errors.New("no key is kept for it that it could prove")

// wantsSession reports whether it is time to try for one.
func (d *Driver) wantsSession(now time.Time) bool {
	return !d.session.up && !now.Before(d.session.retry) && (d.session.installed || d.install.byDefault(now))
}

// clearState is the state of a reader without a session.
func (d *Driver) clearState(now time.Time) int {
	switch {
	case d.session.installed:
		return Fallback
	case d.install.open(now):
		return Installing
	case d.allowClear:
		return Clear
	}
	return NotInstalled
}

// challenge sends a random number, unless there is no key to try.
func (d *Driver) challenge(now time.Time) error {
	s := &d.session
	s.end()
	err := errNoKey
	if s.installed && !s.noOwn {
		_, err = d.candidates()
	}
	switch {
	case err == nil:
		s.kind = osdp.KeyOwn
	case d.install.byDefault(now):
		s.kind = osdp.KeyDefault
	default:
		return err
	}
	rand.Read(s.cp[:]) // it never fails
	d.sendBlock(now, osdp.CmdChlng, osdp.BlockChlng, s.kind, s.cp[:])
	return nil
}

// answered finds the key that the reader holds: its cryptogram is compared with
// that of every one that it may be.
func (d *Driver) answered(now time.Time, f *osdp.Frame) {
	s := &d.session
	if f.Code != osdp.ReplyCCrypt || !bytes.Equal(f.Block, []byte{osdp.BlockCCrypt, s.kind}) {
		d.failHandshake(now, errors.New("it does not answer a challenge"))
		return
	}
	answer, err := osdp.DecodeCCrypt(f.Payload)
	if err != nil {
		d.failHandshake(now, err)
		return
	}
	keys := [][]byte{osdp.DefaultKey()}
	if s.kind == osdp.KeyOwn {
		if keys, err = d.candidates(); err != nil {
			d.failHandshake(now, err)
			return
		}
	}
	for _, key := range keys {
		c, err := osdp.NewChannel(key, s.cp[:])
		if err != nil {
			continue // never: the keys have their size
		}
		if proof := c.PDCryptogram(answer.Random[:]); osdp.Same(proof[:], answer.Cryptogram[:]) {
			s.channel, s.key, s.pd = c, bytes.Clone(key), answer.Random
			d.phase = phaseCrypt
			return
		}
	}
	d.failHandshake(now, osdp.ErrCryptogram)
}

// prove sends the panel's own proof.
func (d *Driver) prove(now time.Time) {
	proof := d.session.channel.CPCryptogram(d.session.pd[:])
	d.sendBlock(now, osdp.CmdSCrypt, osdp.BlockSCrypt, d.session.kind, proof[:])
}

// accepted ends the handshake.
func (d *Driver) accepted(now time.Time, f *osdp.Frame) {
	s := &d.session
	first := s.channel.Begin(s.channel.CPCryptogram(s.pd[:]))
	if f.Code != osdp.ReplyRMACI || !bytes.Equal(f.Block, []byte{osdp.BlockRMACI, osdp.Accepted}) || !osdp.Same(first[:], f.Payload) {
		d.failHandshake(now, errors.New("it does not accept the panel"))
		return
	}
	if s.kind == osdp.KeyDefault && !d.install.open(now) {
		d.restart() // the order ended meanwhile
		return
	}
	s.up, s.since, s.bad, s.fresh = true, now, 0, false
	d.phase = phaseOnline
	d.lstat, d.istat = time.Time{}, time.Time{}
	if s.kind == osdp.KeyDefault {
		d.install.used = true
		d.state = Installing
		return
	}
	if d.state != Secure {
		d.log.Info("the reader is in a secure session")
	}
	d.state, d.starts = Secure, 0
	d.settle(now)
}

// failHandshake notes that there will be no session now.
func (d *Driver) failHandshake(now time.Time, reason error) {
	s := &d.session
	own := s.kind == osdp.KeyOwn
	s.end()
	if own && d.install.byDefault(now) {
		s.noOwn, d.phase, d.state = true, phaseChallenge, Fallback
		d.log.Warn("the reader fails to prove its key; it is taken for another, to which the install order gives a key by the default one", "err", reason)
		return
	}
	d.fallBack(now, reason)
}

// distrust reports an installed reader that gives no proof of itself. It ends
// nothing: the right one is secure again as soon as it answers.
func (d *Driver) distrust(now time.Time, reason error) {
	if d.session.installed {
		d.state = Fallback
		d.blame(now, reason)
	}
}

// blame logs what speaks against an installed reader.
func (d *Driver) blame(now time.Time, reason error) {
	if now.Sub(d.blamed) < quietLog {
		return
	}
	d.blamed = now
	d.log.Warn("an installed reader does not hold to its secure session; what it says is not believed", "err", reason,
		"hint", "look at the reader and its wire; if it was replaced or reset, order install")
}

// loseSession notes that the reader has no session any more. That happens when it was
// without power; a session that did not live has failed.
func (d *Driver) loseSession(now time.Time, reason error) {
	if now.Sub(d.session.since) < settled {
		d.fallBack(now, reason)
		return
	}
	d.pending = command{}
	d.session.end()
	d.session.noOwn = false
	d.phase = phaseChallenge
}

// fallBack goes on in clear text, and tries again later and later.
func (d *Driver) fallBack(now time.Time, reason error) {
	s := &d.session
	longest := lastRetry
	if s.proven() {
		longest = provenRetry // one forged frame may end a session; it must not keep the true reader out
	}
	s.end()
	s.noOwn, s.fresh = false, false
	d.pending, d.phase = command{}, phaseOnline
	d.points.forgetCodes()
	s.delay = min(max(2*s.delay, firstRetry), longest)
	if d.install.open(now) {
		s.delay = firstRetry
	}
	s.retry = now.Add(s.delay)
	d.state = d.clearState(now)
	if d.state == Fallback {
		d.blame(now, reason)
		return
	}
	d.log.Info("no secure session with the reader", "err", reason)
}
