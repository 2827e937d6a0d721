package lineframe

import "bytes"

// Uint reads up to eight bytes as an unsigned number.
func Uint(b []byte, little bool) (v uint64) {
	for i := range min(len(b), 8) {
		if little {
			v |= uint64(b[i]) << (8 * i)
		} else {
			v = v<<8 | uint64(b[i])
		}
	}
	return v
}

// Digits reads a number of which each four bits are one decimal digit.
func Digits(raw uint64) (n uint64, ok bool) {
	for shift := 60; shift >= 0; shift -= 4 {
		digit := raw >> shift & 0x0F
		if digit > 9 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}

// Trim cuts off what pads text: spaces, line ends and zero bytes.
func Trim(text []byte) []byte { return bytes.Trim(text, " \t\r\n\x00") }

// maxDigits is how many decimal digits a float64 holds exactly.
const maxDigits = 15

// Decimal reads a number that was sent as text, as in " -12.50": its digits
// without the point, how many of them stood behind it (at most 15), and its sign.
func Decimal(text []byte) (digits uint64, places int, negative, ok bool) {
	text = Trim(text)
	if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
		negative, text = text[0] == '-', text[1:]
	}
	point, significant := false, 0
	for _, c := range text {
		switch {
		case c == '.' && !point:
			point = true
			continue
		case c < '0' || c > '9':
			return 0, 0, false, false
		}
		ok = true
		digits = digits*10 + uint64(c-'0')
		if digits > 0 {
			significant++
		}
		if point {
			places++
		}
		if significant > maxDigits || places > maxDigits {
			return 0, 0, false, false
		}
	}
	return digits, places, negative, ok
}

// Hex reads an unsigned number that was sent as hexadecimal text.
func Hex(text []byte) (v uint64, ok bool) {
	text = Trim(text)
	if len(text) == 0 || len(text) > 16 {
		return 0, false
	}
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v, true
}

// Printable reports whether text is of ASCII characters that can be seen.
func Printable(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
