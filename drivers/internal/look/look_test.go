package look

import (
	"math"
	"testing"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

func float(x float64) *float64 { return &x }

// The points of the tests: each may step by 10. Readings of a range are whole
// numbers, so a step of exactly 10 is none.
var (
	plain  = drivers.PointSpec{Role: "temperature", Kind: point.Number, Min: float(0), Max: float(100), MaxStep: float(10)}
	gas    = drivers.PointSpec{Role: "gas", Kind: point.Number, Min: float(0), Max: float(100), MaxStep: float(10)}
	oxygen = drivers.PointSpec{Role: "oxygen", Kind: point.Number, Min: float(0), Max: float(100), MaxStep: float(10)}
)

func without(p drivers.PointSpec) drivers.PointSpec {
	p.MaxStep = nil
	return p
}

// see is what a device with that range says of x.
func see(r Range, x float64) Seen {
	if !r.Holds(x) {
		return Seen{point.Float(x), point.Implausible}
	}
	return Seen{point.Float(x), point.Good}
}

// after is a point that was last read as x.
func after(p drivers.PointSpec, x float64) (Range, *Step) {
	r, s := NewRange(&p), NewStep(&p)
	s.Remember(see(r, x))
	return r, &s
}

func TestWhatASecondLookMakesOfAReading(t *testing.T) {
	none := math.NaN() // no second look is due
	tests := []struct {
		name                string
		p                   drivers.PointSpec
		last, first, second float64
		want                float64
		quality             point.Quality
	}{
		{"a small change", plain, 20, 30, none, 30, point.Good},
		{"a small fall", plain, 20, 10, none, 10, point.Good},
		{"a step that repeats", plain, 20, 80, 82, 82, point.Good},
		{"a step that nearly repeats", plain, 20, 80, 90, 90, point.Good},
		{"a fall that repeats", plain, 80, 20, 20, 20, point.Good},
		{"a spike", plain, 20, 85, 21, 21, point.Good},
		{"a spike that leaves a change", plain, 20, 85, 30, 30, point.Good},
		{"what will not settle", plain, 20, 85, 50, 50, point.Implausible},
		{"what will not settle, on both sides", plain, 50, 90, 10, 10, point.Implausible},
		{"outside its range: no doubt", plain, 20, 150, none, 150, point.Implausible},
		{"a step, then what cannot be", plain, 20, 85, 150, 150, point.Implausible},
		{"of any step", without(plain), 20, 85, none, 85, point.Good},

		{"a leak", gas, 5, 60, 62, 62, point.Good},
		{"a leak that grows", gas, 5, 30, 60, 60, point.Good},
		{"a leak that shrinks", gas, 5, 60, 30, 30, point.Good},
		{"a spike of gas", gas, 5, 60, 6, 6, point.Good},
		{"a spike that leaves a rise", gas, 5, 60, 15, 15, point.Good},
		{"a leak, then what cannot be", gas, 5, 60, -5, 60, point.Good},
		{"gas that falls and is back", gas, 60, 5, 61, 61, point.Good},
		{"gas that falls", gas, 60, 5, 5, 5, point.Good},
		{"gas that falls and falls", gas, 90, 60, 5, 5, point.Implausible},
		{"a fall that hid a rise", gas, 60, 5, 90, 90, point.Good},
		{"a fall, then what cannot be", gas, 60, 5, -5, -5, point.Implausible},
		{"gas beyond its range, a spike", gas, 5, 65535, 6, 6, point.Good},
		{"gas beyond its range, not quite gone", gas, 5, 65535, 50, 50, point.Good},
		{"gas beyond its range, a leak", gas, 5, 200, 140, 140, point.Good},
		{"gas beyond its range, then far below", gas, 60, 65535, 5, 5, point.Implausible},
		{"gas beyond its range, then what cannot be", without(gas), 5, 140, -5, 140, point.Good},
		{"gas beyond its range, of any step", without(gas), 5, 140, 120, 120, point.Good},
		{"gas beyond its range, of any step, gone", without(gas), 5, 140, 90, 90, point.Good},
		{"gas at the end of its range", gas, 95, 100, none, 100, point.Good},
		{"gas that stays beyond its range", gas, 105, 105, 104, 104, point.Good},
		{"gas under its range: no doubt", gas, 5, -5, none, -5, point.Implausible},

		{"low oxygen", oxygen, 21, 5, 6, 6, point.Good},
		{"a spike of oxygen downwards", oxygen, 21, 5, 21, 21, point.Good},
		{"high oxygen", oxygen, 21, 40, 41, 41, point.Good},
		{"a spike of oxygen upwards", oxygen, 21, 40, 21, 21, point.Good},
		{"oxygen that will not settle", oxygen, 21, 3, 60, 60, point.Good},
		{"oxygen under its range", oxygen, 5, -1, -1, -1, point.Good},
		{"oxygen under its range, of any step", without(oxygen), 21, -1, -2, -2, point.Good},
		{"oxygen over its range", oxygen, 95, 101, 102, 102, point.Good},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, s := after(tt.p, tt.last)
			got := see(r, tt.first)
			doubtful := Doubtful(r, s, got)
			if doubtful == math.IsNaN(tt.second) {
				t.Fatalf("doubtful: %v", doubtful)
			}
			if doubtful {
				got = Settle(r, s, got, see(r, tt.second))
			}
			if got.Value != point.Float(tt.want) || got.Quality != tt.quality {
				t.Errorf("%v (%v), want %v (%v)", got.Value, got.Quality, tt.want, tt.quality)
			}
		})
	}
}

