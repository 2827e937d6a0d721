package osdp

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/osdp"
)

// install is an order to give the reader a key of its own. The zero install is none.
type install struct {
	until time.Time
	first bool      // the default key may be tried
	used  bool      // the default key has had its session
	key   []byte    // that was proposed
	sent  bool      // it, and the reader has not refused it
	after time.Time // when one that did not arrive is followed by another
}

func (i *install) open(now time.Time) bool { return now.Before(i.until) }

func (i *install) expired(now time.Time) bool { return !i.until.IsZero() && !i.open(now) }

// byDefault reports whether the default key may be tried.
func (i *install) byDefault(now time.Time) bool { return i.open(now) && i.first && !i.used }

// due reports whether it is time to send a key.
func (i *install) due(now time.Time) bool { return i.open(now) && !i.sent && !now.Before(i.after) }

// end forgets the order and its key.
func (i *install) end() {
	clear(i.key)
	*i = install{}
}

// installCommand gives the reader a key of its own.
const installCommand = "install"

// Commands are what can be ordered of a reader.
func (d *Driver) Commands() []string {
	if d.keys == nil {
		return nil
	}
	return []string{installCommand}
}

// Command opens the install window: the reader gets a random key, be its session
// by a key it was given before or, once, by the default key. The default key is for
// a reader without a key, and for one that takes the place of an installed one: it
// has then failed to prove that one's. While a reader holds to its session, or is
// just not there, the order is no way in for another.
func (d *Driver) Command(_ context.Context, name string) error {
	if name != installCommand || d.keys == nil {
		return fmt.Errorf("osdp: no command %q", name)
	}
	if _, err := d.keys.Candidates(); err != nil {
		return fmt.Errorf("osdp: the reader's keys cannot be read, and another would be lost too: %w", err)
	}
	installed := d.wasInstalled()
	d.install.end()
	d.install = install{until: d.now().Add(installWindow), first: !installed || d.state == Fallback}
	d.session.delay, d.session.retry = 0, time.Time{}
	if !d.session.up {
		d.session.noOwn = false
		if d.state == NotInstalled || d.state == Clear {
			d.state = Installing
		}
	}
	d.log.Info("an install order is open for the reader", "for", installWindow, "default_key", d.install.first)
	return fmt.Errorf("%w until %s: the reader's secure point shows when it holds its key", drivers.ErrUnderway, d.install.until.Format("15:04:05"))
}

// changeKey makes a new key durable and sends it. It returns false if it could
// not, and then the order has ended.
func (d *Driver) changeKey(now time.Time) bool {
	if d.install.key == nil {
		key := make([]byte, osdp.KeySize)
		rand.Read(key) // it never fails
		if err := d.keys.Propose(bytes.Clone(key)); err != nil {
			clear(key)
			d.log.Error("the reader's new key could not be stored; the install order has ended", "err", err)
			d.install.end()
			if d.session.byDefault() {
				d.fallBack(now, fmt.Errorf("storing its key: %w", err))
			}
			return false
		}
		d.install.key = key
	}
	d.session.installed = true // whether the reader has taken it, nobody knows before the next challenge
	d.install.sent = true
	payload := osdp.AppendKeySet(d.payload[:0], d.install.key)
	d.send(now, command{code: osdp.CmdKeySet}, payload)
	clear(payload)
	return true
}

// keyRefused ends the order: the reader has said, and proven, that it does not take
// the key.
func (d *Driver) keyRefused(reason osdp.NAK) {
	d.log.Warn("the reader refuses a new key; the install order has ended", "err", reason)
	if err := d.keys.Withdraw(d.install.key); err != nil {
		d.log.Error("the key that the reader refused could not be forgotten", "err", err)
	}
	d.install.end()
	d.session.installed = d.wasInstalled()
	if d.session.byDefault() || reason == osdp.NAKSequence || reason == osdp.NAKUnsupported || reason == osdp.NAKCondition {
		d.restart()
	}
}

// settle follows the proof of an own key: the reader holds that one and no other,
// and the order, if there is one, is for this reader.
func (d *Driver) settle(now time.Time) {
	d.install.first = false
	changed := d.install.sent && osdp.Same(d.install.key, d.session.key)
	if keys, err := d.stored(); err == nil && (len(keys) > 1 || changed) {
		if err := d.keys.Settle(d.session.key); err != nil {
			d.log.Error("the reader's older keys could not be forgotten", "err", err)
		}
	}
	switch {
	case changed:
		d.log.Info("the reader is installed: it holds a key of its own")
		d.install.end()
	case d.install.key != nil:
		d.log.Warn("the reader still holds its older key: the new one did not arrive", "retry", keyRetry)
		clear(d.install.key)
		d.install.key, d.install.sent, d.install.after = nil, false, now.Add(keyRetry)
	}
}

// keyTaken goes on to a session by the new key.
func (d *Driver) keyTaken() {
	d.session.end()
	d.session.delay, d.session.retry, d.session.noOwn = 0, time.Time{}, false
	d.phase = phaseChallenge
}

var _ drivers.Commander = (*Driver)(nil)
