package modbus

import (
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/point"
)

func TestEveryFaultOfASpecIsReported(t *testing.T) {
	bad := func(change func(*drivers.PointSpec)) drivers.PointSpec {
		p := holding("p", 0)
		change(&p)
		return p
	}
	tests := []struct {
		name, want string
		p          drivers.PointSpec
	}{
		{"space", "want coil, discrete, holding or input", bad(func(p *drivers.PointSpec) { p.At.Space = "flash" })},
		{"type", "want u16, s16", bad(func(p *drivers.PointSpec) { p.Type = "bcd" })},
		{"order", "want HL", bad(func(p *drivers.PointSpec) { p.Order = "BADC" })},
		{"past the end", "the last is 65535", bad(func(p *drivers.PointSpec) { p.At.Address, p.Type = 65535, "u32" })},
		{"bits too wide", "bit 16 is outside u16", bad(func(p *drivers.PointSpec) { p.Bits = 1 << 16 })},
		{"range", "min 2 is above max 1", bad(func(p *drivers.PointSpec) { p.Min, p.Max = float(2), float(1) })},
		{"status", "no state point of that name", bad(func(p *drivers.PointSpec) { p.StatusOf = "nobody" })},
		{"states", "needs its table", bad(func(p *drivers.PointSpec) { p.Kind = point.State })},
		{"kind", "a register is a number", bad(func(p *drivers.PointSpec) { p.Kind = point.Text })},
		{"float bool", "a bool or state is a whole number", bad(func(p *drivers.PointSpec) { p.Kind, p.Type = point.Bool, "f32" })},
		{"unit id", "unit id 251", bad(func(p *drivers.PointSpec) { p.At.UnitPlus = 250 })},
		{"output", "want coil or holding", bad(func(p *drivers.PointSpec) { p.Write = &drivers.Output{At: drivers.Item{Space: "input"}} })},
		{"pulse", "times no pulses", bad(func(p *drivers.PointSpec) {
			p.Write = &drivers.Output{At: drivers.Item{Space: "coil"}, PulseFor: time.Second}
		})},
		{"pulse step", "multiple of 100ms", bad(func(p *drivers.PointSpec) {
			p.Write = &drivers.Output{At: drivers.Item{Space: "coil"}, PulseAt: &drivers.Item{Space: "coil"}, PulseFor: 150 * time.Millisecond}
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(spec(tt.p), drivers.Deps{Link: &drivertest.Script{}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err %v, want %q in it", err, tt.want)
			}
		})
	}
	s := spec(tests[0].p, tests[1].p)
	s.Framing, s.Address = "ascii", 300
	_, err := New(s, drivers.Deps{Link: &drivertest.Script{}})
	for _, want := range []string{"framing", "address 300", "listed twice", "want coil, discrete", "want u16"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}
