package drivertest

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/sim"
)

// Wire is a Link over an open connection. It slides as a bus does.
type Wire struct {
	net.Conn
	rx []byte
}

// Simulated connects a simulated device, which is written by the facts and without
// the drivers.
func Simulated(t testing.TB, device sim.Device) *Wire {
	t.Helper()
	near, far := net.Pipe()
	line, err := sim.Open(sim.Place{Stream: far}, sim.Server{}, nil, device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		if err := line.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Wire{Conn: near}
}

// Exchange implements drivers.Link.
func (w *Wire) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	if len(tx) > 0 {
		w.rx = w.rx[:0]
		if _, err := w.Write(tx); err != nil {
			return nil, errors.Join(drivers.ErrLinkDown, err)
		}
	}
	deadline := time.Now().Add(2 * time.Second)
	for ctx.Err() == nil {
		for len(w.rx) > 0 {
			need, err := f(w.rx)
			if err == nil && need <= 0 {
				frame := slices.Clone(w.rx[:len(w.rx)+need])
				w.rx = w.rx[len(frame):]
				return frame, nil
			}
			if err == nil {
				break
			}
			w.rx = w.rx[1:]
		}
		var b [64]byte
		w.SetReadDeadline(deadline)
		n, err := w.Read(b[:])
		w.rx = append(w.rx, b[:n]...)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, drivers.ErrNoReply
		case err != nil:
			return nil, errors.Join(drivers.ErrLinkDown, err)
		}
	}
	return nil, ctx.Err()
}
