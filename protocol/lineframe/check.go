package lineframe

import (
	"errors"
	"fmt"
)

// check reports every fault of the format, and finds the shortest frame.
func (c *Codec) check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	f := &c.f
	longest := max(f.Size, f.Max)
	switch {
	case f.Size < 0 || f.Size > Longest:
		fail("size %d: want 1 to %d bytes", f.Size, Longest)
	case f.Size > 0 && (f.Max != 0 || f.Length != nil):
		fail("size: a frame of fixed size has neither max nor length")
	case f.Size == 0 && (f.Max < 1 || f.Max > Longest):
		fail("max %d: want the size of the longest frame, 1 to %d bytes", f.Max, Longest)
	case f.Size == 0 && f.Length == nil && len(f.End) == 0:
		fail("end: nothing says where a frame ends; give size, length or end")
	}
	if len(f.Start) == 0 && len(f.End) == 0 && f.Check.Kind == None {
		fail("start: nothing tells a frame from noise; give start, end or check")
	}
	known := f.Check.Kind.known()
	if !known {
		fail("check %q: want sum8, neg8, xor8, crc16-modbus or crc16-ccitt", f.Check.Kind)
	}
	lengthOK := true
	if l := f.Length; l != nil {
		if l.Size != 1 && l.Size != 2 {
			fail("length of %d bytes: want 1 or 2", l.Size)
			lengthOK = false
		}
		if l.At < 0 || l.At >= Longest {
			fail("length at %d: want a place in the frame, from 0", l.At)
			lengthOK = false
		}
		if l.Add < -Longest || l.Add > Longest {
			fail("length plus %d: want at most %d", l.Add, Longest)
		}
	}
	if f.Reach < 0 {
		fail("reach %d: cannot be negative", f.Reach)
	}
	if known && lengthOK && longest >= 1 && longest <= Longest {
		errs = append(errs, c.bounds(longest)...)
	}
	return errors.Join(errs...)
}

// bounds finds the shortest frame that has room for all that is described. Every
// longer one must have it too.
func (c *Codec) bounds(longest int) (errs []error) {
	least := max(len(c.f.Start)+len(c.f.End), c.f.Reach, 1)
	if l := c.f.Length; l != nil {
		least = max(least, l.At+l.Size)
	}
	if least > longest {
		return []error{fmt.Errorf("start, end, length and fields take %d bytes, and the longest frame has %d", least, longest)}
	}
	if c.f.Size > 0 {
		least = c.f.Size
	}
	c.shortest = least
	for c.shortest < longest && !c.covers(c.shortest) {
		c.shortest++
	}
	for total := c.shortest; total <= longest; total++ {
		if !c.covers(total) {
			return []error{fmt.Errorf("check: from %d until %d at %d covers nothing, covers itself or lies outside in a frame of %d bytes",
				c.f.Check.From, c.f.Check.Until, c.f.Check.At, total)}
		}
	}
	return nil
}

// Kind is a kind of check value.
type Kind string

// The kinds. Both CRCs begin at FFFF and end without inversion: CRC-16/MODBUS
// (polynomial 8005, reflected; low byte first) and CRC-16/CCITT-FALSE
// (polynomial 1021; high byte first).
const (
	None        Kind = ""
	Sum8        Kind = "sum8"
	Neg8        Kind = "neg8" // makes the sum of all zero
	Xor8        Kind = "xor8"
	CRC16Modbus Kind = "crc16-modbus"
	CRC16CCITT  Kind = "crc16-ccitt"
)

func (k Kind) known() bool { return k == None || k.Width() > 0 }

// Width is how many bytes the check value has.
func (k Kind) Width() int {
	switch k {
	case Sum8, Neg8, Xor8:
		return 1
	case CRC16Modbus, CRC16CCITT:
		return 2
	}
	return 0
}

// Sum returns the check value of b, as it is sent; a byte beyond its width is 0.
func (k Kind) Sum(b []byte) (sum [2]byte) {
	switch k {
	case Sum8, Neg8:
		for _, c := range b {
			sum[0] += c
		}
		if k == Neg8 {
			sum[0] = -sum[0]
		}
	case Xor8:
		for _, c := range b {
			sum[0] ^= c
		}
	case CRC16Modbus:
		crc := uint16(0xFFFF)
		for _, c := range b {
			crc ^= uint16(c)
			for range 8 {
				low := crc & 1
				crc = crc>>1 ^ low*0xA001
			}
		}
		sum = [2]byte{byte(crc), byte(crc >> 8)}
	case CRC16CCITT:
		crc := uint16(0xFFFF)
		for _, c := range b {
			crc ^= uint16(c) << 8
			for range 8 {
				high := crc >> 15
				crc = crc<<1 ^ high*0x1021
			}
		}
		sum = [2]byte{byte(crc >> 8), byte(crc)}
	}
	return sum
}
