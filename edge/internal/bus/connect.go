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

// redial is the state of a link that does not open.
type redial struct {
	failures int
	since    time.Time // of the first failure
	at       time.Time // not before
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
		if b.redial.failures > 0 {
			if now.Sub(b.redial.since) > b.cycle {
				b.forgive() // who was silent before so short a while still is
			}
			b.opts.Log.Info("link is back", "link", b.link.String(),
				"attempts", b.redial.failures, "away", now.Sub(b.redial.since).Round(time.Millisecond))
		}
		b.redial = redial{}
		b.lastByte, b.heardAt, b.mode, b.learned = now, now, b.link.Mode, false
	case ctx.Err() != nil:
	default:
		b.redial.after(now)
		if errors.Is(err, errNobodyDialled) {
			b.redial.at = now // waiting was the pause, and a DTU that comes is served at once
		}
		if b.redial.failures > 1 {
			return
		}
		b.up.Store(false)
		b.metrics.up.Store(false)
		for _, dev := range b.devices {
			dev.up = false
			dev.metrics.up.Store(false)
		}
		b.opts.Log.Warn("link does not open, trying on", "link", b.link.String(),
			"err", err, "hint", openHint(b.link, err))
	}
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
