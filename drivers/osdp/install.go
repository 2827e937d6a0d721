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
	used  bool // the default key has had its session
	sent  bool // the new key
}

func (i *install) open(now time.Time) bool { return now.Before(i.until) }

func (i *install) expired(now time.Time) bool { return !i.until.IsZero() && !i.open(now) }

// byDefault reports whether the default key may be tried.
func (i *install) byDefault(now time.Time) bool { return i.open(now) && !i.used }

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
// by a key it was given before or, once, by the default key.
func (d *Driver) Command(_ context.Context, name string) error {
	if name != installCommand || d.keys == nil {
		return fmt.Errorf("osdp: no command %q", name)
	}
	d.install = install{until: d.now().Add(installWindow)}
	d.session.delay, d.session.retry = 0, time.Time{}
	if !d.session.up {
		d.session.noOwn = false
		if d.state == NotInstalled || d.state == Clear {
			d.state = Installing
		}
	}
	d.log.Info("an install order is open for the reader", "for", installWindow)
	return nil
}

// changeKey makes a new key durable and sends it. It returns false if it could
// not, and then the order has ended.
func (d *Driver) changeKey(now time.Time) bool {
	key := make([]byte, osdp.KeySize)
	rand.Read(key) // it never fails
	defer clear(key)
	if err := d.keys.Propose(bytes.Clone(key)); err != nil {
		d.log.Error("the reader's new key could not be stored; the install order has ended", "err", err)
		d.install = install{}
		if d.session.byDefault() {
			d.fallBack(now, fmt.Errorf("storing its key: %w", err))
		}
		return false
	}
	d.session.installed = true // whether the reader has taken it, nobody knows before the next challenge
	d.install.sent = true
	payload := osdp.AppendKeySet(d.payload[:0], key)
	d.send(now, command{code: osdp.CmdKeySet}, payload)
	clear(payload)
	return true
}

// keyTaken goes on to a session by the new key.
func (d *Driver) keyTaken() {
	d.session.end()
	d.session.delay, d.session.retry, d.session.noOwn = 0, time.Time{}, false
	d.phase = phaseChallenge
}

var _ drivers.Commander = (*Driver)(nil)
