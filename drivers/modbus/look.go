package modbus

import (
	"math"
	"time"

	"gatehouse/protocol/point"
)

// looks are the data of a job: what was seen, and what was seen at a second
// look that some reading made necessary.
type looks struct {
	first  []byte
	second []byte // nil: there was none
	failed bool   // it was asked for, and got no answer
}

// watched reports whether a reading may be worth a second look.
func (s *shape) watched(sp *special) bool {
	return s.kind == point.Number &&
		(s.dangerAbove && !math.IsInf(s.max, 1) || s.dangerBelow && !math.IsInf(s.min, -1) || sp != nil && sp.maxStep > 0)
}

// beyond reports whether x is outside the range on a side where danger is.
func (s *shape) beyond(x float64) bool { return s.dangerAbove && x > s.max || s.dangerBelow && x < s.min }

// apart reports whether two readings differ by more than the point can change
// between them. The last digits of a float64 do not count.
func (sp *special) apart(a, b float64) bool {
	return math.Abs(a-b) > sp.maxStep+1e-12*max(math.Abs(a), math.Abs(b))
}

// steps reports whether x is a step from the last reading.
func (sp *special) steps(x float64) bool {
	return sp != nil && sp.maxStep > 0 && sp.known && sp.apart(x, sp.last)
}

// alarming reports whether x is a step to a side where danger is.
func (s *shape) alarming(sp *special, x float64) bool {
	return sp.steps(x) && (s.dangerAbove && x > sp.last || s.dangerBelow && x < sp.last)
}

// remember keeps what was emitted, for the next step.
func (sp *special) remember(v point.Value, q point.Quality) {
	if sp != nil && sp.maxStep > 0 {
		sp.last, sp.known = v.Num, q == point.Good && v.Kind == point.Number
	}
}

// doubtful reports whether a reading is to be seen twice before it is believed:
// danger may be there, or a spike.
func (j *job) doubtful(data []byte) bool {
	for i := range j.runs {
		r := &j.runs[i]
		s := r.shape.Value()
		if !s.watched(r.special) {
			continue
		}
		place := int(r.place)
		for range r.count {
			v, q := s.decode(r.special, data, place)
			if q == point.Good && (s.beyond(v.Num) || r.special.steps(v.Num)) {
				return true
			}
			place += s.step()
		}
	}
	return false
}

// emit emits what the data says of each point.
func (j *job) emit(ids []point.ID, at time.Time, seen looks, emit func(point.Reading)) {
	reading := point.Reading{At: at}
	for i := range j.runs {
		r := &j.runs[i]
		s, place := r.shape.Value(), int(r.place)
		settle := (seen.failed || seen.second != nil) && s.watched(r.special)
		latest := seen.first
		if seen.second != nil {
			latest = seen.second
		}
		for _, id := range ids[:r.count] {
			v, q := s.decode(r.special, latest, place)
			if settle {
				v, q = s.settle(r.special, seen, place, v, q)
			}
			r.special.remember(v, q)
			reading.Point, reading.Value, reading.Quality = id, v, q
			emit(reading)
			place += s.step()
		}
		ids = ids[r.count:]
	}
}

// fault emits that no point of the job was measured.
func (j *job) fault(ids []point.ID, at time.Time, emit func(point.Reading)) {
	for i := range j.runs {
		j.runs[i].special.remember(point.Value{}, point.Fault)
	}
	for _, id := range ids {
		emit(point.Reading{Point: id, At: at, Quality: point.Fault})
	}
}

// settle decides what to believe of a watched point whose job was looked at
// twice; v and q are what the latest look says.
func (s *shape) settle(sp *special, seen looks, place int, v point.Value, q point.Quality) (point.Value, point.Quality) {
	if seen.failed {
		if q == point.Good && sp.steps(v.Num) && !s.dangerAbove {
			q = point.Implausible
		}
		return v, q // of a life-safety point what was seen stands
	}
	before, was := s.decode(sp, seen.first, place)
	a, b := before.Num, v.Num
	switch {
	case was != point.Good:
		return v, q
	case q == point.Implausible && (s.beyond(a) || s.alarming(sp, a)):
		return before, was // doubt never hides danger
	case q != point.Good:
		return v, q
	}
	gone := s.beyond(a) && !s.beyond(b) // what no such device can measure was a spike
	if !sp.steps(b) && (gone || !sp.steps(a)) || !sp.apart(a, b) {
		return v, q
	}
	if !gone {
		b = s.worse(sp, a, b)
	}
	if s.alarming(sp, b) {
		return point.Float(b), q
	}
	return v, point.Implausible
}

// worse returns the more alarming of two readings: the higher; where both sides
// are dangerous, the one further from the last.
func (s *shape) worse(sp *special, a, b float64) float64 {
	if s.dangerBelow {
		if math.Abs(a-sp.last) > math.Abs(b-sp.last) {
			return a
		}
		return b
	}
	return max(a, b)
}
