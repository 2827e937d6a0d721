package osdp

import (
	"encoding/binary"
	"fmt"
)

// PDID is what a reader says it is.
type PDID struct {
	Vendor   uint32 // 24 bits
	Model    byte
	Version  byte
	Serial   uint32
	Firmware [3]byte // major, minor, build
}

// DecodePDID reads the payload of a PDID.
func DecodePDID(p []byte) (PDID, error) {
	if len(p) != 12 {
		return PDID{}, wrongSize("PDID", len(p))
	}
	return PDID{
		Vendor: uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16,
		Model:  p[3], Version: p[4],
		Serial:   binary.LittleEndian.Uint32(p[5:]),
		Firmware: [3]byte(p[9:12]),
	}, nil
}

// Capability finds one function in the payload of a PDCAP. Ok is false if the reader
// does not list it.
func Capability(p []byte, function byte) (compliance, count byte, ok bool) {
	for ; len(p) >= 3; p = p[3:] {
		if p[0] == function {
			return p[1], p[2], true
		}
	}
	return 0, 0, false
}

// DecodeNAK reads the payload of a NAK; some carry more than the reason.
func DecodeNAK(p []byte) (NAK, error) {
	if len(p) == 0 {
		return 0, wrongSize("NAK", 0)
	}
	return NAK(p[0]), nil
}

// DecodeLStat reads the payload of an LSTATR: codes of tamper and power, 0 for
// all is well.
func DecodeLStat(p []byte) (tamper, power byte, err error) {
	if len(p) != 2 {
		return 0, 0, wrongSize("LSTATR", len(p))
	}
	return p[0], p[1], nil
}

// Raw is a card as it was read. Data lies in the payload.
type Raw struct {
	Reader byte
	Format byte
	Bits   int
	Data   []byte // the first bit in the top bit, padding at the end
}

// DecodeRaw reads the payload of a RAW.
func DecodeRaw(p []byte) (Raw, error) {
	if len(p) < 4 {
		return Raw{}, wrongSize("RAW", len(p))
	}
	r := Raw{Reader: p[0], Format: p[1], Bits: int(binary.LittleEndian.Uint16(p[2:])), Data: p[4:]}
	if r.Bits == 0 || len(r.Data) != (r.Bits+7)/8 {
		return Raw{}, wrongSize("RAW", len(p))
	}
	return r, nil
}

// DecodeKeypad reads the payload of a KEYPAD.
func DecodeKeypad(p []byte) (reader byte, keys []byte, err error) {
	if len(p) < 2 || int(p[1]) != len(p)-2 {
		return 0, nil, wrongSize("KEYPAD", len(p))
	}
	return p[0], p[2:], nil
}

// CCrypt is a reader's answer to a challenge.
type CCrypt struct {
	ClientUID  [8]byte
	Random     [RandomSize]byte
	Cryptogram [KeySize]byte
}

// DecodeCCrypt reads the payload of a CCRYPT.
func DecodeCCrypt(p []byte) (CCrypt, error) {
	if len(p) != 32 {
		return CCrypt{}, wrongSize("CCRYPT", len(p))
	}
	return CCrypt{ClientUID: [8]byte(p), Random: [RandomSize]byte(p[8:]), Cryptogram: [KeySize]byte(p[16:])}, nil
}

// wrongSize never shows a byte of the payload: it can be a card.
func wrongSize(name string, n int) error {
	return fmt.Errorf("%w: %s of %d bytes", ErrReply, name, n)
}
