package lineframe

import (
	"math"
	"math/bits"

	"gatehouse/drivers"
	"gatehouse/drivers/internal/meaning"
	"gatehouse/protocol/card"
	"gatehouse/protocol/lineframe"
	"gatehouse/protocol/point"
)

// form is how a value stands in a frame: u unsigned, s signed, f floating point,
// d decimal digits of four bits, D decimal text, H hexadecimal text, t text. Size
// is in bytes; 0 if each point states its own.
type form struct {
	class byte
	size  int
}

var forms = map[string]form{
	"u8": {'u', 1}, "u16": {'u', 2}, "u32": {'u', 4},
	"s8": {'s', 1}, "s16": {'s', 2}, "s32": {'s', 4},
	"f32": {'f', 4}, "bcd": {'d', 0},
	"decimal": {'D', 0}, "hex": {'H', 0}, "text": {'t', 0},
}

// field is where a point stands in a frame, and how.
type field struct {
	at, size int
	class    byte
	little   bool
	bits     uint64
	width    int // bits of a signed number
	code     bool
	text     string // what was read last, so that the same again is no garbage
}

func newField(p *drivers.PointSpec) field {
	f := field{at: int(p.At.Address), size: size(p), class: forms[p.Type].class, little: p.Order == "LH", bits: p.Bits, code: p.Kind != point.Number}
	f.width = 8 * f.size
	if p.Bits != 0 {
		f.width = bits.OnesCount64(p.Bits)
	}
	return f
}

// size is how many bytes a point takes; 0 is up to the end.
func size(p *drivers.PointSpec) int {
	if f := forms[p.Type]; f.size > 0 {
		return f.size
	}
	return p.Size
}

// raw reads the field.
func (f *field) raw(b []byte) meaning.Raw {
	if b == nil {
		return meaning.Raw{}
	}
	switch f.class {
	case 't':
		return f.words(b)
	case 'D':
		digits, places, negative, ok := lineframe.Decimal(b)
		r := meaning.Raw{OK: ok, Code: digits, Num: float64(digits), Places: places}
		if negative {
			r.Num = -r.Num
		}
		if f.code && (negative || places > 0) {
			return meaning.Raw{}
		}
		return r
	case 'H':
		v, ok := lineframe.Hex(b)
		v = meaning.Pick(v, f.bits)
		return meaning.Raw{OK: ok, Code: v, Num: float64(v)}
	}
	v := meaning.Pick(lineframe.Uint(b, f.little), f.bits)
	r := meaning.Raw{OK: true, Code: v, Num: float64(v)}
	switch f.class {
	case 's':
		shift := 64 - f.width
		r.Num = float64(int64(v<<shift) >> shift)
	case 'f':
		r.Num, r.Digits = float64(math.Float32frombits(uint32(v))), 7
	case 'd':
		if f.code {
			break // a code is its bits
		}
		n, ok := lineframe.Digits(v)
		r.Num, r.OK = float64(n), ok
	}
	return r
}

// words reads text. What is not printable was not meant to be read.
func (f *field) words(b []byte) meaning.Raw {
	b = lineframe.Trim(b)
	if !lineframe.Printable(b) {
		return meaning.Raw{}
	}
	if string(b) != f.text {
		f.text = string(b)
	}
	return meaning.Raw{OK: true, Text: f.text}
}

// credential reports whether a point is a secret of a person.
func credential(p *drivers.PointSpec) bool { return p.Role == "card" || p.Role == "keypad" }

// secret is a card or a code in a frame.
type secret struct {
	id       point.ID
	at, size int
	class    byte
	code     bool // typed at a keypad
	reversed bool
	failing  bool // the last one was none
}

func newSecret(p *drivers.PointSpec) secret {
	return secret{
		id: p.ID, at: int(p.At.Address), size: size(p), class: forms[p.Type].class,
		code: p.Role == "keypad", reversed: p.Order == "LH",
	}
}

// read returns the canonical form. Its errors do not say what was read.
func (s *secret) read(b []byte) (card.Credential, error) {
	switch {
	case s.code:
		return card.Code(lineframe.Trim(b))
	case s.class == 'H':
		return card.Hex(string(lineframe.Trim(b)), s.reversed)
	case s.class == 'D':
		return card.Decimal(string(lineframe.Trim(b)), s.reversed)
	case len(b) == 0 || len(b) > card.MaxUID:
		return nil, card.ErrForm
	}
	return card.UID(b, s.reversed), nil // the bytes are the number
}
