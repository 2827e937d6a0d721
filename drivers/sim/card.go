package sim

import (
	"encoding/hex"
	"fmt"
	"math/bits"
)

// Card is what a card reader saw: so many bits, the first in the top bit of
// Raw, padded at the end.
type Card struct {
	Wiegand bool // format 1; otherwise unspecified
	Bits    int
	Raw     []byte
}

// Wiegand26 is the format H10301: 8 bits facility, 16 bits number.
func Wiegand26(facility uint8, number uint16) Card {
	return wiegand(uint64(facility)<<16|uint64(number), 24, 13, 13)
}

// Wiegand34 carries a number of 32 bits.
func Wiegand34(number uint32) Card { return wiegand(uint64(number), 32, 17, 17) }

// Wiegand37 carries a number of 35 bits; the two parities share the middle bit.
func Wiegand37(number uint64) Card { return wiegand(number&(1<<35-1), 35, 19, 19) }

// RawCard is what a reader sends that knows no format, a chip's UID for one.
func RawCard(raw []byte) Card { return Card{Bits: 8 * len(raw), Raw: raw} }

// wiegand puts an even parity bit over the first head bits before the number,
// and an odd one over the last tail bits behind it.
func wiegand(number uint64, size, head, tail int) Card {
	n, all := number<<1, size+2
	if bits.OnesCount64(n>>(all-head))%2 == 1 {
		n |= 1 << (all - 1)
	}
	if bits.OnesCount64(n&(1<<tail-1))%2 == 0 {
		n |= 1
	}
	c := Card{Wiegand: true, Bits: all, Raw: make([]byte, (all+7)/8)}
	n <<= 8*len(c.Raw) - all
	for i := range c.Raw {
		c.Raw[i] = byte(n >> (8 * (len(c.Raw) - 1 - i)))
	}
	return c
}

// Swipe is a card as a scenario writes it: {format: 26, facility: 123, number: 4567},
// {format: 34, number: 70000} or {raw: "04A1B2C3"}.
type Swipe struct {
	Format   int    `yaml:"format"`
	Facility uint8  `yaml:"facility"`
	Number   uint64 `yaml:"number"`
	Raw      string `yaml:"raw"`
}

// Card returns what the reader sends of it.
func (s Swipe) Card() (Card, error) {
	largest := map[int]uint64{26: 1<<16 - 1, 34: 1<<32 - 1, 37: 1<<35 - 1}
	top, known := largest[s.Format]
	raw, err := hex.DecodeString(s.Raw)
	switch {
	case s.Format == 0 && err == nil && len(raw) > 0 && len(raw) <= 32 && s.Number == 0 && s.Facility == 0:
		return RawCard(raw), nil
	case !known || s.Raw != "":
		return Card{}, fmt.Errorf("card: want format 26, 34 or 37 with a number, or raw with 1 to 32 bytes in hex")
	case s.Number > top:
		return Card{}, fmt.Errorf("card: number %d is above %d, the largest of format %d", s.Number, top, s.Format)
	case s.Facility != 0 && s.Format != 26:
		return Card{}, fmt.Errorf("card: format %d has no facility", s.Format)
	case s.Format == 26:
		return Wiegand26(s.Facility, uint16(s.Number)), nil
	case s.Format == 34:
		return Wiegand34(uint32(s.Number)), nil
	}
	return Wiegand37(s.Number), nil
}
