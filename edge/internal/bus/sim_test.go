package bus_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/drivers/sim"
	"gatehouse/edge/internal/bus"
	"gatehouse/protocol/point"
)

// simLine is a line of Modbus slaves that the simulator plays: slave n holds n in
// its register 0 and 1000+n in register 1.
func simLine(t *testing.T, listener sim.Listener, slaves uint8) *sim.Sim {
	t.Helper()
	sc := &sim.Scenario{Listeners: []sim.Listener{listener}}
	for id := uint8(1); id <= slaves; id++ {
		sc.Units = append(sc.Units, sim.Unit{Listener: listener.Name, ID: id, Holding: sim.Cells{
			{Address: 0, Value: uint16(id)}, {Address: 1, Value: 1000 + uint16(id)}}})
	}
	s, err := sim.Start(sim.Options{Scenario: sc, Hold: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// simDevices are what a bus polls on a simLine.
func simDevices(slaves int, every time.Duration) *fixture {
	f := &fixture{devices: make(map[string]*drivers.Spec)}
	for unit := 1; unit <= slaves; unit++ {
		id := string(rune('a' + unit))
		f.order = append(f.order, id)
		f.devices[id] = &drivers.Spec{Device: id, Framing: drivers.RTU, Address: unit, Every: every, Points: []drivers.PointSpec{
			{ID: point.MakeID(id, "v"), Kind: point.Number, At: drivers.Item{Space: "holding", Address: 0}},
			{ID: point.MakeID(id, "w"), Kind: point.Number, At: drivers.Item{Space: "holding", Address: 1}},
		}}
	}
	return f
}

// checkTruth looks for a reading that is not its own slave's.
func checkTruth(t *testing.T, readings []point.Reading) {
	t.Helper()
	for _, r := range readings {
		want := float64(r.Point.Device()[0] - 'a')
		if r.Point.Name() == "w" {
			want += 1000
		}
		if r.Quality == point.Good && r.Value.Num != want {
			t.Errorf("%s = %v, want %v", r.Point, r.Value, want)
		}
	}
}

func TestFiveHundredFramesOnALinePacedAt9600Baud(t *testing.T) {
	t.Parallel()
	link := ""
	s := simLine(t, sim.Listener{Name: "l", PTY: &link}, 4)
	relay, err := sim.RelayPTY(s.PTYPath("l"), sim.RelayOptions{Baud: 9600})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	rec, registry := newRecorder(), prometheus.NewRegistry()
	begun := time.Now()
	start(t, bus.Options{ID: "b", Link: "serial:" + relay.PTY() + "?baud=9600",
		Timeout: 3 * time.Second, Emit: rec.take, Registerer: registry}, simDevices(4, 20*time.Millisecond))
	total := func() int { return rec.times("b/v") + rec.times("c/v") + rec.times("d/v") + rec.times("e/v") }
	drivertest.Eventually(t, 50*time.Second, "five hundred frames", func() bool { return total() >= 500 })
	took := time.Since(begun)
	checkTruth(t, rec.snapshot())
	for _, name := range []string{"gatehouse_poll_errors_total", "gatehouse_bus_foreign_bytes_total", "gatehouse_device_demotions_total"} {
		if n, err := gather(registry, name); err != nil || n != 0 {
			t.Errorf("%s = %v, %v", name, n, err)
		}
	}
	// 17 characters and the silence of 3.5; the rest is what this machine takes.
	if least := 500 * (17 + 3.5) * 10 * time.Second / 9600; took < time.Duration(float64(least)*0.99) {
		t.Errorf("took %v: faster than the line, which takes %v", took, least)
	}
	for id := 'b'; id <= 'e'; id++ {
		if n := rec.times(point.MakeID(string(id), "v")); n < 110 {
			t.Errorf("%c was read %d times of 500: the others starve it", id, n)
		}
	}
}

func TestSlavesThatMisbehaveHarmNobodyElse(t *testing.T) {
	t.Parallel()
	four := uint8(4)
	pty := ""
	tcp := "127.0.0.1:0"
	for name, listener := range map[string]sim.Listener{
		"serial":        {Name: "l", PTY: &pty},
		"serial server": {Name: "l", TCP: &tcp, Framing: "rtu"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := simLine(t, listener, 8)
			link := "tcp://" + s.TCPAddr("l")
			if listener.PTY != nil {
				link = "serial:" + s.PTYPath("l") + "?baud=115200"
			}
			rec := newRecorder()
			start(t, bus.Options{ID: "b", Link: link, Framing: drivers.RTU, Timeout: 80 * time.Millisecond, Retries: 1, Emit: rec.take}, simDevices(8, 50*time.Millisecond))
			read := func(unit byte) int { return rec.times(point.MakeID(string('a'+rune(unit)), "v")) }
			drivertest.Eventually(t, 20*time.Second, "all", func() bool { return read(1) > 0 && read(8) > 0 })
			for id, fault := range map[string]sim.Fault{
				"l/1": {Late: 250 * time.Millisecond}, // another's turn by then
				"l/2": {Twice: true},
				"l/3": {As: &four},
				"l/5": {Silent: true},
				"l/6": {Refuse: 2},
			} {
				if err := s.SetFault(id, fault); err != nil {
					t.Fatal(err)
				}
			}
			before := read(8)
			drivertest.Eventually(t, 60*time.Second, "readings of the sound slaves", func() bool { return read(4) > before+50 && read(7) > before+50 && read(8) > before+50 })
			for unit := range 8 {
				if err := s.SetFault("l/"+string('1'+rune(unit)), sim.Fault{}); err != nil {
					t.Fatal(err)
				}
			}
			var now [9]int
			for unit := range byte(8) {
				now[unit+1] = read(unit + 1)
			}
			drivertest.Eventually(t, 60*time.Second, "all again", func() bool {
				for unit := byte(1); unit <= 8; unit++ {
					if read(unit) < now[unit]+3 {
						return false
					}
				}
				return true
			})
			checkTruth(t, rec.snapshot())
		})
	}
}
