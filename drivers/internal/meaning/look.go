package meaning

import (
	"time"

	"gatehouse/drivers/internal/look"
	"gatehouse/protocol/point"
)

// looks says how often a reply was seen before it is emitted.
type looks byte

const (
	once   looks = iota
	failed       // a second look was due, and got no answer
	twice
)

// Doubtful reports whether a second look is due before Emit. The raw values so
// far are kept as the first look; those put from now on are the second, when
// Confirm says that there was one.
func (s *Set) Doubtful() bool {
	for i := range s.points {
		if p := &s.points[i]; p.kind == point.Number && look.Doubtful(p.limits, &p.step, s.seen(s.raws, i)) {
			copy(s.first, s.raws)
			s.looks = failed
			return true
		}
	}
	return false
}

// Confirm says that the second look was had.
func (s *Set) Confirm() { s.looks = twice }

// Emit emits what is to be believed of each point, once.
func (s *Set) Emit(at time.Time, emit func(point.Reading)) {
	for i := range s.points {
		p := &s.points[i]
		e := s.settle(i)
		p.step.Remember(e)
		emit(point.Reading{Point: p.id, At: at, Value: e.Value, Quality: e.Quality})
	}
	s.looks = once
}

// seen returns what the raw values of one look say of a point.
func (s *Set) seen(raws []Raw, i int) look.Seen {
	v, q := s.decode(raws, i)
	return look.Seen{Value: v, Quality: q}
}

// settle returns what to believe of a point.
func (s *Set) settle(i int) look.Seen {
	p, e := &s.points[i], s.seen(s.raws, i)
	switch {
	case p.kind != point.Number, s.looks == once:
		return e
	case s.looks == failed:
		return look.Alone(p.limits, &p.step, e)
	}
	return look.Settle(p.limits, &p.step, s.seen(s.first, i), e)
}
