package lineframe

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
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

func TestASimulatedGasModuleIsRead(t *testing.T) {
	t.Parallel()
	module, err := sim.NewGasModule(map[string]float64{"co": 300, "h2s": 2, "o2": 19.4, "ch4": 12})
	if err != nil {
		t.Fatal(err)
	}
	d := build(t, gas(t), open(t, module))
	got := make(map[string]string)
	if err := d.Do(t.Context(), 0, func(r point.Reading) { got[r.Point.Name()] = r.Value.String() }); err != nil {
		t.Fatal(err)
	}
	if got["co"] != "300" || got["h2s"] != "2" || got["o2"] != "19.4" || got["ch4"] != "12" {
		t.Errorf("%v", got)
	}
}

func TestASimulatedReaderIsHeard(t *testing.T) {
	t.Parallel()
	reader := sim.NewTextReader("", "")
	d := build(t, cards("decimal", ""), open(t, reader))
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	var got []string
	ended := make(chan error, 1)
	go func() {
		ended <- d.(drivers.Source).Run(ctx, func(r point.Reading) {
			if got = append(got, r.Value.Text); len(got) == 2 {
				stop()
			}
		})
	}()
	drivertest.Eventually(t, 5*time.Second, "line that hears the reader", func() bool { return reader.Attached() > 0 })
	reader.Present(0x12345678)
	reader.Present(42)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the run ended with %v", err)
	}
	if want := []string{"<uid:12345678>", "<uid:0000002A>"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
