// Package look says which readings are worth a second look, and what to believe
// after it. It is one rule for every driver that can ask again.
//
// A number is doubtful if it is beyond its range on a side where danger is, or
// further than its greatest step from the last good reading. It is asked for
// again at once. The package guarantees:
//
//   - what the second look takes back was none: it is forgotten, and no alarm
//     comes of it;
//   - danger that the second look sees is believed, whatever the first saw;
//   - any other step is believed if both looks agree, and Implausible if not;
//   - doubt never hides danger: if the second look fails, or sees what cannot
//     be, what was seen of a life-safety point stands;
//   - a declared fault stays one, whatever was seen before it.
//
// It does not allocate.
package look

import (
	"math"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// Range is where a number is plausible, and at which ends of it danger is.
type Range struct {
	Min, Max     float64 // infinite: no end
	Above, Below bool    // danger; never set but for a life-safety point
}

// NewRange returns the range of a point.
func NewRange(p *drivers.PointSpec) Range {
	role := point.Roles[p.Role]
	r := Range{Min: math.Inf(-1), Max: math.Inf(1), Above: role.Safety, Below: role.Safety && role.Low}
	if p.Min != nil {
		r.Min = *p.Min
	}
	if p.Max != nil {
		r.Max = *p.Max
	}
	return r
}

// Safety reports whether the range is that of a life-safety point.
func (r Range) Safety() bool { return r.Above || r.Below }

// Holds reports whether x can be: it is inside the range, or beyond it on a side
// where danger is.
func (r Range) Holds(x float64) bool {
	return (x >= r.Min || r.Below) && (x <= r.Max || r.Above)
}

// beyond reports whether x is outside the range on a side where danger is.
func (r Range) beyond(x float64) bool { return r.Above && x > r.Max || r.Below && x < r.Min }

// Step is what a point may change by from one good reading to the next. The zero
// Step, and nil, know of no bound.
type Step struct {
	most  float64 // 0: no bound
	last  float64 // the last reading
	known bool    // it was a good one
}

// NewStep returns the step of a point of which nothing was read yet.
func NewStep(p *drivers.PointSpec) Step {
	if p.MaxStep == nil {
		return Step{}
	}
	return Step{most: *p.MaxStep}
}

// Remember keeps what was emitted, to measure the next reading by.
func (s *Step) Remember(e Seen) {
	if s != nil && s.most > 0 {
		s.last, s.known = e.Value.Num, e.Quality == point.Good
	}
}

// Forget says that nothing was read: the next reading is no step.
func (s *Step) Forget() {
	if s != nil {
		s.known = false
	}
}

// stepped reports whether x is a step from the last reading.
func (s *Step) stepped(x float64) bool { return s != nil && s.known && s.apart(x, s.last) }

// apart reports whether two readings differ by more than a step. The last
// digits of a float64 do not count.
func (s *Step) apart(a, b float64) bool {
	return math.Abs(a-b) > s.most+1e-12*max(math.Abs(a), math.Abs(b))
}

// Seen is what one look says of a number.
type Seen struct {
	Value   point.Value
	Quality point.Quality
}

// good reports whether a number was measured.
func (e Seen) good() bool { return e.Quality == point.Good }

// Watched reports whether any reading of a point can be doubtful.
func Watched(r Range, s *Step) bool {
	return r.Above && !math.IsInf(r.Max, 1) || r.Below && !math.IsInf(r.Min, -1) || s != nil && s.most > 0
}

// Doubtful reports whether a reading is worth a second look.
func Doubtful(r Range, s *Step, e Seen) bool {
	return e.good() && (r.beyond(e.Value.Num) || s.stepped(e.Value.Num))
}

// danger reports whether a doubtful reading is one in the alarming direction.
func danger(r Range, s *Step, e Seen) bool {
	x := e.Value.Num
	return e.good() && (r.beyond(x) || s.stepped(x) && (r.Above && x > s.last || r.Below && x < s.last))
}

// Alone returns what to believe of a reading whose second look failed.
func Alone(r Range, s *Step, first Seen) Seen {
	if !r.Safety() && Doubtful(r, s, first) {
		first.Quality = point.Implausible
	}
	return first
}

// Settle returns what to believe of a point that was looked at twice.
func Settle(r Range, s *Step, first, second Seen) Seen {
	switch {
	case second.Quality == point.Implausible && danger(r, s, first):
		return first
	case !Doubtful(r, s, second), danger(r, s, second):
		return second
	case first.good() && s.apart(first.Value.Num, second.Value.Num):
		second.Quality = point.Implausible // two looks, two steps: neither is believed
	}
	return second
}
