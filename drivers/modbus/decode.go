package modbus

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"unique"

	"gatehouse/drivers"
	"gatehouse/drivers/internal/look"
	"gatehouse/drivers/internal/scale"
	"gatehouse/drivers/internal/states"
	"gatehouse/protocol/point"
)

// form is how an unsigned value stands in the data of a job's replies.
type form struct {
	mask  uint64
	words uint8 // 0: a bit
	low   bool  // low word first
	swap  bool  // low byte first in each register
}

func newForm(at block, order string, swap bool, mask uint64) form {
	if at.bits() {
		return form{}
	}
	return form{mask: mask, words: uint8(at.count), low: order == "LH", swap: swap}
}

// raw returns the unsigned value at the place, which counts bytes or, of a bit,
// bits; the bits that the mask marks are picked and packed.
func (f *form) raw(data []byte, place int) uint64 {
	var v uint64
	switch f.words {
	case 0:
		// The first item is the lowest bit (MODBUS Application Protocol V1.1b3, 6.1).
		return uint64(data[place/8]>>(place%8)) & 1
	case 1:
		v = uint64(f.word(data[place:]))
	default:
		for i := range int(f.words) {
			if f.low {
				i = int(f.words) - 1 - i
			}
			v = v<<16 | uint64(f.word(data[place+2*i:]))
		}
	}
	if f.mask == 0 {
		return v
	}
	return extract(v, f.mask)
}

func (f *form) word(data []byte) uint16 {
	if f.swap {
		return binary.LittleEndian.Uint16(data)
	}
	return binary.BigEndian.Uint16(data)
}

// step is how far apart neighbours of this form stand.
func (f *form) step() int { return max(1, 2*int(f.words)) }

// extract packs the bits of v that mask marks, lowest first (as PEXT does).
func extract(v, mask uint64) uint64 {
	var out uint64
	for n := 0; mask != 0; n++ {
		low := bits.TrailingZeros64(mask)
		out |= v >> low & 1 << n
		mask &= mask - 1
	}
	return out
}

// field is a value of which there is but one.
type field struct {
	form
	place int32
}

func (f *field) raw(data []byte) uint64 { return f.form.raw(data, int(f.place)) }

// shape is what the bytes of a point mean. The devices of a site are much alike:
// all of them share one copy of each shape (unique). It is taken out for each
// run, so it is kept to 64 bytes.
type shape struct {
	form
	scaling  scale.Linear
	min, max float64 // infinite: no end
	kind     point.Kind
	numeric  byte  // 'u', 's' or 'f'
	width    uint8 // bits of the raw value
	invert   bool

	dangerAbove, dangerBelow bool // of a life-safety point: the sides where danger is
}

// codes are the raw values that a Bool is known by.
type codes struct {
	active, inactive       uint64
	hasActive, hasInactive bool
}

// truth says what a raw value means; false for ok if that is not known.
func (c *codes) truth(raw uint64) (on, ok bool) {
	switch {
	case c == nil:
		return raw != 0, true
	case c.hasActive && raw == c.active:
		return true, true
	case c.hasInactive && raw == c.inactive:
		return false, true
	case c.hasActive:
		return false, !c.hasInactive
	}
	return true, true
}

// special is what the profiles of few points say.
type special struct {
	codes     *codes
	decimals  *lookup
	factor    *lookup
	status    *state
	states    *states.Table
	sentinels []uint64
	bound     look.Step
}

// lookup is a code beside the value.
type lookup struct {
	field field
	table map[uint64]float64
}

// state is the field of the State point that vouches for another.
type state struct {
	field  field
	states *states.Table
}

// run is one point, or neighbours of the same shape. There may be tens of
// thousands of points: what few of them have stands apart, and none has its own
// copy of its id (drivers.Job has them).
type run struct {
	shape   unique.Handle[shape]
	special *special // nil for most; shared by a run
	place   int32
	count   int32
}

// newShape compiles what the bytes of a point mean.
func newShape(p *drivers.PointSpec, at block) shape {
	t, r := types[typeOf(p)], look.NewRange(p)
	s := shape{
		form: newForm(at, p.Order, p.Swap, p.Bits),
		kind: p.Kind, numeric: t.class, width: uint8(16 * t.registers),
		scaling: scale.New(p.Scale, p.Offset),
		min:     r.Min, max: r.Max, dangerAbove: r.Above, dangerBelow: r.Below,
		invert: p.Invert,
	}
	if p.Bits != 0 {
		s.width = uint8(bits.OnesCount64(p.Bits))
	}
	return s
}

// limits returns the range of a point; shape has it in fewer bytes.
func (s *shape) limits() look.Range {
	return look.Range{Min: s.min, Max: s.max, Above: s.dangerAbove, Below: s.dangerBelow}
}

