package modbus

import (
	"errors"
	"slices"
	"testing"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

func TestASecondLookThatFailsHalfwayLeavesTheFirstWhole(t *testing.T) {
	replies := []uint16{140, 0, 12} // value, state, value again; then silence
	link := &drivertest.Script{Otherwise: func(request []byte) []byte {
		if len(replies) == 0 {
			return nil
		}
		next := replies[0]
		replies = replies[1:]
		return drivertest.ReplyRTU(nil, request, func(_, _ byte, _ uint16) uint16 { return next })
	}}
	gas, state := holding("ch4", 0), holding("state", 5)
	gas.Role, gas.Max, gas.StatusOf = "gas", float(100), "state"
	state.Kind, state.States = point.State, map[uint64]drivers.State{0: {Name: "normal", Class: drivers.ClassNormal}}
	d := build(t, spec(gas, state), link)
	got := make(map[point.ID]point.Reading)
	err := d.Do(t.Context(), 0, func(r point.Reading) { got[r.Point] = r })
	if !errors.Is(err, drivers.ErrNoReply) || got["d/ch4"].Value.Num != 140 || got["d/ch4"].Quality != point.Good {
		t.Errorf("%v, %v; want the 140 that was seen, and ErrNoReply", got, err)
	}
}

func TestLowOxygenIsReadAgainBeforeItIsEmitted(t *testing.T) {
	link, asked := sequence(65535, 20)
	o2 := holding("o2", 0)
	o2.Type, o2.Role, o2.Min = "s16", "oxygen", float(0)
	d := build(t, spec(o2), link)
	var got []point.Reading
	if err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Value.Num != 20 || *asked != 2 {
		t.Errorf("emitted %+v after %d requests, want 20 after 2", got, *asked)
	}
}

func TestAProbeAsksBehindTheUnitThatWasSilent(t *testing.T) {
	unit := func(name string, plus int) drivers.PointSpec {
		p := holding(name, 0)
		p.At.UnitPlus = plus
		return p
	}
	link := &drivertest.Script{Record: true}
	d := build(t, spec(unit("a", 0), unit("b", 1), unit("c", 2)), link)
	for range 4 {
		if err := d.Probe(t.Context()); !errors.Is(err, drivers.ErrNoReply) {
			t.Fatal(err)
		}
	}
	if err := d.Do(t.Context(), 1, func(point.Reading) {}); !errors.Is(err, drivers.ErrNoReply) {
		t.Fatal(err)
	}
	if err := d.Probe(t.Context()); !errors.Is(err, drivers.ErrNoReply) {
		t.Fatal(err)
	}
	var units []byte
	for _, tx := range link.Sent {
		units = append(units, tx[0])
	}
	if want := []byte{1, 2, 3, 1, 2, 3}; !slices.Equal(units, want) {
		t.Errorf("asked units %v, want four in turn, then 2 by the poll and 3 behind it: %v", units, want)
	}
}

func TestADeviceThatIsBusyIsAliveAndGivesNoReading(t *testing.T) {
	for _, code := range []modbus.Code{modbus.Acknowledge, modbus.DeviceBusy} {
		d := build(t, spec(holding("a", 0)), &drivertest.Script{Otherwise: func(request []byte) []byte {
			return drivertest.Exception(nil, request, code)
		}})
		err := d.Do(t.Context(), 0, func(r point.Reading) { t.Errorf("%v: emitted %v", code, r) })
		if !errors.Is(err, drivers.ErrBusy) || errors.Is(err, drivers.ErrRefused) {
			t.Errorf("%v: %v, want ErrBusy", code, err)
		}
		if err := d.Probe(t.Context()); err != nil {
			t.Errorf("%v: probe: %v; it is an answer", code, err)
		}
	}
}

func TestNeighboursOfOneKindAreReadAsEachSays(t *testing.T) {
	contact := func(name string, address uint32, active uint64) drivers.PointSpec {
		p := holding(name, address)
		p.Kind, p.Active = point.Bool, code(active)
		return p
	}
	s := spec(
		contact("a", 0, 2), contact("b", 1, 2), contact("c", 2, 2), contact("other", 3, 3), contact("apart", 5, 2),
		holding("m", 6), holding("n", 7), holding("o", 8),
	)
	s.Hole = 1
	got := readOne(t, s, unhex(t, "0002 0001 0002 0002 0000 0002 000A 000B 000C"))
	for name, want := range map[string]string{
		"a": "true", "b": "false", "c": "true", "other": "false", "apart": "true", "m": "10", "n": "11", "o": "12",
	} {
		if r := got[point.MakeID("d", name)]; r.Value.String() != want || r.Quality != point.Good {
			t.Errorf("%s: %+v, want %s", name, r, want)
		}
	}
	var counts []int32
	for _, r := range build(t, s, &drivertest.Script{}).jobs[0].runs {
		counts = append(counts, r.count)
	}
	if want := []int32{3, 1, 1, 3}; !slices.Equal(counts, want) {
		t.Errorf("runs of %v points, want %v", counts, want)
	}
}
