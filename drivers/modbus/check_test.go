package modbus

import (
	"math"
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
		{"unit id below", "unit id 0: want 1 to 247", bad(func(p *drivers.PointSpec) { p.At.UnitPlus = -1 })},
		{"register without values", "a register needs both", bad(func(p *drivers.PointSpec) {
			p.Write = &drivers.Output{At: drivers.Item{Space: "holding"}, On: code16(1)}
		})},
		{"one value for both", "both 0x0", bad(func(p *drivers.PointSpec) {
			p.Write = &drivers.Output{At: drivers.Item{Space: "coil"}, On: code16(0)}
		})},
		{"one bit for both", "both 0x1", bad(func(p *drivers.PointSpec) {
			p.Write = &drivers.Output{At: drivers.Item{Space: "coil"}, Multiple: true, On: code16(1), Off: code16(coilOn)}
		})},
		{"a value that is no bit", "function 15 carries", bad(func(p *drivers.PointSpec) {
			p.Write = &drivers.Output{At: drivers.Item{Space: "coil"}, Multiple: true, On: code16(7)}
		})},
		{"pulse space", "pulse space", bad(func(p *drivers.PointSpec) {
			p.Write = &drivers.Output{At: drivers.Item{Space: "coil"}, PulseAt: &drivers.Item{Space: "holding"}}
		})},
		{"codes of a bool", "one code cannot mean both", bad(func(p *drivers.PointSpec) {
			p.Kind, p.Active, p.Inactive = point.Bool, code(1), code(1)
		})},
		{"codes of a number", "only a bool has them", bad(func(p *drivers.PointSpec) { p.Active = code(1) })},
		{"a code too wide", "active 0x100: the point has 8 bits", bad(func(p *drivers.PointSpec) {
			p.Kind, p.Bits, p.Active = point.Bool, 0xFF00, code(0x100)
		})},
		{"a sentinel too wide", "sentinel 0x10000", bad(func(p *drivers.PointSpec) { p.Sentinels = []uint64{0x10000} })},
		{"step of a bool", "only a number has them", bad(func(p *drivers.PointSpec) { p.Kind, p.MaxStep = point.Bool, float(1) })},
		{"no step", "want more than 0", bad(func(p *drivers.PointSpec) { p.MaxStep = float(0) })},
		{"scale", "want a finite number", bad(func(p *drivers.PointSpec) { p.Scale = math.NaN() })},
		{"decimals", "decimals 16 for code 3", bad(func(p *drivers.PointSpec) {
			p.Decimals = &drivers.Lookup{At: p.At, Map: map[uint64]float64{3: 16}}
		})},
		{"factor", "factor 0 for unit code 3", bad(func(p *drivers.PointSpec) {
			p.UnitFrom = &drivers.Lookup{At: p.At, Map: map[uint64]float64{3: 0}}
		})},
		{"lookup space", "want coil, discrete", bad(func(p *drivers.PointSpec) { p.Decimals = &drivers.Lookup{} })},
		{"lookup bits", "outside a register", bad(func(p *drivers.PointSpec) { p.Decimals = &drivers.Lookup{At: p.At, Bits: 1 << 16} })},
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

func code(v uint64) *uint64   { return &v }
func code16(v uint16) *uint16 { return &v }

func TestEveryFaultOfACommandIsReported(t *testing.T) {
	s := spec(holding("p", 0))
	at := drivers.Item{Space: "holding"}
	s.Commands = []drivers.Command{
		{Name: "", Steps: []drivers.Step{{At: at}}},
		{Name: "twice", Steps: []drivers.Step{{At: at}}},
		{Name: "twice"},
		{Name: "where", Steps: []drivers.Step{{At: drivers.Item{Space: "input"}}, {At: drivers.Item{Space: "coil", UnitPlus: 300}}}},
		{Name: "what", Steps: []drivers.Step{{At: drivers.Item{Space: "coil"}, Multiple: true, Value: 7}}},
		{Name: "when", Steps: []drivers.Step{{At: at, Pause: -1}, {At: at, Pause: 5 * time.Second}}},
		{Name: "long", Steps: []drivers.Step{{At: at, Pause: time.Second}, {At: at, Pause: time.Second}, {At: at, Pause: time.Second}}},
	}
	_, err := New(s, drivers.Deps{Link: &drivertest.Script{}})
	for _, want := range []string{
		`command "": it has no name`, `command "twice": listed twice`, `command "twice": no steps`,
		`command "where": step 1: write space "input"`, `command "where": step 2: unit id 301`,
		`command "what": step 1: value 0x7`, `command "when": step 1: pause -1ns`, `command "when": step 2: pause 5s`,
		`command "long": pauses of 3s`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in: %v", want, err)
		}
	}
}
