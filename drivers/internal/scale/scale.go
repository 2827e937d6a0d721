// Package scale turns the number a device sends into the decimal a person
// expects: 235 at a scale of 0.1 is 23.5, which 235*0.1 is not. It guarantees
// that for every decimal scale and offset of few digits; it does not allocate.
package scale

import "math"

// Linear computes raw*scale + offset.
type Linear struct {
	mul, div float64 // scale = mul/div, whole numbers if it is a decimal
	offset   float64
}

var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// New returns the conversion; a scale of 0 means 1.
func New(scale, offset float64) Linear {
	if scale == 0 {
		scale = 1
	}
	s := Linear{mul: scale, div: 1, offset: offset}
	if inverse := 1 / scale; math.Abs(inverse) >= 1 && whole(inverse) {
		s.mul, s.div = math.Copysign(1, inverse), math.Abs(math.Round(inverse))
		return s
	}
	for _, p := range powers[:10] {
		if whole(scale * p) {
			s.mul, s.div = math.Round(scale*p), p
			break
		}
	}
	return s
}

// whole reports whether x is an integer but for the error of one operation.
func whole(x float64) bool {
	n := math.Round(x)
	return n != 0 && math.Abs(x-n) <= 4e-16*math.Abs(x)+1e-300 && math.Abs(n) < 1e15
}

// Apply scales x, divides it by ten to the power of decimals, and adds the
// offset. digits is the number of significant digits x has, or 0; decimals is at
// most 22.
func (s Linear) Apply(x float64, decimals, digits int) float64 {
	if digits > 0 {
		x = Round(x, digits)
	}
	div := s.div * powers[decimals]
	switch {
	case s.offset == 0:
		x = x * s.mul / div
	case whole(s.offset * div):
		x = (x*s.mul + math.Round(s.offset*div)) / div
	default:
		x = Round(x*s.mul/div+s.offset, 12)
	}
	if digits > 0 {
		x = Round(x, digits)
	}
	return x + 0 // no negative zero
}

// Round keeps so many significant digits.
func Round(x float64, digits int) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return x
	}
	places := digits - 1 - int(math.Floor(math.Log10(math.Abs(x))))
	switch {
	case places >= len(powers), places <= -len(powers):
		return x // beyond what a float64 holds exactly; no device measures that
	case places >= 0:
		return math.Round(x*powers[places]) / powers[places]
	}
	return math.Round(x/powers[-places]) * powers[-places]
}
