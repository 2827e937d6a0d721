// Package dlt645 knows the frames by which an electricity meter is read: DL/T
// 645-2007, and of it only what reads.
//
// It guarantees: no frame it builds can change anything in a meter; a reply is
// accepted only if its address, control code, data id (or frame number), length
// and checksum fit the request; no function reads past the bytes it is given, or
// panics on any input; judging and parsing do not allocate.
//
// A frame (DL/T 645-2007 chapter 5): up to four wake-up bytes FE, 68, six bytes
// of address, 68, control code, length, data with 33 added to each byte, the sum
// of all from the first 68 on, 16. Numbers are hexadecimal.
package dlt645

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors of a frame. Both mean that no reply begins at the first byte.
var (
	// ErrForeign occurs when the bytes cannot begin the expected reply.
	ErrForeign = errors.New("foreign frame")
	// ErrDamaged occurs when all but checksum or end fits the expected reply.
	ErrDamaged = fmt.Errorf("damaged frame: %w", ErrForeign)
)

// Control codes of reading, and the bits of a reply's.
const (
	Read        byte = 0x11 // data of one id
	ReadNext    byte = 0x12 // what did not fit into the frame before
	ReadAddress byte = 0x13 // the address of the only meter on the line

	ReplyBit byte = 0x80
	ErrorBit byte = 0x40 // the data is one byte of reasons
	MoreBit  byte = 0x20 // the data goes on in another frame
)

const (
	start  byte = 0x68
	end    byte = 0x16
	wakeup byte = 0xFE
	offset byte = 0x33 // added to each byte of data
)

// Sizes in bytes.
const (
	Wakeups = 4   // sent before each request; a meter may send as many, or fewer
	MaxData = 200 // of a frame that reads
	IDSize  = 4   // of a data id

	head     = 10 // 68, address, 68, control, length
	tail     = 2  // checksum, 16
	Wrapping = head + tail
	minReply = Wrapping + 1 // a refusal
)

// Address is the twelve digits of a meter, as they are sent: two to a byte, the
// last two first.
type Address [6]byte

// Any is the address that every meter answers, to ReadAddress only.
var Any = Address{0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA}

// ParseAddress reads the twelve digits on the meter's plate.
func ParseAddress(digits string) (a Address, err error) {
	if len(digits) != 2*len(a) {
		return a, fmt.Errorf("meter address %q: want 12 digits", digits)
	}
	for i, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return Address{}, fmt.Errorf("meter address %q: want 12 digits", digits)
		}
		at := &a[len(a)-1-i/2]
		*at = *at<<4 | (c - '0')
	}
	return a, nil
}

// String returns the twelve digits.
func (a Address) String() string {
	const digits = "0123456789ABCDEF"
	var s [2 * len(a)]byte
	for i, b := range a {
		s[2*(len(a)-1-i)], s[2*(len(a)-1-i)+1] = digits[b>>4], digits[b&0x0F]
	}
	return string(s[:])
}

// everyone is the address that no meter answers (DL/T 645-2007, broadcast).
var everyone = Address{0x99, 0x99, 0x99, 0x99, 0x99, 0x99}

// Valid reports whether a is the address of one meter: digits only, and not
// those of a broadcast.
func (a Address) Valid() bool {
	if a == everyone {
		return false
	}
	for _, b := range a {
		if b>>4 > 9 || b&0x0F > 9 {
			return false
		}
	}
	return true
}

// Frame is one frame without its wrapping; Data is as it was before 33 was added.
type Frame struct {
	Address Address
	Control byte
	Data    []byte
}

// Append adds the frame to dst, without wake-up bytes. Data that does not fit
// into a frame is cut off.
func (f Frame) Append(dst []byte) []byte {
	first := len(dst)
	data := f.Data[:min(len(f.Data), MaxData)]
	dst = append(dst, start)
	dst = append(dst, f.Address[:]...)
	dst = append(dst, start, f.Control, byte(len(data)))
	for _, b := range data {
		dst = append(dst, b+offset)
	}
	return append(dst, sum(dst[first:]), end)
}

// Parse reads exactly one frame, which wake-up bytes may precede. The data is
// appended to buf.
func Parse(b, buf []byte) (Frame, error) {
	b = b[wakeups(b):]
	if len(b) < Wrapping || b[0] != start || b[7] != start || b[9] > MaxData || len(b) != Wrapping+int(b[9]) {
		return Frame{}, ErrForeign
	}
	if !intact(b) {
		return Frame{}, ErrDamaged
	}
	f := Frame{Address: Address(b[1:7]), Control: b[8], Data: buf}
	for _, c := range b[head : len(b)-tail] {
		f.Data = append(f.Data, c-offset)
	}
	return f, nil
}

// intact reports whether checksum and end of a whole frame are right.
func intact(b []byte) bool {
	n := len(b)
	return b[n-1] == end && b[n-2] == sum(b[:n-tail])
}

func sum(b []byte) (s byte) {
	for _, c := range b {
		s += c
	}
	return s
}

// wakeups counts the wake-up bytes in front, as many as a meter may send.
func wakeups(b []byte) (n int) {
	for n < len(b) && n < Wakeups && b[n] == wakeup {
		n++
	}
	return n
}

// Raw returns up to eight bytes of data as one number: the first byte is the lowest.
func Raw(data []byte) (v uint64) {
	for i := min(len(data), 8) - 1; i >= 0; i-- {
		v = v<<8 | uint64(data[i])
	}
	return v
}

// Decimal reads a raw value as decimal digits, four bits each. It returns false
// if one of them is none; so data of all FF, which some meters send for what
// they do not measure, is no number.
func Decimal(raw uint64) (n uint64, ok bool) {
	for shift := 60; shift >= 0; shift -= 4 {
		digit := raw >> shift & 0x0F
		if digit > 9 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}

// Refusal is the reasons a meter gives for not answering, one bit each.
type Refusal byte

// The reasons (DL/T 645-2007, error information word).
const (
	Other      Refusal = 0x01
	NoSuchData Refusal = 0x02
	NoRight    Refusal = 0x04
	NoSuchBaud Refusal = 0x08
	YearZones  Refusal = 0x10
	DaySlots   Refusal = 0x20
	Tariffs    Refusal = 0x40
)

var reasons = [...]string{
	"other error", "no such data", "wrong password or no right", "speed cannot be changed",
	"too many year zones", "too many day slots", "too many tariffs", "reserved bit",
}

// Error names the reasons, as in "meter error 0x02 (no such data)".
func (r Refusal) Error() string {
	text := ""
	for i, reason := range reasons {
		if r>>i&1 != 0 {
			if text != "" {
				text += ", "
			}
			text += reason
		}
	}
	if text == "" {
		text = "no reason given"
	}
	return fmt.Sprintf("meter error 0x%02X (%s)", byte(r), text)
}

// appendID adds a data id, low byte first.
func appendID(dst []byte, id uint32) []byte { return binary.LittleEndian.AppendUint32(dst, id) }
