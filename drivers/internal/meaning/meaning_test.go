package meaning

import (
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

func float(v float64) *float64 { return &v }

func number(x float64) Raw { return Raw{OK: true, Code: uint64(int64(x)), Num: x} }

// emitted is what a set says, of one point.
func emitted(t *testing.T, s *Set) point.Reading {
	t.Helper()
	var got []point.Reading
	at := time.Unix(1, 0)
	s.Emit(at, func(r point.Reading) { got = append(got, r) })
	if len(got) != 1 || !got[0].At.Equal(at) {
		t.Fatalf("%+v", got)
	}
	return got[0]
}

// TestASecondLookSettlesWhatIsDoubtful begins each time with a reading of 20.
func TestASecondLookSettlesWhatIsDoubtful(t *testing.T) {
	const none = -1e9 // the second look gets no answer
	step := drivers.PointSpec{ID: "d/p", Kind: point.Number, MaxStep: float(10), Min: float(0), Max: float(500)}
	gas, oxygen := step, step
	gas.Role, gas.Max = "gas", float(100)
	oxygen.Role = "oxygen"
	ranged := gas
	ranged.MaxStep = nil
	tests := []struct {
		name          string
		p             drivers.PointSpec
		first, second float64
		looks         int
		want          float64
		quality       point.Quality
	}{
		{"no step", step, 30, 0, 1, 30, point.Good},
		{"a step that is gone", step, 200, 21, 2, 21, point.Good},
		{"a step that repeats", step, 200, 205, 2, 205, point.Good},
		{"a step to somewhere else", step, 200, 300, 2, 300, point.Implausible},
		{"a step nobody can confirm", step, 200, none, 2, 200, point.Implausible},
		{"outside its range", step, 501, 0, 1, 501, point.Implausible},
		{"gas that rises and is back", gas, 60, 21, 2, 21, point.Good},
		{"gas that rises and rises", gas, 60, 90, 2, 90, point.Good},
		{"gas that falls and is back", gas, 5, 20, 2, 20, point.Good},
		{"gas that nobody can confirm", gas, 60, none, 2, 60, point.Good},
		{"gas over its range, a spike", gas, 6000, 20, 2, 20, point.Good},
		{"gas over its range, a leak", gas, 6000, 6000, 2, 6000, point.Good},
		{"gas over its range, then nonsense", ranged, 140, -5, 2, 140, point.Good},
		{"gas under its range", ranged, -5, 0, 1, -5, point.Implausible},
		{"oxygen that falls", oxygen, 5, 6, 2, 6, point.Good},
		{"oxygen under its range", oxygen, -1, -1, 2, -1, point.Good},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := New([]*drivers.PointSpec{&tt.p})
			s.Put(0, number(20))
			if r := emitted(t, s); r.Value != point.Float(20) || r.Quality != point.Good {
				t.Fatalf("%+v", r)
			}
			s.Put(0, number(tt.first))
			looks := 1
			if s.Doubtful() {
				looks = 2
				if tt.second != none {
					s.Put(0, number(tt.second))
					s.Confirm()
				}
			}
			if r := emitted(t, s); looks != tt.looks || r.Value.Num != tt.want || r.Quality != tt.quality {
				t.Errorf("%v (%v) after %d looks, want %v (%v) after %d", r.Value, r.Quality, looks, tt.want, tt.quality, tt.looks)
			}
		})
	}
}

func TestAfterAFaultNothingIsAStep(t *testing.T) {
	s := New([]*drivers.PointSpec{{ID: "d/p", Kind: point.Number, MaxStep: float(10)}})
	s.Put(0, number(20))
	emitted(t, s)
	s.Fault(time.Now(), func(point.Reading) {})
	s.Put(0, number(90))
	if s.Doubtful() {
		t.Error("compared with a value from before the fault")
	}
}

