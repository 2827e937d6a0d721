// Package card knows what a card or a keypad code says about itself, whichever
// reader it was held to.
//
// It guarantees: the same card gives the same Credential by every way that
// carries all of it, and two different reads never give the same one by
// accident of form; parity is checked wherever the format has it; no error and
// no formatted Credential contains a number that was read.
//
// What equals what:
//
//   - The UID of a chip (ISO/IEC 14443-3: 4, 7 or 10 bytes) is "uid:" and its
//     bytes in hexadecimal, in the order in which the chip sends them. The 34-bit
//     read, the raw 32-bit read, and the text read of one 4-byte UID are equal,
//     be the text hexadecimal or decimal; so are the raw 56- and 80-bit reads of
//     longer ones and their text. A 40- or 64-bit read is a UID too, of 5 bytes
//     (125 kHz tags) or 8 (ISO/IEC 15693), and equals its text. Readers differ in
//     byte order: reversed says that this one sends the last byte first, and only
//     UIDs are turned by it.
//   - A 26-bit read is "h10301:facility:card". It equals nothing else: a reader
//     that sends a UID by 26 bits drops a byte of it, and what is dropped cannot
//     be known from another read.
//   - A 37-bit read is "h10304:facility:card", all 35 bits of it. H10302 has the
//     same parity and no facility; its cards get the same form, which is as unique.
//   - Any other number of bits is "bits:count:hexadecimal", the first bit in the
//     top bit, zeros behind the last. Nothing is known of its order or parity.
//   - A code typed at a keypad is "code:digits". It equals no card.
package card

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// Errors of a read. Neither says what was read.
var (
	// ErrParity occurs when a parity bit contradicts the bits it covers.
	ErrParity = errors.New("card read with wrong parity")
	// ErrForm occurs when the bytes, bits or text cannot be a read of the kind asked for.
	ErrForm = errors.New("card read of a wrong form")
)

// Limits of what is taken for a read.
const (
	MaxBits   = 512 // longer than any card format in use
	MaxUID    = 16  // bytes; ISO/IEC 14443-3 knows at most 10
	MaxDigits = 16  // of a code
)

// Credential is a card or code in its canonical form. It is secret: it is hashed
// where it was read, and then wiped. Formatting or logging one shows nothing.
type Credential []byte

// Format implements fmt.Formatter for every verb.
func (c Credential) Format(f fmt.State, _ rune) { f.Write([]byte("(credential)")) }

// LogValue implements slog.LogValuer.
func (c Credential) LogValue() slog.Value { return slog.StringValue("(credential)") }

// Wipe overwrites the credential.
func (c Credential) Wipe() { clear(c) }

// Wiegand reads bits as a Wiegand reader or an OSDP RAW reply gives them: the
// first bit in the top bit of raw[0], padding behind the last.
func Wiegand(raw []byte, bits int, reversed bool) (Credential, error) {
	if bits < 1 || bits > MaxBits || len(raw) != (bits+7)/8 {
		return nil, fmt.Errorf("%w: %d bits in %d bytes", ErrForm, bits, len(raw))
	}
	switch bits {
	case 26: // even over 1 to 13, odd over 14 to 26; 2 to 9 facility, 10 to 25 card
		if ones(raw, 0, 13)%2 != 0 || ones(raw, 13, 26)%2 != 1 {
			return nil, fmt.Errorf("%w: 26 bits", ErrParity)
		}
		return pair("h10301:", number(raw, 1, 9), number(raw, 9, 25)), nil
	case 34: // even over 1 to 17, odd over 18 to 34; 2 to 33 the UID
		if ones(raw, 0, 17)%2 != 0 || ones(raw, 17, 34)%2 != 1 {
			return nil, fmt.Errorf("%w: 34 bits", ErrParity)
		}
		return uidNumber(number(raw, 1, 33), 4, reversed), nil
	case 37: // even over the first 19, odd over the last 19; 2 to 17 facility, 18 to 36 card
		if ones(raw, 0, 19)%2 != 0 || ones(raw, 18, 37)%2 != 1 {
			return nil, fmt.Errorf("%w: 37 bits", ErrParity)
		}
		return pair("h10304:", number(raw, 1, 17), number(raw, 17, 36)), nil
	case 32, 40, 56, 64, 80: // a UID as it is
		return UID(raw, reversed), nil
	}
	c := make(Credential, 0, len("bits:512:")+2*len(raw))
	c = append(c, "bits:"...)
	c = strconv.AppendInt(c, int64(bits), 10)
	c = append(c, ':')
	for i, b := range raw {
		if i == len(raw)-1 && bits%8 != 0 {
			b &^= 0xFF >> (bits % 8)
		}
		c = appendHex(c, b)
	}
	return c, nil
}

