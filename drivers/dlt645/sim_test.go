package dlt645

import (
	"errors"
	"testing"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/drivers/sim"
	"gatehouse/protocol/point"
)

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
		d := build(t, s, drivertest.Simulated(t, meter))
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
