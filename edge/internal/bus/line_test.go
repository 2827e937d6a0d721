package bus_test

import (
	"bytes"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/edge/internal/bus"
	"gatehouse/protocol/point"
)

// one is a fixture with one register of one device.
func one(framing drivers.Framing, every time.Duration) *fixture {
	return &fixture{order: []string{"d"}, devices: map[string]*drivers.Spec{"d": {
		Device: "d", Framing: framing, Address: 1, Every: every,
		Points: []drivers.PointSpec{{ID: "d/v", Kind: point.Number, At: drivers.Item{Space: "holding", Address: 0}}},
	}}}
}

// constant is a slave all of whose registers hold v.
func constant(v uint16) drivertest.Handler {
	return func(w io.Writer, request []byte) error {
		_, err := w.Write(drivertest.ReplyRTU(nil, request, func(_, _ byte, _ uint16) uint16 { return v }))
		return err
	}
}

// logLines is a log that can be read while it is written.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), s)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestAMissingAdapterIsWaitedForAndAPulledOneComesBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "adapter")
	rec, log := newRecorder(), &logLines{}
	registry := prometheus.NewRegistry()
	start(t, bus.Options{ID: "b", Link: "serial:" + path, Timeout: 200 * time.Millisecond, Emit: rec.take,
		Log: log.logger(), Registerer: registry}, one(drivers.RTU, 50*time.Millisecond))
	drivertest.Eventually(t, 10*time.Second, "line in the log", func() bool { return log.count("link does not open") == 1 })
	if log.count("/dev/serial/by-path") != 1 {
		t.Errorf("no hint in %s", &log.buf)
	}

	plug := func() *os.File {
		master, port := drivertest.PTY(t)
		drivertest.ServePTY(t, master, drivertest.RTURequest, constant(7))
		os.Remove(path)
		if err := os.Symlink(port, path); err != nil {
			t.Fatal(err)
		}
		return master
	}
	master := plug()
	drivertest.Eventually(t, 10*time.Second, "reading", func() bool { return rec.times("d/v") > 2 })
	os.Remove(path)
	master.Close()
	drivertest.Eventually(t, 10*time.Second, "loss seen", func() bool {
		down, err := gather(registry, "gatehouse_bus_up")
		return err == nil && down == 0
	})
	before := rec.times("d/v")
	plug()
	drivertest.Eventually(t, 10*time.Second, "reading after it was plugged in again", func() bool { return rec.times("d/v") > before+2 })
	if n := log.count("link does not open"); n != 2 {
		t.Errorf("%d lines for two losses", n)
	}
}

func TestARefusedConnectionSaysWhatToDo(t *testing.T) {
	t.Parallel()
	address, stop := drivertest.Serve(t, drivertest.TCPRequest, constant(0))
	stop()
	log := &logLines{}
	start(t, bus.Options{ID: "b", Link: "tcp://" + address, Emit: func([]point.Reading) {}, Log: log.logger()}, one(drivers.TCP, time.Second))
	drivertest.Eventually(t, 10*time.Second, "line in the log", func() bool { return log.count("nothing listens") == 1 })
}

