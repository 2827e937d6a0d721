package osdp

import "encoding/binary"

// Codes of an OUT command.
const (
	OutOff      byte = 1 // and cancel what is timed
	OutOn       byte = 2 // and cancel what is timed
	OutOnTimed  byte = 5
	OutOffTimed byte = 6
)

// Colours of a LED.
const (
	Black   byte = 0
	Red     byte = 1
	Green   byte = 2
	Amber   byte = 3
	Blue    byte = 4
	Magenta byte = 5
	Cyan    byte = 6
	White   byte = 7
)

// Tones of a buzzer.
const (
	ToneOff     byte = 1
	ToneDefault byte = 2
)

// Control codes of a LED's two settings.
const (
	ledKeep         byte = 0 // leave this setting as it is
	ledSetTemporary byte = 2
	ledCancel       byte = 1 // the temporary setting ends
	ledSetPermanent byte = 1
)

// AppendOut appends the payload of an OUT for one output. Timer counts steps of
// 100 ms; it matters to the timed codes only.
func AppendOut(dst []byte, output, code byte, timer uint16) []byte {
	return binary.LittleEndian.AppendUint16(append(dst, output, code), timer)
}

// AppendLED appends the payload of a LED command that shows one colour from now
// on, and ends what was shown for a time.
func AppendLED(dst []byte, reader, led, colour byte) []byte {
	dst = append(dst, reader, led, ledCancel, 0, 0, 0, 0, 0, 0)
	return append(dst, ledSetPermanent, 1, 0, colour, colour)
}

// AppendLEDFor appends the payload of a LED command that shows one colour for a
// time, in steps of 100 ms, and then again what was shown before.
func AppendLEDFor(dst []byte, reader, led, colour byte, timer uint16) []byte {
	dst = append(dst, reader, led, ledSetTemporary, 1, 0, colour, colour)
	dst = binary.LittleEndian.AppendUint16(dst, timer)
	return append(dst, ledKeep, 0, 0, 0, 0)
}

// AppendBuz appends the payload of a BUZ: on and off count steps of 100 ms, and 0
// repeats means until the next command.
func AppendBuz(dst []byte, reader, tone, on, off, repeats byte) []byte {
	return append(dst, reader, tone, on, off, repeats)
}

// AppendKeySet appends the payload of a KEYSET. It travels inside a session only.
func AppendKeySet(dst, key []byte) []byte {
	return append(append(dst, KeyOwn, byte(len(key))), key...)
}