func TestWhatStandsIfTheSecondLookFails(t *testing.T) {
	tests := []struct {
		name        string
		p           drivers.PointSpec
		last, first float64
		quality     point.Quality
	}{
		{"a step", plain, 20, 80, point.Implausible},
		{"no step", plain, 20, 25, point.Good},
		{"of any step", without(plain), 20, 80, point.Good},
		{"a leak", gas, 5, 60, point.Good},
		{"gas that falls", gas, 60, 5, point.Good},
		{"gas beyond its range", gas, 5, 140, point.Good},
		{"oxygen that falls", oxygen, 21, 5, point.Good},
		{"what cannot be", gas, 20, -5, point.Implausible},
	}
	for _, tt := range tests {
		r, s := after(tt.p, tt.last)
		if got := Alone(r, s, see(r, tt.first)); got.Value != point.Float(tt.first) || got.Quality != tt.quality {
			t.Errorf("%s: %v (%v), want %v (%v)", tt.name, got.Value, got.Quality, tt.first, tt.quality)
		}
	}
	fault := Seen{Quality: point.Fault}
	if r, s := after(plain, 20); Alone(r, s, fault) != fault {
		t.Error("a fault became something else")
	}
}

// bad are the ways in which nothing was measured.
var bad = []Seen{{Quality: point.Fault}, {Quality: point.Unknown}, {point.Float(60), point.Fault}, {point.Float(60), point.Unknown}}

// TestAFaultAtEitherLook: a fault is declared by the device, and is no doubt.
func TestAFaultAtEitherLook(t *testing.T) {
	for _, p := range []drivers.PointSpec{plain, gas, oxygen} {
		r, s := after(p, 20)
		for _, fault := range bad {
			if Doubtful(r, s, fault) {
				t.Errorf("%s: a second look at %+v", p.Role, fault)
			}
			for _, x := range []float64{-5, 5, 20, 60, 140} {
				e := see(r, x)
				if got := Settle(r, s, e, fault); got != fault {
					t.Errorf("%s: %v, then a fault: %+v", p.Role, x, got)
				}
				if got := Settle(r, s, fault, e); got != e { // behind a fault nothing is a step
					t.Errorf("%s: a fault, then %v: %+v", p.Role, x, got)
				}
			}
		}
	}
}

