package config

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/modbus"
)

// link is a line with the case's device on it.
func (c dumpCase) link(driver string) drivers.Link {
	switch {
	case driver == "osdp":
		return c.reader()
	case driver == "modbus":
		return c.slave()
	case len(c.Exchanges) > 0 && len(c.Exchanges[0].Request) == 0:
		return &talker{frames: c.Exchanges}
	}
	return c.answerer()
}

// slave answers RTU requests from a register image. Like a real device it
// refuses a read that touches an address it does not have.
func (c dumpCase) slave() *drivertest.Script {
	spaces := map[byte]string{
		modbus.ReadCoils: "coil", modbus.ReadDiscreteInputs: "discrete",
		modbus.ReadHoldingRegisters: "holding", modbus.ReadInputRegisters: "input",
	}
	cells := make(map[[3]uint64]uint16) // unit, function, address
	for unit, image := range c.Image {
		for function, space := range spaces {
			for first, run := range image[space] {
				for i, v := range run {
					cells[[3]uint64{unit, uint64(function), first + uint64(i)}] = v
				}
			}
		}
	}
	at := func(unit, function byte, address uint16) (uint16, bool) {
		v, ok := cells[[3]uint64{uint64(unit), uint64(function), uint64(address)}]
		return v, ok
	}
	return &drivertest.Script{Otherwise: func(request []byte) []byte {
		address, count := binary.BigEndian.Uint16(request[2:]), binary.BigEndian.Uint16(request[4:])
		for i := range count {
			if _, ok := at(request[0], request[1], address+i); !ok {
				return drivertest.Exception(nil, request, modbus.IllegalDataAddress)
			}
		}
		return drivertest.ReplyRTU(nil, request, func(unit, function byte, address uint16) uint16 {
			v, _ := at(unit, function, address)
			return v
		})
	}}
}

// answerer answers the requests of the case. Wake-up bytes in front of a
// request are not compared: how many there are is the driver's.
func (c dumpCase) answerer() *drivertest.Script {
	const wake = "\xFE"
	return &drivertest.Script{Otherwise: func(request []byte) []byte {
		for _, e := range c.Exchanges {
			if bytes.Equal(bytes.TrimLeft(e.Request, wake), bytes.TrimLeft(request, wake)) {
				return e.Reply
			}
		}
		return nil
	}}
}

// errSaidAll occurs when a device that talks unasked has no more to say.
var errSaidAll = errors.New("the device has said all")

// talker is a device that talks unasked, with noise before each frame.
type talker struct{ frames []exchange }

// Exchange implements drivers.Link.
func (l *talker) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	if len(tx) > 0 {
		return nil, errors.New("nobody asked for anything")
	}
	if len(l.frames) == 0 {
		return nil, errSaidAll
	}
	frame := append([]byte{0x00}, l.frames[0].Reply...)
	l.frames = l.frames[1:]
	line := drivertest.Script{Otherwise: func([]byte) []byte { return frame }}
	return line.Exchange(ctx, nil, f)
}

// The parts of an OSDP frame that a reader needs, v2.2, 5.9.
const (
	somOSDP      = 0x53
	replyOSDP    = 0x80 // in the address: a reply
	sequenceOSDP = 0x03
	crcOSDP      = 0x04 // in the control byte
	pollOSDP     = 0x60
	ackOSDP      = 0x40
	nakOSDP      = 0x41
	unknownOSDP  = 3 // NAK: unknown command
)

// reader answers each command by the next of its replies (code and payload),
// a poll without one by ACK, and any other by NAK.
func (c dumpCase) reader() *drivertest.Script {
	told := make(map[byte]int)
	return &drivertest.Script{Otherwise: func(request []byte) []byte {
		request = bytes.TrimLeft(request, "\xFF") // the optional mark
		if len(request) < 6 || request[0] != somOSDP || int(request[1]) != c.Address {
			return nil
		}
		code, control := request[5], request[4]
		reply := []byte{nakOSDP, unknownOSDP}
		if code == pollOSDP {
			reply = []byte{ackOSDP}
		}
		if replies := c.Replies[uint64(code)]; told[code] < len(replies) {
			reply = replies[told[code]]
			if told[code]++; code != pollOSDP {
				told[code] = 0 // what was asked can be asked again
			}
		}
		frame := append([]byte{somOSDP, request[1] | replyOSDP, 0, 0, control & (sequenceOSDP | crcOSDP)}, reply...)
		if control&crcOSDP == 0 {
			binary.LittleEndian.PutUint16(frame[2:], uint16(len(frame)+1))
			var sum byte
			for _, b := range frame {
				sum += b
			}
			return append(frame, -sum)
		}
		binary.LittleEndian.PutUint16(frame[2:], uint16(len(frame)+2))
		return binary.LittleEndian.AppendUint16(frame, crc(frame))
	}}
}

// crc is CRC-16 with polynomial 0x1021 from 0x1D0F, OSDP v2.2, annex C.
func crc(frame []byte) uint16 {
	sum := uint16(0x1D0F)
	for _, b := range frame {
		sum ^= uint16(b) << 8
		for range 8 {
			if sum&0x8000 != 0 {
				sum = sum<<1 ^ 0x1021
			} else {
				sum <<= 1
			}
		}
	}
	return sum
}