// UID gives the bytes of a chip's UID their canonical form. Reversed says that b
// has the last byte first.
func UID(b []byte, reversed bool) Credential {
	c := make(Credential, 0, len("uid:")+2*len(b))
	c = append(c, "uid:"...)
	for i := range b {
		if reversed {
			i = len(b) - 1 - i
		}
		c = appendHex(c, b[i])
	}
	return c
}

// Hex reads a UID that was printed in hexadecimal, in either case, with or
// without spaces, colons or dashes between the bytes.
func Hex(text string, reversed bool) (Credential, error) {
	var digits [2 * MaxUID]byte
	var raw [MaxUID]byte
	defer clear(digits[:])
	defer clear(raw[:])
	n := 0
	for _, r := range []byte(strings.TrimSpace(text)) {
		if r == ' ' || r == ':' || r == '-' {
			continue
		}
		if n == len(digits) {
			return nil, fmt.Errorf("%w: a UID has at most %d bytes", ErrForm, MaxUID)
		}
		digits[n] = r
		n++
	}
	if n == 0 || n%2 != 0 {
		return nil, fmt.Errorf("%w: a UID of %d hexadecimal digits", ErrForm, n)
	}
	if _, err := hex.Decode(raw[:], digits[:n]); err != nil { // its text would show the digit
		return nil, fmt.Errorf("%w: not hexadecimal", ErrForm)
	}
	return UID(raw[:n/2], reversed), nil
}

// Decimal reads a UID that was printed as one decimal number, with or without
// leading zeros. A number does not say how long the UID is: it is the shortest
// of 4, 5, 7 and 8 bytes that holds it.
func Decimal(text string, reversed bool) (Credential, error) {
	text = strings.TrimSpace(text)
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return nil, fmt.Errorf("%w: not a decimal number", ErrForm)
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil { // its text would show the number
		return nil, fmt.Errorf("%w: a decimal number of %d digits", ErrForm, len(text))
	}
	for _, size := range [...]int{4, 5, 7} {
		if v < 1<<(8*size) {
			return uidNumber(v, size, reversed), nil
		}
	}
	return uidNumber(v, 8, reversed), nil
}

// Code is what was typed at a keypad: digits only.
func Code(digits []byte) (Credential, error) {
	if len(digits) == 0 || len(digits) > MaxDigits {
		return nil, fmt.Errorf("%w: a code of %d digits", ErrForm, len(digits))
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return nil, fmt.Errorf("%w: a code has digits only", ErrForm)
		}
	}
	return append(append(make(Credential, 0, len("code:")+len(digits)), "code:"...), digits...), nil
}

// Key reads one key of a Wiegand keypad: 4 bits, or 8 whose high half is the
// complement of the low. It returns '0' to '9', or '*' or '#' for 10 and 11. Ok
// is false for what is no key.
func Key(raw []byte, bits int) (key byte, ok bool) {
	if len(raw) != 1 {
		return 0, false
	}
	v := raw[0]
	switch bits {
	case 4:
		v >>= 4
	case 8:
		if v>>4 != ^v&0x0F {
			return 0, false
		}
		v &= 0x0F
	default:
		return 0, false
	}
	const keys = "0123456789*#"
	if int(v) >= len(keys) {
		return 0, false
	}
	return keys[v], true
}

// uidNumber is the UID that was sent as a number, high byte first.
func uidNumber(v uint64, size int, reversed bool) Credential {
	var b [8]byte
	defer clear(b[:])
	for i := range size {
		b[size-1-i] = byte(v >> (8 * i))
	}
	return UID(b[:size], reversed)
}

func pair(format string, facility, number uint64) Credential {
	c := make(Credential, 0, len(format)+5+1+6)
	c = append(c, format...)
	c = strconv.AppendUint(c, facility, 10)
	c = append(c, ':')
	return strconv.AppendUint(c, number, 10)
}

func bit(raw []byte, i int) uint64 { return uint64(raw[i/8]>>(7-i%8)) & 1 }

// ones counts the bits set from one place up to, not including, another.
func ones(raw []byte, from, to int) (n uint64) {
	for i := from; i < to; i++ {
		n += bit(raw, i)
	}
	return n
}

// number is the bits from one place up to, not including, another.
func number(raw []byte, from, to int) (v uint64) {
	for i := from; i < to; i++ {
		v = v<<1 | bit(raw, i)
	}
	return v
}

func appendHex(c Credential, b byte) Credential {
	const digits = "0123456789ABCDEF"
	return append(c, digits[b>>4], digits[b&0x0F])
}