func TestContactsAreKnownByTheirCodes(t *testing.T) {
	code := func(v uint64) *uint64 { return &v }
	tests := []struct {
		active, inactive *uint64
		raw              uint64
		want             string
	}{
		{nil, nil, 0, "false"}, {nil, nil, 7, "true"},
		{code(2), nil, 2, "true"}, {code(2), nil, 1, "false"},
		{nil, code(2), 2, "false"}, {nil, code(2), 0, "true"},
		{code(0), code(1), 0, "true"}, {code(0), code(1), 1, "false"}, {code(0), code(1), 2, "-"},
	}
	for _, tt := range tests {
		s := New([]*drivers.PointSpec{{ID: "d/p", Kind: point.Bool, Active: tt.active, Inactive: tt.inactive}})
		s.Put(0, Raw{OK: true, Code: tt.raw})
		r := emitted(t, s)
		if r.Value.String() != tt.want || (r.Quality == point.Good) != (tt.want != "-") {
			t.Errorf("%+v: %v (%v)", tt, r.Value, r.Quality)
		}
	}
}

func TestPickPacksBits(t *testing.T) {
	for _, tt := range [][3]uint64{{0x1234, 0, 0x1234}, {0x1234, 0x0FF0, 0x23}, {0x8001, 0x8001, 3}, {1 << 63, 1 << 63, 1}} {
		if got := Pick(tt[0], tt[1]); got != tt[2] {
			t.Errorf("Pick(%X, %X) = %X, want %X", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestCheckReportsEveryFault(t *testing.T) {
	v := uint64(1)
	p := drivers.PointSpec{
		Kind: point.State, Order: "BADC", Swap: true, Size: -1, Active: &v, Inactive: &v, Max: float(0), Min: float(1), MaxStep: float(-1),
		Write: &drivers.Output{}, Decimals: &drivers.Lookup{}, At: drivers.Item{UnitPlus: 1},
	}
	var all []string
	for _, err := range Check(&p) {
		all = append(all, err.Error())
	}
	text := strings.Join(all, "; ")
	for _, want := range []string{"order", "swap", "size", "states", "only a bool", "both are 1", "only a number", "min 1 is above", "max_step", "write", "decimals", "unit_plus"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in: %s", want, text)
		}
	}
}

// TestAStateNobodyDeclaredHidesNoDanger: of a life-safety point the value counts.
func TestAStateNobodyDeclaredHidesNoDanger(t *testing.T) {
	states := map[uint64]drivers.State{1: {Name: "normal", Class: drivers.ClassNormal}, 3: {Name: "broken", Class: drivers.ClassFault}}
	for _, tt := range []struct {
		role  point.Role
		state Raw
		want  point.Quality
	}{
		{"gas", number(1), point.Good}, {"gas", number(3), point.Fault}, {"gas", number(16), point.Good},
		{"gas", number(9), point.Fault}, // a declared sentinel
		{"gas", Raw{}, point.Good},
		{"temperature", number(1), point.Good}, {"temperature", number(16), point.Fault}, {"temperature", Raw{}, point.Fault},
	} {
		s := New([]*drivers.PointSpec{
			{ID: "d/p", Role: tt.role, Kind: point.Number, StatusOf: "state"},
			{ID: "d/state", Kind: point.State, States: states, Sentinels: []uint64{9}},
		})
		s.Put(0, number(95))
		s.Put(1, tt.state)
		got := make(map[point.ID]point.Reading)
		s.Emit(time.Unix(1, 0), func(r point.Reading) { got[r.Point] = r })
		if r := got["d/p"]; r.Value != point.Float(95) || r.Quality != tt.want {
			t.Errorf("%s, state %+v: %v (%v), want 95 (%v)", tt.role, tt.state, r.Value, r.Quality, tt.want)
		}
		if own := got["d/state"].Quality; (own == point.Good) != (tt.state == number(1)) {
			t.Errorf("state %+v: %v", tt.state, own)
		}
	}
}