// Promise 11, short form: 1 % of all bytes flipped, both ways.
func TestANoisyLineGivesNoWrongValue(t *testing.T) {
	t.Parallel()
	master, path := drivertest.PTY(t)
	const truth = 0x1234
	random := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	flipped := 0
	noise := func(frame []byte) []byte {
		for i := range frame {
			if random.IntN(100) == 0 {
				frame[i] ^= 1 << random.IntN(8)
				flipped++
			}
		}
		return frame
	}
	drivertest.ServePTY(t, master, drivertest.RTURequest, func(w io.Writer, request []byte) error {
		mu.Lock()
		defer mu.Unlock()
		clean := bytes.Clone(request)
		if !bytes.Equal(noise(request), clean) {
			return nil // the slave does not understand
		}
		_, err := w.Write(noise(drivertest.ReplyRTU(nil, request, func(_, _ byte, _ uint16) uint16 { return truth })))
		return err
	})
	f := one(drivers.RTU, 5*time.Millisecond)
	for i := range 19 {
		p := f.devices["d"].Points[0]
		p.ID, p.At.Address = point.MakeID("d", string(rune('a'+i))), uint32(i+1)
		f.devices["d"].Points = append(f.devices["d"].Points, p)
	}
	rec := newRecorder()
	start(t, bus.Options{ID: "b", Link: "serial:" + path + "?baud=115200", Timeout: 60 * time.Millisecond, Retries: 2, Emit: rec.take}, f)
	drivertest.Eventually(t, 60*time.Second, "sixty readings", func() bool { return rec.times("d/v") > 60 })
	for _, r := range rec.snapshot() {
		if r.Value.Num != truth || r.Quality != point.Good {
			t.Errorf("%s = %v (%v) on a noisy line, want %d or nothing", r.Point, r.Value, r.Quality, truth)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if flipped < 10 {
		t.Errorf("only %d bytes were flipped: this proved nothing", flipped)
	}
}

func TestBusesShareTheMetricsOfOneRegistry(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	rec := newRecorder()
	for _, id := range []string{"east", "west"} {
		address, _ := drivertest.Serve(t, drivertest.RTURequest, constant(1))
		start(t, bus.Options{ID: id, Link: "tcp://" + address, Framing: drivers.RTU, Emit: rec.take, Registerer: registry},
			one(drivers.RTU, 20*time.Millisecond))
	}
	drivertest.Eventually(t, 10*time.Second, "both up", func() bool {
		up, err := gather(registry, "gatehouse_device_up")
		return err == nil && up == 2
	})
	for name, series := range map[string]int{
		"gatehouse_polls_total": 2, "gatehouse_poll_errors_total": 12, "gatehouse_poll_seconds": 2,
		"gatehouse_bus_up": 2, "gatehouse_device_poll_seconds": 2, "gatehouse_device_demotions_total": 2,
		"gatehouse_bus_busy_seconds_total": 2, "gatehouse_bus_sent_bytes_total": 2, "gatehouse_bus_received_bytes_total": 2, "gatehouse_bus_budget_ratio": 2, "gatehouse_device_up": 2,
		"gatehouse_bus_foreign_bytes_total": 2, "gatehouse_bus_connects_total": 2,
	} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n != series {
			t.Errorf("%s: %d series, %v; want %d", name, n, err, series)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestTwoDevicesBehindOneSerialServerAreNeverMixedUp(t *testing.T) {
	t.Parallel()
	address, _ := drivertest.Serve(t, drivertest.RTURequest, func(w io.Writer, request []byte) error {
		_, err := w.Write(drivertest.ReplyRTU(nil, request, func(unit, _ byte, _ uint16) uint16 { return uint16(unit) }))
		return err
	})
	f := &fixture{devices: make(map[string]*drivers.Spec)}
	for unit := 1; unit <= 4; unit++ {
		id := string(rune('0' + unit))
		f.order = append(f.order, id)
		f.devices[id] = &drivers.Spec{Device: id, Framing: drivers.RTU, Address: unit, Every: 5 * time.Millisecond, Points: []drivers.PointSpec{
			{ID: point.MakeID(id, "v"), Kind: point.Number, At: drivers.Item{Space: "holding", Address: 0}}}}
	}
	rec := newRecorder()
	start(t, bus.Options{ID: "b", Link: "tcp://" + address, Framing: drivers.RTU, Gap: time.Microsecond, Emit: rec.take}, f)
	drivertest.Eventually(t, 10*time.Second, "hundred readings of each", func() bool {
		return rec.times("1/v") > 100 && rec.times("2/v") > 100 && rec.times("3/v") > 100 && rec.times("4/v") > 100
	})
	for _, r := range rec.snapshot() {
		if r.Value.String() != r.Point.Device() {
			t.Errorf("%s = %v", r.Point, r.Value)
		}
	}
}
