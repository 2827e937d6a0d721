package osdp

import (
	"encoding/binary"
	"fmt"
)

// The parts of a frame (OSDP, packet format). A mark byte 0xFF may come before
// it and belongs to nothing.
const (
	som         byte = 0x53
	replyBit    byte = 0x80 // of the address
	seqMask     byte = 0x03 // of the control byte
	crcBit      byte = 0x04
	blockBit    byte = 0x08
	headSize         = 5 // SOM, address, length, control
	smallest         = headSize + 1 + 1
	lengthPlace      = 2
)

// Frame is a frame taken apart. Its slices lie in the bytes it was parsed from.
type Frame struct {
	Address byte // 7 bits
	Reply   bool
	Control byte   // sequence number, and whether CRC is used; whether there is a block follows from Block
	Block   []byte // security block without its own length: type, data; nil: none
	Code    byte
	Payload []byte // as it stands on the line
	MAC     []byte // of a secured frame

	body []byte // what the MAC covers
}

// Sequence is the number of the frame, 0 to 3.
func (f *Frame) Sequence() byte { return f.Control & seqMask }

// CRC reports whether the check value is one, not a checksum.
func (f *Frame) CRC() bool { return f.Control&crcBit != 0 }

// Secured reports whether the frame has a MAC.
func (f *Frame) Secured() bool { return len(f.Block) > 0 && hasMAC(f.Block[0]) }

func hasMAC(block byte) bool { return block >= BlockCmdMAC && block <= BlockRepEnc }

// Control makes a control byte.
func Control(sequence byte, crc bool) byte {
	c := sequence & seqMask
	if crc {
		c |= crcBit
	}
	return c
}

// tail is the size of the check value.
func tail(control byte) int {
	if control&crcBit != 0 {
		return 2
	}
	return 1
}

// checked reports whether a whole frame's check value fits.
func checked(frame []byte) bool {
	n := len(frame) - tail(frame[4])
	if n < headSize {
		return false
	}
	if tail(frame[4]) == 2 {
		return CRC(frame[:n]) == binary.LittleEndian.Uint16(frame[n:])
	}
	return Checksum(frame[:n]) == frame[n]
}

// Parse takes a whole frame apart and checks it.
func Parse(b []byte) (Frame, error) {
	if len(b) < smallest || b[0] != som {
		return Frame{}, ErrFrame
	}
	if n := int(binary.LittleEndian.Uint16(b[lengthPlace:])); n != len(b) {
		return Frame{}, fmt.Errorf("%w: it says %d bytes and has %d", ErrFrame, n, len(b))
	}
	if !checked(b) {
		return Frame{}, fmt.Errorf("%w: its check value is wrong", ErrFrame)
	}
	return dissect(b)
}

// dissect takes a frame apart whose length and check value fit.
func dissect(b []byte) (Frame, error) {
	f := Frame{Address: b[1] &^ replyBit, Reply: b[1]&replyBit != 0, Control: b[4] &^ blockBit}
	at, end := headSize, len(b)-tail(b[4])
	if b[4]&blockBit != 0 {
		size := int(b[at])
		if size < 2 || at+size >= end {
			return Frame{}, fmt.Errorf("%w: a security block of %d bytes", ErrFrame, size)
		}
		f.Block = b[at+1 : at+size]
		at += size
	}
	if f.Secured() {
		end -= CMACSize
		if end <= at {
			return Frame{}, fmt.Errorf("%w: no room for a MAC", ErrFrame)
		}
		f.MAC = b[end : end+CMACSize]
	}
	if end <= at {
		return Frame{}, fmt.Errorf("%w: no code", ErrFrame)
	}
	f.Code, f.Payload, f.body = b[at], b[at+1:end], b[:end]
	return f, nil
}

// Append appends a frame to dst. The payload and the MAC are taken as they are:
// Channel.Seal makes a secured frame.
func Append(dst []byte, f *Frame) []byte {
	start := len(dst)
	dst = appendHead(dst, f)
	dst = append(dst, f.Payload...)
	dst = append(dst, f.MAC...)
	return finish(dst, start)
}

// appendHead appends all up to the code; the length is set later.
func appendHead(dst []byte, f *Frame) []byte {
	address, control := f.Address&^replyBit, f.Control&^blockBit
	if f.Reply {
		address |= replyBit
	}
	if len(f.Block) > 0 {
		control |= blockBit
	}
	dst = append(dst, som, address, 0, 0, control)
	if len(f.Block) > 0 {
		dst = append(dst, byte(1+len(f.Block)))
		dst = append(dst, f.Block...)
	}
	return append(dst, f.Code)
}

// finish sets the length of the frame that begins at start, and appends its
// check value.
func finish(dst []byte, start int) []byte {
	control := dst[start+4]
	binary.LittleEndian.PutUint16(dst[start+lengthPlace:], uint16(len(dst)-start+tail(control)))
	if tail(control) == 2 {
		return binary.LittleEndian.AppendUint16(dst, CRC(dst[start:]))
	}
	return append(dst, Checksum(dst[start:]))
}

// Framer judges replies to one reader's commands.
type Framer struct {
	Address  byte
	Sequence byte // of the command; the reply repeats it
	CRC      bool // the command's check mode; the reply has the same
}

// Judge looks at the bytes received so far, which begin where a reply may begin.
// need > 0: so many bytes are missing at the least; need == 0: rx is the
// whole reply; need < 0: the last -need bytes of rx do not belong to it.
//
// The sequence number is that of the command. A BUSY has 0, and a NAK may have any:
// it can be about the number. The check mode is that of the command too, but for
// a NAK: it can be about the mode.
func (f *Framer) Judge(rx []byte) (need int, err error) {
	if len(rx) > 0 && rx[0] != som || len(rx) > 1 && rx[1] != f.Address|replyBit {
		return 0, ErrForeign
	}
	if len(rx) < headSize {
		return smallest - len(rx), nil
	}
	size := int(binary.LittleEndian.Uint16(rx[lengthPlace:]))
	if size < smallest || size > MaxFrame {
		return 0, ErrForeign
	}
	if !f.due(rx, size) {
		return 0, ErrForeign
	}
	if len(rx) < size {
		return size - len(rx), nil
	}
	if !checked(rx[:size]) {
		return 0, ErrDamaged
	}
	if _, err := dissect(rx[:size]); err != nil {
		return 0, ErrForeign // another's, or one that no reader sends
	}
	return size - len(rx), nil
}

// due reports whether a frame with this head can be the reply, as far as the
// bytes tell.
func (f *Framer) due(rx []byte, size int) bool {
	mode := rx[4]&crcBit != 0 == f.CRC
	if mode && rx[4]&seqMask == f.Sequence {
		return true
	}
	at := headSize
	if rx[4]&blockBit != 0 {
		if len(rx) > at && rx[at] < 2 {
			return false
		}
		if len(rx) <= at {
			return true
		}
		at += int(rx[at])
	}
	switch {
	case at >= size:
		return false
	case at >= len(rx):
		return true
	case rx[at] == ReplyNAK:
		return true
	}
	return mode && rx[at] == ReplyBusy && rx[4]&seqMask == 0
}
