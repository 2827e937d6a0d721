package bus

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"time"

	"go.bug.st/serial"
)

// Bounds of the time between two attempts to open a link.
const (
	redialFirst = 200 * time.Millisecond
	redialMax   = 5 * time.Second
)

// provenAfter is how long a connection lives that is none of a server which accepts
// and hangs up.
const provenAfter = 5 * time.Second

// lostPause is the least time between two lines about a lost link.
const lostPause = time.Minute

// redial is the state of a link that does not open, or does not stay open.
type redial struct {
	failures int
	since    time.Time // of the first failure
	at       time.Time // not before
	forgiven bool      // the devices, since the first failure
	warned   bool      // the storm was written down
	dark     bool      // so was that the link does not open

	opened time.Time // last
	proven bool      // it carried a frame since, or lived for long
	told   time.Time // when a loss was last written down
	untold int       // losses since
}

// after counts a failure and sets the next attempt: doubling, and jittered so
// that links which failed together do not come back together.
func (r *redial) after(now time.Time) {
	if r.failures == 0 {
		r.since = now
	}
	delay := min(redialFirst<<min(r.failures, 10), redialMax)
	r.failures++
	r.at = now.Add(delay/2 + rand.N(delay/2))
}

// connect opens the link once. One line is logged when a storm of failures
// begins and one when it is over.
func (b *Bus) connect(ctx context.Context) {
	err := b.line.open(ctx)
	b.opts.Beat()
	now := b.opts.Now()
	switch {
	case err == nil:
		b.up.Store(true)
		b.metrics.up.Store(true)
		b.metrics.connects.Add(1)
		if !b.redial.forgiven {
			b.forgiveOutage(now)
		}
		b.redial.opened, b.redial.proven = now, false
		b.lastByte, b.heardAt, b.mode, b.learned = now, now, b.link.Mode, false
	case ctx.Err() != nil:
	default:
		b.redial.after(now)
		if errors.Is(err, errNobodyDialled) {
			b.redial.at = now // waiting was the pause, and a DTU that comes is served at once
		}
		b.up.Store(false)
		b.metrics.up.Store(false)
		for _, dev := range b.devices {
			dev.up = false
			dev.metrics.up.Store(false)
		}
		if b.redial.dark {
			return
		}
		b.redial.dark, b.redial.warned = true, true
		b.opts.Log.Warn("link does not open, trying on", "link", b.link.String(),
			"err", err, "hint", openHint(b.link, err))
	}
}

// forgiveOutage gives the devices a fresh start if the link was away for long: who
// was silent before a short while still is.
func (b *Bus) forgiveOutage(now time.Time) {
	if b.redial.failures > 0 && now.Sub(b.redial.since) > b.cycle {
		b.redial.forgiven = true
		b.forgive()
	}
}

// proven notes that the link works, which it did not before it carried a frame:
// there are servers that accept every connection and hang up.
func (b *Bus) proven(now time.Time) {
	r := &b.redial
	if r.proven {
		return
	}
	if r.failures > 0 {
		b.forgiveOutage(now)
		if r.warned {
			b.opts.Log.Info("link is back", "link", b.link.String(),
				"attempts", r.failures, "away", r.opened.Sub(r.since).Round(time.Millisecond))
		}
	}
	*r = redial{opened: r.opened, proven: true, told: r.told, untold: r.untold}
}

// lived takes a connection for proven that has lived for long.
func (b *Bus) lived(now time.Time) {
	if b.line.isOpen() && now.Sub(b.redial.opened) >= provenAfter {
		b.proven(now)
	}
}

// lost notes that an open link failed. One that was of use is opened again at once,
// unless a device talks unasked on it, which would do so for ever; any other one
// after a pause. The first loss of a storm is written down.
func (b *Bus) lost(err error) {
	now := b.opts.Now()
	r := &b.redial
	if !r.proven && now.Sub(r.opened) >= provenAfter {
		b.proven(now)
	}
	if r.proven && b.source == nil {
		return
	}
	r.proven = false
	r.after(now)
	if r.failures > 1 {
		return
	}
	r.untold++
	if !r.told.IsZero() && now.Sub(r.told) < lostPause {
		return
	}
	b.opts.Log.Warn("link lost", "link", b.link.String(), "err", err, "count", r.untold,
		"hint", "if it was closed at once, the server has no place for one more client, or lets in other addresses only")
	r.told, r.untold, r.warned = now, 0, true
}

// openHint says what a person can do about it.
func openHint(link Link, err error) string {
	var port *serial.PortError
	isPort := errors.As(err, &port)
	switch {
	case link.Serial && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENXIO)):
		return "no such device: plug the adapter in, and compare the path with ls -l /dev/serial/by-path"
	case errors.Is(err, errPortTaken), errors.Is(err, syscall.EBUSY), isPort && port.Code() == serial.PortBusy:
		return "stop the other program (fuser -v PATH shows which), or put the devices of both buses on one"
	case errors.Is(err, errRS485):
		return "remove rs485=... from the link: this port switches direction by itself, or not at all"
	case errors.Is(err, errNobodyDialled):
		return "check that the DTU is set as TCP client to an address of this box and this port, its registration packet, and its SIM or network"
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens on this port (ss -ltnp shows which): stop it, or choose another port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this box has no such address: write tcp-listen://:PORT"
	case link.Listen && errors.Is(err, fs.ErrPermission):
		return "ports below 1024 are reserved: choose a higher one, here and in the DTU"
	case errors.Is(err, fs.ErrPermission), isPort && port.Code() == serial.PermissionDenied:
		return "add the user of this service to the group dialout"
	case isPort:
		return "not a usable serial port: check path, baud, parity and stop"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the host is there but nothing listens: check the port, and whether the device allows one more client"
	default:
		return "check address, cable, switch and power of the device"
	}
}
