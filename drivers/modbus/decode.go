package modbus

import (
	"math"
	"math/bits"
	"strconv"

	"gatehouse/drivers"
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
	offset  int // of the first byte, or the number of the bit
	words   int // 0: a bit
	low     bool
	mask    uint64
}

func newField(sources []source, at block, order string, mask uint64) field {
	f := field{low: order == "LH", mask: mask}
	for _, s := range sources {
		if !s.block.holds(at) {
			continue
		}
		f.request, f.offset = s.request, at.start-s.block.start
		if !at.bits() {
			f.offset *= 2
			f.words = at.count
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
	for i := range f.words {
		at := f.offset + 2*i
		if f.low {
			at = f.offset + 2*(f.words-1-i)
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

// reader makes readings of one point.
type reader struct {
	id        point.ID
	kind      point.Kind
	numeric   byte // 'u', 's' or 'f'
	width     int  // bits of the raw value
	value     field
	invert    bool
	safety    bool
	scaling   scaling
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

func newReader(spec drivers.Spec, p *drivers.PointSpec, sources []source) *reader {
	t := types[typeOf(p)]
	r := &reader{
		id: p.ID, kind: p.Kind, numeric: t.class, width: 16 * t.registers,
		value:   newField(sources, place(spec, p.At, t.registers), p.Order, p.Bits),
		invert:  p.Invert,
		safety:  point.Roles[p.Role].Safety,
		scaling: newScaling(p.Scale, p.Offset),
		states:  p.States, sentinels: p.Sentinels, min: p.Min, max: p.Max,
	}
	if p.Bits != 0 {
		r.width = bits.OnesCount64(p.Bits)
	}
	find := func(l *drivers.Lookup) *lookup {
		if l == nil {
			return nil
		}
		return &lookup{field: newField(sources, place(spec, l.At, 1), "", l.Bits), table: l.Map}
	}
	r.decimals, r.factor = find(p.Decimals), find(p.UnitFrom)
	if s := statusOf(spec, p); s != nil {
		r.status = &state{field: newField(sources, place(spec, s.At, width(s)), s.Order, s.Bits), states: s.States}
	}
	return r
}

// decode returns what the data says. high marks a life-safety point above its
// range: Good, but worth a second look.
func (r *reader) decode() (v point.Value, q point.Quality, high bool) {
	raw := r.value.raw()
	for _, s := range r.sentinels {
		if raw == s {
			return point.Value{}, point.Fault, false
		}
	}
	q = point.Good
	if r.status != nil {
		q = quality(r.status.states, r.status.field.raw())
	}
	switch r.kind {
	case point.Bool:
		return point.Truth(raw != 0 != r.invert), q, false
	case point.State:
		if own := quality(r.states, raw); own != point.Good {
			q = own
		}
		return point.Value{Kind: point.State, Num: float64(raw), Text: stateName(r.states, raw)}, q, false
	}
	x, ok := r.number(raw)
	if !ok {
		return point.Value{}, point.Fault, false
	}
	v = point.Float(x)
	switch {
	case q != point.Good:
	case r.min != nil && x < *r.min:
		q = point.Implausible
	case r.max != nil && x > *r.max:
		if r.safety {
			return v, q, true
		}
		q = point.Implausible
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
	if r.decimals != nil {
		n, ok := r.decimals.number()
		if !ok || n < 0 || n > 15 || n != math.Trunc(n) {
			return 0, false
		}
		power = n
	}
	x = r.scaling.apply(x, int(power), digits)
	if r.factor != nil {
		f, ok := r.factor.number()
		if !ok {
			return 0, false
		}
		if f != 1 {
			x = round(x*f, 12)
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
