// Package meaning turns the raw values of one reply into readings, for drivers
// whose device answers a request with one run of bytes.
//
// It guarantees: a raw value that is a declared sentinel, no number, or a code
// nobody declared is a Fault; a point whose State point says fault or warm-up is
// never Good; one whose State point says what nobody declared is a Fault, but of
// a life-safety point, which is judged by its own value (package states); a value outside its range is Implausible, but of a life-safety
// point on a side where danger is (point.RoleInfo), which stays Good. What is
// worth a second look, and believed after it, package look says.
// Emitting numbers, contacts and states does not allocate.
package meaning

import (
	"math"
	"math/bits"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/internal/look"
	"gatehouse/drivers/internal/scale"
	"gatehouse/drivers/internal/states"
	"gatehouse/protocol/point"
)

// Raw is what stands in the bytes of a reply.
type Raw struct {
	OK     bool    // false: no value stands here
	Code   uint64  // the bits, after PointSpec.Bits
	Num    float64 // the number they are, before scaling
	Places int     // decimal places of Num that were sent beside it, 0 to 15
	Digits int     // significant digits of Num; 0: all
	Text   string  // of a Text point
}

// Set is the points that one reply is read for.
type Set struct {
	points []member
	raws   []Raw
	first  []Raw // what was seen at the first look, when there was a second
	looks  looks
}

// member is one point.
type member struct {
	id        point.ID
	kind      point.Kind
	linear    scale.Linear
	active    *uint64
	inactive  *uint64
	invert    bool
	status    int // the point that vouches for this one, or -1
	states    *states.Table
	sentinels []uint64
	limits    look.Range
	step      look.Step
}

// New compiles points, which Check has found right.
func New(points []*drivers.PointSpec) *Set {
	s := &Set{points: make([]member, len(points)), raws: make([]Raw, len(points)), first: make([]Raw, len(points))}
	for i, p := range points {
		s.points[i] = member{
			id: p.ID, kind: p.Kind, linear: scale.New(p.Scale, p.Offset),
			active: p.Active, inactive: p.Inactive, invert: p.Invert,
			status: -1, states: states.New(p), sentinels: p.Sentinels, limits: look.NewRange(p), step: look.NewStep(p),
		}
		for k, other := range points {
			if p.StatusOf != "" && other.ID.Name() == p.StatusOf {
				s.points[i].status = k
			}
		}
	}
	return s
}

// Put states what was read for the point of that index.
func (s *Set) Put(i int, r Raw) { s.raws[i] = r }

// Fault emits that no point was measured.
func (s *Set) Fault(at time.Time, emit func(point.Reading)) {
	s.looks = once
	for i := range s.points {
		s.points[i].step.Forget()
		emit(point.Reading{Point: s.points[i].id, At: at, Quality: point.Fault})
	}
}

// decode returns what the raw values of one look say of a point.
func (s *Set) decode(raws []Raw, i int) (v point.Value, q point.Quality) {
	p, raw := &s.points[i], &raws[i]
	if !raw.OK || p.sentinel(raw.Code) {
		return point.Value{}, point.Fault
	}
	q = point.Good
	if p.status >= 0 {
		q = s.vouched(raws, p.status, p.limits.Safety())
	}
	switch p.kind {
	case point.Bool:
		on, ok := p.truth(raw.Code)
		if !ok {
			return point.Value{}, point.Fault
		}
		return point.Truth(on != p.invert), q
	case point.State:
		v, own := p.states.Value(raw.Code)
		if own != point.Good {
			q = own
		}
		return v, q
	case point.Text:
		return point.Value{Kind: point.Text, Text: raw.Text}, q
	}
	x := p.linear.Apply(raw.Num, raw.Places, raw.Digits)
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return point.Value{}, point.Fault
	}
	if q == point.Good && !p.limits.Holds(x) {
		q = point.Implausible
	}
	return point.Float(x), q
}

// vouched is what the State point of that index says about a measurement.
func (s *Set) vouched(raws []Raw, i int, safety bool) point.Quality {
	if raw := &raws[i]; raw.OK {
		return s.points[i].states.Vouch(raw.Code, safety)
	}
	return states.Undeclared(safety)
}

func (p *member) sentinel(code uint64) bool {
	for _, s := range p.sentinels {
		if code == s {
			return true
		}
	}
	return false
}

// truth tells active from inactive; ok is false for a code that is neither.
// Where only one code is declared, any other is its opposite.
func (p *member) truth(code uint64) (on, ok bool) {
	switch {
	case p.active == nil && p.inactive == nil:
		return code != 0, true
	case p.active != nil && code == *p.active:
		return true, true
	case p.inactive != nil && code == *p.inactive:
		return false, true
	case p.active != nil && p.inactive != nil:
		return false, false
	}
	return p.active == nil, true
}

// Pick packs the bits of v that mask marks, lowest first (as PEXT does); no
// mask keeps all.
func Pick(v, mask uint64) uint64 {
	if mask == 0 {
		return v
	}
	var out uint64
	for n := 0; mask != 0; n++ {
		out |= v >> bits.TrailingZeros64(mask) & 1 << n
		mask &= mask - 1
	}
	return out
}
