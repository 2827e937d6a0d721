package modbus

import (
	"math"
	"math/bits"
	"strconv"

	"gatehouse/drivers"
	"gatehouse/drivers/internal/scale"
	"gatehouse/protocol/point"
)

// source is a block and the request that reads it.
type source struct {
	block   block
	request *request
}

// field is where a raw value stands in the data of a reply.
type field struct {
	request *request
	mask    uint64
	offset  int32 // of the first byte, or the number of the bit
	words   uint8 // 0: a bit
	low     bool
}

func newField(sources []source, at block, order string, mask uint64) field {
	f := field{low: order == "LH", mask: mask}
	for _, s := range sources {
		if !s.block.holds(at) {
			continue
		}
		f.request, f.offset = s.request, int32(at.start-s.block.start)
		if !at.bits() {
			f.offset *= 2
			f.words = uint8(at.count)
		}
		break
	}
	return f
}

// raw returns the unsigned value with its bits picked and packed.
func (f *field) raw() uint64 {
	data := f.request.data
	if f.words == 0 {
		// The first item is the lowest bit (MODBUS Application Protocol V1.1b3, 6.1).
		return uint64(data[f.offset/8]>>(f.offset%8)) & 1
	}
	var v uint64
	for i := range int32(f.words) {
		at := f.offset + 2*i
		if f.low {
			at = f.offset + 2*(int32(f.words)-1-i)
		}
		v = v<<16 | uint64(data[at])<<8 | uint64(data[at+1])
	}
	if f.mask == 0 {
		return v
	}
	return extract(v, f.mask)
}

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

// reader makes readings of one point. There may be tens of thousands of them:
// what few points have stands apart.
type reader struct {
	id      point.ID
	value   field
	scaling scale.Linear
	special *special // never nil
	kind    point.Kind
	numeric byte  // 'u', 's' or 'f'
	width   uint8 // bits of the raw value
	invert  bool
	high    bool // above its range may be danger
	low     bool // below its range may be danger
}

// special is what the profiles of few points say.
type special struct {
	decimals  *lookup
	factor    *lookup
	status    *state
	states    map[uint64]drivers.State
	sentinels []uint64
	min, max  *float64
}

// lookup is a code beside the value.
type lookup struct {
	field field
	table map[uint64]float64
}

// state is the field of the State point that vouches for another.
type state struct {
	field  field
	states map[uint64]drivers.State
}

// newReader compiles one point; plain is shared by those with nothing special.
func newReader(spec drivers.Spec, p *drivers.PointSpec, sources []source, plain *special) reader {
	t, role := types[typeOf(p)], point.Roles[p.Role]
	r := reader{
		id: p.ID, kind: p.Kind, numeric: t.class, width: uint8(16 * t.registers),
		value:   newField(sources, place(spec, p.At, t.registers), p.Order, p.Bits),
		invert:  p.Invert,
		high:    role.Safety,
		low:     role.Safety && role.Low,
		scaling: scale.New(p.Scale, p.Offset),
		special: plain,
	}
	if p.Bits != 0 {
		r.width = uint8(bits.OnesCount64(p.Bits))
	}
	status := statusOf(spec, p)
	if p.Decimals == nil && p.UnitFrom == nil && status == nil && p.States == nil && p.Sentinels == nil && p.Min == nil && p.Max == nil {
		return r
	}
	find := func(l *drivers.Lookup) *lookup {
		if l == nil {
			return nil
		}
		return &lookup{field: newField(sources, place(spec, l.At, 1), "", l.Bits), table: l.Map}
	}
	r.special = &special{
		decimals: find(p.Decimals), factor: find(p.UnitFrom), states: p.States, sentinels: p.Sentinels, min: p.Min, max: p.Max,
	}
	if status != nil {
		r.special.status = &state{
			field: newField(sources, place(spec, status.At, width(status)), status.Order, status.Bits), states: status.States,
		}
	}
	return r
}

// decode returns what the data says. beyond marks a life-safety point outside
// its range on a side where danger is: Good, but worth a second look.
func (r *reader) decode() (v point.Value, q point.Quality, beyond bool) {
	raw, s := r.value.raw(), r.special
	for _, sentinel := range s.sentinels {
		if raw == sentinel {
			return point.Value{}, point.Fault, false
		}
	}
	q = point.Good
	if s.status != nil {
		q = quality(s.status.states, s.status.field.raw())
	}
	switch r.kind {
	case point.Bool:
		return point.Truth(raw != 0 != r.invert), q, false
	case point.State:
		if own := quality(s.states, raw); own != point.Good {
			q = own
		}
		return point.Value{Kind: point.State, Num: float64(raw), Text: stateName(s.states, raw)}, q, false
	}
	x, ok := r.number(raw)
	if !ok {
		return point.Value{}, point.Fault, false
	}
	v = point.Float(x)
	if q != point.Good {
		return v, q, false
	}
	under, over := s.min != nil && x < *s.min, s.max != nil && x > *s.max
	switch {
	case under && r.low, over && r.high:
		return v, q, true
	case under, over:
		return v, point.Implausible, false
	}
	return v, q, false
}

// quality is what a state says about measurements; an unknown code is a fault.
func quality(states map[uint64]drivers.State, code uint64) point.Quality {
	s, ok := states[code]
	switch {
	case !ok, s.Class == drivers.ClassFault:
		return point.Fault
	case s.Class == drivers.ClassWarmup:
		return point.Unknown
	}
	return point.Good
}

func stateName(states map[uint64]drivers.State, code uint64) string {
	if s, ok := states[code]; ok {
		return s.Name
	}
	return "code " + strconv.FormatUint(code, 10)
}

// number converts a raw value to the point's unit; false means that the device
// sent no number, or a code beside it that is not in the table.
func (r *reader) number(raw uint64) (float64, bool) {
	var x float64
	digits := 0 // significant ones the raw value has; 0: all of a float64
	switch {
	case r.numeric == 'f' && r.width == 32:
		x, digits = float64(math.Float32frombits(uint32(raw))), 7
	case r.numeric == 'f':
		x, digits = math.Float64frombits(raw), 15
	case r.numeric == 's':
		shift := 64 - r.width
		x = float64(int64(raw<<shift) >> shift)
	default:
		x = float64(raw)
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, false
	}
	power := 0.0
	if r.special.decimals != nil {
		n, ok := r.special.decimals.number()
		if !ok || n < 0 || n > 15 || n != math.Trunc(n) {
			return 0, false
		}
		power = n
	}
	x = r.scaling.Apply(x, int(power), digits)
	if r.special.factor != nil {
		f, ok := r.special.factor.number()
		if !ok {
			return 0, false
		}
		if f != 1 {
			x = scale.Round(x*f, 12)
		}
	}
	return x, !math.IsInf(x, 0)
}

func (l *lookup) number() (float64, bool) {
	code := l.field.raw()
	if l.table == nil {
		return float64(code), true
	}
	f, ok := l.table[code]
	return f, ok
}
