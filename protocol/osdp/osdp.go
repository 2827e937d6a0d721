// Package osdp knows the bytes of OSDP, the protocol of door readers: frames,
// the commands a panel sends, the replies it reads, and the secure channel.
//
// It guarantees: a framer accepts only a reply of the address, sequence number
// and check mode it waits for, whose length, check value and parts fit; a secured frame gives
// its payload only if its MAC fits, and a failed one changes nothing, so the
// same can be sent again; MACs and cryptograms are compared in constant time;
// nothing reads past the bytes it is given, panics on any input, or allocates
// once a session stands. It keeps no clock and no state but that of a session.
//
// Sections cited as "OSDP" are of SIA OSDP v2.2 (IEC 60839-11-5).
package osdp

import (
	"errors"
	"fmt"
	"strconv"
)

// Errors of this package. The first two mean that no reply begins at the first byte.
var (
	// ErrForeign occurs when the bytes cannot begin the expected reply.
	ErrForeign = errors.New("foreign frame")
	// ErrDamaged occurs when all but the check value fits the expected reply.
	ErrDamaged = fmt.Errorf("damaged frame: %w", ErrForeign)
	// ErrFrame occurs when bytes are no whole, sound frame.
	ErrFrame = errors.New("not an OSDP frame")
	// ErrReply occurs when a reply's payload is not what its code promises.
	ErrReply = errors.New("reply of a wrong form")
	// ErrMAC occurs when a secured frame was not made by who shares the session, or
	// was made for another moment of it.
	ErrMAC = errors.New("secured frame does not authenticate")
	// ErrCryptogram occurs when the other side does not hold the key.
	ErrCryptogram = errors.New("the other side does not hold the key")
)

// Commands (OSDP, table of commands).
const (
	CmdPoll   byte = 0x60
	CmdID     byte = 0x61
	CmdCap    byte = 0x62
	CmdLStat  byte = 0x64
	CmdIStat  byte = 0x65
	CmdOut    byte = 0x68
	CmdLED    byte = 0x69
	CmdBuz    byte = 0x6A
	CmdComSet byte = 0x6E
	CmdKeySet byte = 0x75
	CmdChlng  byte = 0x76
	CmdSCrypt byte = 0x77
)

// Replies (OSDP, table of replies).
const (
	ReplyACK    byte = 0x40
	ReplyNAK    byte = 0x41
	ReplyPDID   byte = 0x45
	ReplyPDCAP  byte = 0x46
	ReplyLStat  byte = 0x48
	ReplyIStat  byte = 0x49
	ReplyOStat  byte = 0x4A
	ReplyRaw    byte = 0x50
	ReplyKeypad byte = 0x53
	ReplyCCrypt byte = 0x76
	ReplyRMACI  byte = 0x78
	ReplyBusy   byte = 0x79
)

// Security block types (OSDP, annex D). The first four have a data byte.
const (
	BlockChlng  byte = 0x11
	BlockCCrypt byte = 0x12
	BlockSCrypt byte = 0x13
	BlockRMACI  byte = 0x14
	BlockCmdMAC byte = 0x15 // MAC only
	BlockRepMAC byte = 0x16
	BlockCmdEnc byte = 0x17 // MAC, and the payload is encrypted
	BlockRepEnc byte = 0x18
)

// Data bytes of security blocks.
const (
	KeyDefault byte = 0 // types 11 to 13: the key everybody knows
	KeyOwn     byte = 1 // types 11 to 13: the key of this pair
	Accepted   byte = 1 // type 14
)

// NAK says why a reader refuses.
type NAK byte

// The reasons.
const (
	NAKCheck       NAK = 1
	NAKLength      NAK = 2
	NAKUnknown     NAK = 3
	NAKSequence    NAK = 4
	NAKUnsupported NAK = 5
	NAKCondition   NAK = 6
	NAKBioType     NAK = 7
	NAKBioFormat   NAK = 8
	NAKRecord      NAK = 9
)

var nakNames = map[NAK]string{
	NAKCheck:       "bad check value",
	NAKLength:      "wrong length",
	NAKUnknown:     "unknown command",
	NAKSequence:    "unexpected sequence number",
	NAKUnsupported: "secure channel not supported, or needed",
	NAKCondition:   "condition of the secure channel not met",
	NAKBioType:     "biometric type not supported",
	NAKBioFormat:   "biometric format not supported",
	NAKRecord:      "cannot process the record",
}

// Error names the reason.
func (n NAK) Error() string {
	if s, ok := nakNames[n]; ok {
		return "NAK " + strconv.Itoa(int(n)) + " (" + s + ")"
	}
	return "NAK " + strconv.Itoa(int(n))
}

// Functions of a PDCAP (OSDP, table of capabilities) that a panel asks for.
const (
	CapInputs   byte = 1
	CapOutputs  byte = 2
	CapCheck    byte = 8 // bit 0 of the compliance: CRC
	CapSecurity byte = 9 // bit 0: AES-128
)

// Limits.
const (
	MaxAddress = 126 // of a reader
	Broadcast  = 0x7F
	MaxFrame   = 512 // of a reply that is listened to; readers build 128 to 256
	KeySize    = 16
	RandomSize = 8
	CMACSize   = 4      // of a MAC that travels
	MaxTimer   = 0xFFFF // steps of 100 ms
)
