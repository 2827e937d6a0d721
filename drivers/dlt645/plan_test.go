package dlt645

import (
	"strings"
	"testing"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/point"
)

func TestEveryFaultOfASpecIsReported(t *testing.T) {
	bad := func(change func(*drivers.PointSpec)) drivers.Spec {
		p := item("p", 1, "bcd", 2, 1)
		change(&p)
		return spec(p)
	}
	whole := spec(item("p", 1, "bcd", 2, 1), item("p", 2, "bcd", 9, 1))
	whole.Meter, whole.Framing, whole.Frame, whole.Every = "12", drivers.TCP, &drivers.Frame{}, 0
	broadcast := spec(item("p", 1, "bcd", 2, 1))
	broadcast.Meter = "999999999999"
	tests := []struct {
		name string
		s    drivers.Spec
		want []string
	}{
		{"all at once", whole, []string{"want 12 digits", "framing tcp", "frame: DL/T 645", "listed twice", "size 9", "no poll period"}},
		{"nothing", spec(), []string{"no points"}},
		{"broadcast", broadcast, []string{"no meter answers a broadcast"}},
		{"space", bad(func(p *drivers.PointSpec) { p.At.Space = "holding" }), []string{"want di"}},
		{"type", bad(func(p *drivers.PointSpec) { p.Type = "u16" }), []string{"want bcd"}},
		{"size", bad(func(p *drivers.PointSpec) { p.Size = 0 }), []string{"want 1 to 8"}},
		{"bits", bad(func(p *drivers.PointSpec) { p.Bits = 1 << 16 }), []string{"bit 16 is outside"}},
		{"order", bad(func(p *drivers.PointSpec) { p.Order = "LH" }), []string{"the order of bytes is the protocol's"}},
		{"write", bad(func(p *drivers.PointSpec) { p.Write = &drivers.Output{} }), []string{"only read"}},
		{"kind", bad(func(p *drivers.PointSpec) { p.Kind = point.Text }), []string{"kind text"}},
		{"signed bool", bad(func(p *drivers.PointSpec) { p.Kind, p.Type = point.Bool, "sbcd" }), []string{"only a number has a sign"}},
		{"states", bad(func(p *drivers.PointSpec) { p.Kind = point.State }), []string{"needs its table"}},
		{"range", bad(func(p *drivers.PointSpec) { p.Min, p.Max = float(2), float(1) }), []string{"min 2 is above max 1"}},
		{"step", bad(func(p *drivers.PointSpec) { p.MaxStep = float(0) }), []string{"want more than zero"}},
		{"status", bad(func(p *drivers.PointSpec) { p.StatusOf = "nobody" }), []string{"no state point of that name"}},
		{"decimals", bad(func(p *drivers.PointSpec) { p.Decimals = &drivers.Lookup{} }), []string{"no code stands beside"}},
		{"two sizes", spec(item("a", 1, "bcd", 2, 1), item("b", 1, "bcd", 3, 1)), []string{"point m/a has 2 for the same data"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.s, drivers.Deps{Link: &drivertest.Script{}})
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
	if _, err := New(spec(item("p", 1, "bcd", 2, 1)), drivers.Deps{}); err == nil {
		t.Error("no link: no error")
	}
}
