package meaning

import (
	"math"
	"time"

	"gatehouse/protocol/point"
)

// looks says how often a reply was seen before it is emitted.
type looks byte

const (
	once   looks = iota
	failed       // a second look was due, and got no answer
	twice
)

// Doubtful reports whether a second look is due before Emit: danger may be
// there, or a spike. The raw values so far are kept as the first look; those put
// from now on are the second, when Confirm says that there was one.
func (s *Set) Doubtful() bool {
	for i := range s.points {
		p := &s.points[i]
		v, q := s.decode(s.raws, i)
		if q == point.Good && p.kind == point.Number && (p.beyond(v.Num) || p.steps(v.Num)) {
			copy(s.first, s.raws)
			s.looks = failed
			return true
		}
	}
	return false
}

// Confirm says that the second look was had.
func (s *Set) Confirm() { s.looks = twice }

// Emit emits each point once.
func (s *Set) Emit(at time.Time, emit func(point.Reading)) {
	for i := range s.points {
		p := &s.points[i]
		v, q := s.decode(s.raws, i)
		if p.kind == point.Number && s.looks != once {
			v, q = s.settle(i, v, q)
		}
		p.last, p.known = v.Num, q == point.Good && v.Kind == point.Number
		emit(point.Reading{Point: p.id, At: at, Value: v, Quality: q})
	}
	s.looks = once
}

// settle decides what to believe of a point whose reply was looked at twice; v
// and q are what the latest look says. A step that is gone was none, and one that
// repeats is true. Danger that either look saw stands, but for a value beyond the
// range that the second look takes back.
func (s *Set) settle(i int, v point.Value, q point.Quality) (point.Value, point.Quality) {
	p := &s.points[i]
	if s.looks == failed {
		if q == point.Good && p.steps(v.Num) && !p.high && !p.low {
			q = point.Implausible
		}
		return v, q // of a life-safety point what was seen stands
	}
	before, was := s.decode(s.first, i)
	a, b := before.Num, v.Num
	switch {
	case was != point.Good:
		return v, q
	case q == point.Implausible && (p.beyond(a) || p.alarming(a)):
		return before, was // doubt never hides danger
	case q != point.Good:
		return v, q
	}
	gone := p.beyond(a) && !p.beyond(b) // what no such device can measure was a spike
	switch {
	case !p.steps(b) && (gone || !p.alarming(a)), !p.apart(a, b):
		return v, q
	case !gone && p.alarming(a) && p.worse(a, b):
		return before, was
	case p.alarming(b):
		return v, q
	}
	return v, point.Implausible
}

// beyond reports whether x is outside the range on a side where danger is.
func (p *member) beyond(x float64) bool {
	return p.high && p.max != nil && x > *p.max || p.low && p.min != nil && x < *p.min
}

// steps reports whether x is a step from the last reading.
func (p *member) steps(x float64) bool { return p.step != nil && p.known && p.apart(x, p.last) }

// apart reports whether two readings differ by more than the point can change
// between them. The last digits of a float64 do not count.
func (p *member) apart(a, b float64) bool {
	return p.step != nil && math.Abs(a-b) > *p.step+1e-12*max(math.Abs(a), math.Abs(b))
}

// alarming reports whether x is a step to a side where danger is.
func (p *member) alarming(x float64) bool {
	return p.steps(x) && (p.high && x > p.last || p.low && x < p.last)
}

// worse reports whether a is more alarming than b: higher, or, where both sides
// are dangerous, further from the last.
func (p *member) worse(a, b float64) bool {
	if p.low {
		return math.Abs(a-p.last) > math.Abs(b-p.last)
	}
	return a > b
}
