package states

import (
	"testing"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

var codes = map[uint64]drivers.State{
	0: {Name: "warming_up", Class: drivers.ClassWarmup},
	1: {Name: "normal", Class: drivers.ClassNormal},
	2: {Name: "sensor_fault", Class: drivers.ClassFault},
	3: {Name: "high_alarm", Class: drivers.ClassAlarm},
}

func TestWhatACodeMeans(t *testing.T) {
	tests := []struct {
		code                uint64
		name                string
		own, plain, guarded point.Quality // of the state, and of what it vouches for
	}{
		{0, "warming_up", point.Unknown, point.Unknown, point.Unknown},
		{1, "normal", point.Good, point.Good, point.Good},
		{2, "sensor_fault", point.Fault, point.Fault, point.Fault},
		{3, "high_alarm", point.Good, point.Good, point.Good},
		{0x10, "code 16", point.Fault, point.Fault, point.Good},
		{1<<64 - 1, "code 18446744073709551615", point.Fault, point.Fault, point.Good},
	}
	table := New(&drivers.PointSpec{States: codes, Sentinels: []uint64{0xFFFF, 1 << 40}})
	for _, tt := range tests {
		v, q := table.Value(tt.code)
		if v != (point.Value{Kind: point.State, Num: float64(tt.code), Text: tt.name}) || q != tt.own {
			t.Errorf("%d: %+v, %v", tt.code, v, q)
		}
		if got := table.Vouch(tt.code, false); got != tt.plain {
			t.Errorf("%d vouches for a point: %v, want %v", tt.code, got, tt.plain)
		}
		if got := table.Vouch(tt.code, true); got != tt.guarded {
			t.Errorf("%d vouches for a life-safety point: %v, want %v", tt.code, got, tt.guarded)
		}
	}
}

func TestASentinelIsDeclared(t *testing.T) {
	table := New(&drivers.PointSpec{States: codes, Sentinels: []uint64{1, 0xFF}})
	for _, code := range []uint64{1, 0xFF} {
		if q := table.Vouch(code, true); q != point.Fault {
			t.Errorf("%d: %v, want a fault of a life-safety point too", code, q)
		}
	}
}

func TestAnUndeclaredZeroHasAName(t *testing.T) {
	table := New(&drivers.PointSpec{States: map[uint64]drivers.State{1: {Name: "on"}}})
	if v, q := table.Value(0); v.Text != "code 0" || q != point.Fault {
		t.Errorf("%+v, %v", v, q)
	}
}

func TestReadingACodeAgainDoesNotAllocate(t *testing.T) {
	table := New(&drivers.PointSpec{States: codes, Sentinels: []uint64{0xFFFF, 1 << 40}})
	for _, code := range []uint64{1, 13, 4711} {
		table.Value(code)
		if n := testing.AllocsPerRun(100, func() { table.Value(code); table.Vouch(code, true) }); n > 0 {
			t.Errorf("code %d: %v allocations", code, n)
		}
	}
}

func TestAPointWithoutCodesHasNoTable(t *testing.T) {
	if New(&drivers.PointSpec{}) != nil {
		t.Error("a table of nothing")
	}
}
