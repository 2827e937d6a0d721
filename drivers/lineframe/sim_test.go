package lineframe

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/drivers/sim"
	"gatehouse/protocol/point"
)

func TestASimulatedGasModuleIsRead(t *testing.T) {
	t.Parallel()
	module, err := sim.NewGasModule(map[string]float64{"co": 300, "h2s": 2, "o2": 19.4, "ch4": 12})
	if err != nil {
		t.Fatal(err)
	}
	d := build(t, gas(t), drivertest.Simulated(t, module))
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
	d := build(t, cards("decimal", ""), drivertest.Simulated(t, reader))
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
