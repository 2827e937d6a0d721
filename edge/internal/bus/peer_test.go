package bus_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/drivers/modbus"
	"gatehouse/edge/internal/bus"
	"gatehouse/protocol/point"
)

// pymodbusUnits is what the independent slave holds: a four-gas channel, a
// meter, a thermometer and a relay module.
var pymodbusUnits = map[int]drivertest.Tables{
	1: {
		"holding":  {0: 0x2400, 1: 125, 2: 0, 3: 0, 4: 0, 5: 5},
		"input":    {0: 0x4366, 1: 0x199A, 8: 0xFFE7, 9: 1, 10: 2},
		"discrete": {0: 1, 1: 0, 2: 1, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 8: 1},
		"coil":     {0: 0, 1: 1},
	},
	2: {"holding": {0: 42}},
}

// pymodbusDevices are two devices that read and write all of it.
func pymodbusDevices(framing drivers.Framing) []drivers.Spec {
	at := func(space string, address uint32) drivers.Item { return drivers.Item{Space: space, Address: address} }
	states := map[uint64]drivers.State{5: {Name: "low_alarm", Class: drivers.ClassAlarm}}
	return []drivers.Spec{
		{Device: "m", Framing: framing, Address: 1, Every: 100 * time.Millisecond, Hole: 3, Points: []drivers.PointSpec{
			{ID: "m/ch4", Role: "gas", Kind: point.Number, At: at("holding", 0), Type: "u32", Bits: 0x00C0FFFF, StatusOf: "state",
				Decimals: &drivers.Lookup{At: at("holding", 0), Bits: 0x0F00, Map: map[uint64]float64{4: 1}},
				UnitFrom: &drivers.Lookup{At: at("holding", 0), Bits: 0xF000, Map: map[uint64]float64{2: 1}}},
			{ID: "m/state", Role: "detector_state", Kind: point.State, At: at("holding", 5), Bits: 0xFF, States: states},
			{ID: "m/volt", Kind: point.Number, Type: "f32", At: at("input", 0)},
			{ID: "m/temp", Kind: point.Number, Type: "s16", Scale: 0.1, At: at("input", 8)},
			{ID: "m/count", Kind: point.Number, Type: "u32", Order: "LH", At: at("input", 9)},
			{ID: "m/di1", Kind: point.Bool, At: at("discrete", 0)},
			{ID: "m/di2", Kind: point.Bool, Invert: true, At: at("discrete", 1)},
			{ID: "m/di9", Kind: point.Bool, At: at("discrete", 8)},
			{ID: "m/relay", Kind: point.Bool, At: at("coil", 0), Write: &drivers.Output{At: at("coil", 0)}},
			{ID: "m/lamp", Kind: point.Bool, At: at("coil", 1), Write: &drivers.Output{At: at("coil", 1)}},
		}},
		{Device: "n", Framing: framing, Address: 2, Every: 100 * time.Millisecond, Points: []drivers.PointSpec{
			{ID: "n/v", Kind: point.Number, At: at("holding", 0)},
			{ID: "n/missing", Kind: point.Number, At: at("holding", 9000)},
		}},
	}
}

func TestPymodbusOverTCP(t *testing.T) {
	t.Parallel()
	address := drivertest.PymodbusTCP(t, pymodbusUnits)
	readAndWrite(t, "tcp://"+address, drivers.TCP)
}

func TestPymodbusOverASerialLine(t *testing.T) {
	t.Parallel()
	ours, theirs := drivertest.SocatPair(t)
	drivertest.PymodbusRTU(t, pymodbusUnits, theirs)
	readAndWrite(t, "serial:"+ours+"?baud=9600", drivers.RTU)
}

// readAndWrite checks every value through bus and driver, then commands the
// relay and reads it back.
func readAndWrite(t *testing.T, link string, framing drivers.Framing) {
	f := &fixture{devices: make(map[string]*drivers.Spec)}
	for _, spec := range pymodbusDevices(framing) {
		f.devices[spec.Device] = &spec
		f.order = append(f.order, spec.Device)
	}
	rec := newRecorder()
	b := start(t, bus.Options{ID: "b", Link: link, Framing: framing, Retries: 1, Emit: rec.take}, f)
	good := []expectation{
		{"m/ch4", "12.5", "good"}, {"m/state", "low_alarm", "good"}, {"m/volt", "230.1", "good"},
		{"m/temp", "-2.5", "good"}, {"m/count", "131073", "good"}, {"m/di1", "true", "good"}, {"m/di2", "true", "good"},
		{"m/di9", "true", "good"}, {"m/relay", "false", "good"}, {"m/lamp", "true", "good"},
		{"n/v", "42", "good"}, {"n/missing", "-", "fault"},
	}
	drivertest.Eventually(t, 20*time.Second, "value of each kind", func() bool { return rec.all(good) })
	for _, r := range rec.snapshot() {
		if r.Quality == point.Good && !containsMatch(good, r) {
			t.Errorf("%s was read as %v", r.Point, r.Value)
		}
	}
	if err := b.Write(t.Context(), "m/relay", point.Truth(true)); err != nil {
		t.Fatalf("writing: %v", err)
	}
	if err := b.Write(t.Context(), "m/lamp", point.Truth(false)); err != nil {
		t.Fatalf("writing: %v", err)
	}
	drivertest.Eventually(t, 20*time.Second, "relay read back", func() bool {
		return rec.all([]expectation{{"m/relay", "true", "good"}, {"m/lamp", "false", "good"}})
	})
}

func containsMatch(list []expectation, r point.Reading) bool {
	for _, e := range list {
		if e.matches(r) {
			return true
		}
	}
	return false
}

// start runs a bus with the fixture's devices until the test ends.
func start(t *testing.T, opts bus.Options, f *fixture) *bus.Bus {
	t.Helper()
	b, err := bus.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	attach(t, b, f)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return b
}

func attach(t *testing.T, b *bus.Bus, f *fixture) {
	t.Helper()
	for _, id := range f.order {
		d, err := modbus.New(*f.devices[id], drivers.Deps{Link: b.Link(id, bus.Timing{})})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Attach(id, d); err != nil {
			t.Fatal(err)
		}
	}
}