// TestEveryPairOfLooks holds the promises of the package for all that two looks
// can see.
func TestEveryPairOfLooks(t *testing.T) {
	for _, p := range []drivers.PointSpec{plain, gas, oxygen, without(plain), without(gas), without(oxygen)} {
		safety := point.Roles[p.Role].Safety
		for last := -20.; last <= 120; last += 5 {
			r, s := after(p, last)
			for a := -20.; a <= 120; a += 5 {
				first := see(r, a)
				if danger(r, s, first) && !Doubtful(r, s, first) {
					t.Fatalf("%s: %v after %v is danger without doubt", p.Role, a, last)
				}
				if Doubtful(r, s, first) && !Watched(r, s) {
					t.Fatalf("%s: %v after %v is doubtful, and nobody watches", p.Role, a, last)
				}
				if got := Settle(r, s, first, first); got != first {
					t.Fatalf("%s: %v after %v, seen twice: %+v", p.Role, a, last, got)
				}
				for b := -20.; b <= 120; b += 5 {
					second := see(r, b)
					got := Settle(r, s, first, second)
					switch {
					case got.Value != second.Value && (got != first || !safety || second.Quality != point.Implausible):
						t.Fatalf("%s: %v, %v after %v: %+v; the first look stands only before what cannot be", p.Role, a, b, last, got)
					case danger(r, s, second) && got != second:
						t.Fatalf("%s: %v, %v after %v: %+v hides danger", p.Role, a, b, last, got)
					case second.good() && !Doubtful(r, s, second) && got != second:
						t.Fatalf("%s: %v, %v after %v: %+v; what is no longer doubtful is true", p.Role, a, b, last, got)
					case !second.good() && got.good() && !danger(r, s, first):
						t.Fatalf("%s: %v, %v after %v: %+v is no danger", p.Role, a, b, last, got)
					}
				}
			}
		}
	}
}

// TestASpoiltLookIsNeverEmitted: the level is calm and one of the looks is not
// the device's, as when a check value fits a damaged frame by chance.
func TestASpoiltLookIsNeverEmitted(t *testing.T) {
	for _, p := range []drivers.PointSpec{plain, gas, oxygen} {
		for x := -1000.; x <= 1000; x++ {
			r, s := after(p, 20)
			spoilt, truth := see(r, x), see(r, 21)
			if !Doubtful(r, s, spoilt) {
				continue // it is within the range, and no step; or known for what cannot be
			}
			if got := Settle(r, s, spoilt, truth); got != truth {
				t.Fatalf("%s: %v, then 21: %+v", p.Role, x, got)
			}
		}
	}
}

func TestAStepIsMeasuredFromTheLastGoodReading(t *testing.T) {
	far := Seen{point.Float(60), point.Good}
	r, s := NewRange(&plain), NewStep(&plain)
	if Doubtful(r, &s, far) {
		t.Error("the first reading is no step")
	}
	s.Remember(Seen{point.Float(20), point.Good})
	if !Doubtful(r, &s, far) {
		t.Error("60 after 20 is a step")
	}
	s.Remember(Seen{point.Float(55), point.Good})
	if Doubtful(r, &s, far) {
		t.Error("60 after 55 is no step")
	}
	for _, q := range []point.Quality{point.Implausible, point.Fault, point.Unknown} {
		s.Remember(Seen{point.Float(20), point.Good})
		s.Remember(Seen{point.Float(20), q})
		if Doubtful(r, &s, far) {
			t.Errorf("behind %v no step is known", q)
		}
	}
	s.Remember(Seen{point.Float(20), point.Good})
	s.Forget()
	if Doubtful(r, &s, far) {
		t.Error("behind what was forgotten no step is known")
	}
}

