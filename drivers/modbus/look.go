package modbus

import (
	"time"

	"gatehouse/drivers/internal/look"
	"gatehouse/protocol/point"
)

// looks are the data of a job: what was seen, and what was seen at a second
// look that some reading made necessary.
type looks struct {
	first  []byte
	second []byte // nil: there was none
	failed bool   // it was asked for, and got no answer
}

// steps is what bounds the changes of a point, or nil.
func (sp *special) steps() *look.Step {
	if sp == nil {
		return nil
	}
	return &sp.bound
}

// watched reports whether a reading may be worth a second look.
func (s *shape) watched(sp *special) bool {
	return s.kind == point.Number && look.Watched(s.limits(), sp.steps())
}

// seen returns what one look says of the point at the place.
func (s *shape) seen(sp *special, data []byte, place int) look.Seen {
	v, q := s.decode(sp, data, place)
	return look.Seen{Value: v, Quality: q}
}

// doubtful reports whether the job is to be read again before it is believed.
func (j *job) doubtful(data []byte) bool {
	for i := range j.runs {
		r := &j.runs[i]
		s := r.shape.Value()
		if !s.watched(r.special) {
			continue
		}
		place := int(r.place)
		for range r.count {
			if look.Doubtful(s.limits(), r.special.steps(), s.seen(r.special, data, place)) {
				return true
			}
			place += s.step()
		}
	}
	return false
}

// emit emits what is to be believed of each point.
func (j *job) emit(ids []point.ID, at time.Time, seen looks, emit func(point.Reading)) {
	reading := point.Reading{At: at}
	for i := range j.runs {
		r := &j.runs[i]
		s, place := r.shape.Value(), int(r.place)
		for _, id := range ids[:r.count] {
			e := s.settle(r.special, seen, place)
			r.special.steps().Remember(e)
			reading.Point, reading.Value, reading.Quality = id, e.Value, e.Quality
			emit(reading)
			place += s.step()
		}
		ids = ids[r.count:]
	}
}

// settle returns what to believe of the point at the place.
func (s *shape) settle(sp *special, seen looks, place int) look.Seen {
	latest := seen.first
	if seen.second != nil {
		latest = seen.second
	}
	e := s.seen(sp, latest, place)
	switch {
	case s.kind != point.Number:
		return e
	case seen.failed:
		return look.Alone(s.limits(), sp.steps(), e)
	case seen.second != nil:
		return look.Settle(s.limits(), sp.steps(), s.seen(sp, seen.first, place), e)
	}
	return e
}

// fault emits that no point of the job was measured.
func (j *job) fault(ids []point.ID, at time.Time, emit func(point.Reading)) {
	for i := range j.runs {
		j.runs[i].special.steps().Forget()
	}
	for _, id := range ids {
		emit(point.Reading{Point: id, At: at, Quality: point.Fault})
	}
}
