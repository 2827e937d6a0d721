package dlt645

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
	"gatehouse/protocol/point"
)

// wire is a Link over an open connection. It slides as a bus does.
type wire struct {
	net.Conn
	rx []byte
}

// open connects a simulated device, which is written by the facts and without
// the drivers.
func open(t *testing.T, device sim.Device) *wire {
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
	return &wire{Conn: near}
}

func (w *wire) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
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

func TestASimulatedMeterIsRead(t *testing.T) {
	t.Parallel()
	meter, err := sim.NewMeter(sim.MeterOptions{
		Address: "200812345678", Preamble: 4, Frame: 8, // three bytes of data to a frame: energy takes two
		Values: map[string]float64{"frequency": 49.98},
	})
	if err != nil {
		t.Fatal(err)
	}
	meter.SetRaw(0, []byte{0x67, 0x45, 0x23, 0x01})
	for _, number := range []string{"200812345678", ""} {
		s := spec(
			item("energy", 0, "bcd", 4, 0.01), item("hertz", 0x02800002, "bcd", 2, 0.01),
			item("absent", 0x02010100, "bcd", 2, 0.1),
		)
		s.Meter = number
		d := build(t, s, open(t, meter))
		got := make(map[string]string)
		for i := range d.Jobs() {
			err := d.Do(t.Context(), i, func(r point.Reading) { got[r.Point.Name()] = r.Value.String() + " " + r.Quality.String() })
			if err != nil && (i != 2 || !errors.Is(err, drivers.ErrRefused)) {
				t.Errorf("job %d: %v", i, err)
			}
		}
		if got["energy"] != "12345.67 good" || got["hertz"] != "49.98 good" || got["absent"] != "- fault" {
			t.Errorf("meter %q: %v", number, got)
		}
		if err := d.Probe(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