func TestTheLastDigitsAreNoStep(t *testing.T) {
	p := plain
	p.MaxStep = float(0.1)
	tenth := 0.1                                                      // a constant would be exact
	if r, s := after(p, 0.2); Doubtful(r, s, see(r, 2*tenth+tenth)) { // 0.30000000000000004
		t.Error("0.3 after 0.2 is a step of 0.1")
	}
	if r, s := after(p, 0.2); !Doubtful(r, s, see(r, 0.3001)) {
		t.Error("0.3001 after 0.2 is more than a step of 0.1")
	}
}

func TestARangeHoldsItsEndsAndWhatIsBeyondThemInDanger(t *testing.T) {
	tests := []struct {
		p                   drivers.PointSpec
		below, within, over bool // whether it holds
		doubtLow, doubtHigh bool // whether what is beyond is worth a second look
	}{
		{plain, false, true, false, false, false},
		{gas, false, true, true, false, true},
		{oxygen, true, true, true, true, true},
	}
	for _, tt := range tests {
		r := NewRange(&tt.p)
		if r.Holds(-0.5) != tt.below || r.Holds(0) != tt.within || r.Holds(100) != tt.within || r.Holds(100.5) != tt.over {
			t.Errorf("%s: holds -0.5 %v, 0 %v, 100 %v, 100.5 %v", tt.p.Role, r.Holds(-0.5), r.Holds(0), r.Holds(100), r.Holds(100.5))
		}
		for x, want := range map[float64]bool{-0.5: tt.doubtLow, 0: false, 100: false, 100.5: tt.doubtHigh} {
			if got := Doubtful(r, nil, see(r, x)); got != want {
				t.Errorf("%s: %v is doubtful: %v", tt.p.Role, x, got)
			}
		}
	}
	open := NewRange(&drivers.PointSpec{Role: "temperature"})
	if !open.Holds(-1e300) || !open.Holds(1e300) {
		t.Error("a range without ends has ends")
	}
}

func TestWatchedAreThoseWithAStepOrAnEndWhereDangerIs(t *testing.T) {
	with := func(role point.Role, low, high, step *float64) drivers.PointSpec {
		return drivers.PointSpec{Role: role, Kind: point.Number, Min: low, Max: high, MaxStep: step}
	}
	tests := []struct {
		p    drivers.PointSpec
		want bool
	}{
		{with("temperature", nil, nil, nil), false},
		{with("temperature", float(0), float(1), nil), false},
		{with("temperature", nil, nil, float(1)), true},
		{with("gas", nil, nil, nil), false},
		{with("gas", float(0), nil, nil), false},
		{with("gas", nil, float(1), nil), true},
		{with("oxygen", float(0), nil, nil), true},
		{with("oxygen", nil, float(1), nil), true},
		{with("oxygen", nil, nil, nil), false},
	}
	for _, tt := range tests {
		r, s := NewRange(&tt.p), NewStep(&tt.p)
		if got := Watched(r, &s); got != tt.want {
			t.Errorf("%s, %+v: %v", tt.p.Role, r, got)
		}
		if tt.p.MaxStep == nil && Watched(r, nil) != tt.want {
			t.Errorf("%s, %+v without a step: %v", tt.p.Role, r, !tt.want)
		}
	}
}

func TestAPointWithoutAStepNeedsNone(t *testing.T) {
	r, s := NewRange(&gas), (*Step)(nil)
	s.Remember(see(r, 5))
	s.Forget()
	if Doubtful(r, s, see(r, 60)) || !Doubtful(r, s, see(r, 140)) {
		t.Error("only what is beyond the range is doubtful")
	}
	if got := Settle(r, s, see(r, 140), see(r, 60)); got != see(r, 60) {
		t.Errorf("%+v", got)
	}
}

func TestNothingHereAllocates(t *testing.T) {
	r, s := after(gas, 5)
	if n := testing.AllocsPerRun(100, func() {
		first, second := see(r, 60), see(r, 62)
		if Doubtful(r, s, first) {
			s.Remember(Settle(r, s, first, second))
		}
		s.Remember(Alone(r, s, see(r, 5)))
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