// newCodes returns the codes of a Bool that has some.
func newCodes(p *drivers.PointSpec) (c codes, ok bool) {
	if p.Active != nil {
		c.active, c.hasActive = *p.Active, true
	}
	if p.Inactive != nil {
		c.inactive, c.hasInactive = *p.Inactive, true
	}
	return c, c.hasActive || c.hasInactive
}

// special compiles what the profile says of few points, or nil. Points that
// have codes and nothing else share it.
func (p *planner) special(ps *drivers.PointSpec, sources []source) *special {
	spec := p.spec
	status, coded := statusOf(spec, ps), (*special)(nil)
	if c, ok := newCodes(ps); ok {
		if coded = p.coded[c]; coded == nil {
			coded = &special{codes: &c}
			p.coded[c] = coded
		}
	}
	if ps.Decimals == nil && ps.UnitFrom == nil && status == nil && ps.States == nil && ps.Sentinels == nil && ps.MaxStep == nil {
		return coded
	}
	find := func(l *drivers.Lookup) *lookup {
		if l == nil {
			return nil
		}
		return &lookup{field: newField(sources, place(spec, l.At, 1), "", false, l.Bits), table: l.Map}
	}
	s := &special{decimals: find(ps.Decimals), factor: find(ps.UnitFrom), states: states.New(ps), sentinels: ps.Sentinels, bound: look.NewStep(ps)}
	if coded != nil {
		s.codes = coded.codes
	}
	if status != nil {
		s.status = &state{
			field:  newField(sources, place(spec, status.At, width(status)), status.Order, status.Swap, status.Bits),
			states: states.New(status),
		}
	}
	return s
}

func newField(sources []source, at block, order string, swap bool, mask uint64) field {
	return field{form: newForm(at, order, swap, mask), place: find(sources, at)}
}

// decode returns what the data says of the point at the place. A life-safety
// point outside its range on a side where danger is, is Good.
func (s *shape) decode(sp *special, data []byte, place int) (v point.Value, q point.Quality) {
	raw := s.raw(data, place)
	q = point.Good
	if sp != nil {
		if slices.Contains(sp.sentinels, raw) {
			return point.Value{}, point.Fault
		}
		if sp.status != nil {
			q = sp.status.states.Vouch(sp.status.field.raw(data), s.limits().Safety())
		}
	}
	switch s.kind {
	case point.Bool:
		var c *codes
		if sp != nil {
			c = sp.codes
		}
		on, ok := c.truth(raw)
		if !ok {
			return point.Value{}, point.Fault
		}
		return point.Truth(on != s.invert), q
	case point.State:
		v, own := sp.states.Value(raw)
		if own != point.Good {
			q = own
		}
		return v, q
	}
	x, ok := s.number(sp, data, raw)
	if !ok {
		return point.Value{}, point.Fault
	}
	if q == point.Good && !s.limits().Holds(x) {
		q = point.Implausible
	}
	return point.Float(x), q
}

// number converts a raw value to the point's unit; false means that the device
// sent no number, or a code beside it that is not in the table.
func (s *shape) number(sp *special, data []byte, raw uint64) (float64, bool) {
	var x float64
	digits := 0 // significant ones the raw value has; 0: all of a float64
	switch {
	case s.numeric == 'f' && s.width == 32:
		x, digits = float64(math.Float32frombits(uint32(raw))), 7
	case s.numeric == 'f':
		x, digits = math.Float64frombits(raw), 15
	case s.numeric == 's':
		shift := 64 - s.width
		x = float64(int64(raw<<shift) >> shift)
	default:
		x = float64(raw)
	}
	if digits > 0 && (math.IsNaN(x) || math.IsInf(x, 0)) {
		return 0, false
	}
	if sp == nil || sp.decimals == nil && sp.factor == nil {
		x = s.scaling.Apply(x, 0, digits)
		return x, !math.IsInf(x, 0)
	}
	power, ok := sp.decimals.number(data, 0)
	if !ok || power < 0 || power > mostDecimals || power != math.Trunc(power) {
		return 0, false
	}
	x = s.scaling.Apply(x, int(power), digits)
	factor, ok := sp.factor.number(data, 1)
	if !ok || factor == 0 { // a unit of nothing would make all well
		return 0, false
	}
	if factor != 1 {
		x = scale.Round(x*factor, 12)
	}
	return x, !math.IsInf(x, 0) && !math.IsNaN(x)
}

// mostDecimals is how many a device can have: a float64 holds no more digits.
const mostDecimals = 15

// number returns what the code stands for, or otherwise if there is no lookup.
func (l *lookup) number(data []byte, otherwise float64) (float64, bool) {
	if l == nil {
		return otherwise, true
	}
	code := l.field.raw(data)
	if l.table == nil {
		return float64(code), true
	}
	f, ok := l.table[code]
	return f, ok
}
