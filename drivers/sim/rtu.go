package sim

import (
	"encoding/binary"
	"fmt"
)

// Function and exception codes (Modbus Application Protocol V1.1b3, 6 and 7).
const (
	fcReadCoils     = 0x01
	fcReadDiscrete  = 0x02
	fcReadHolding   = 0x03
	fcReadInput     = 0x04
	fcWriteCoil     = 0x05
	fcWriteRegister = 0x06
	fcWriteCoils    = 0x0F
	fcWriteRegs     = 0x10

	exFunction = 0x01
	exAddress  = 0x02
	exValue    = 0x03
)

// exBusy is exception 6, server device busy.
const exBusy = 0x06

// rtuSlaves are the units on one RTU line, by id.
type rtuSlaves map[uint8]*unit

// split finds a request with a good CRC.
func (s rtuSlaves) split(rx []byte) int {
	n := requestLen(rx)
	if n > 0 && len(rx) < n {
		return 0
	}
	if n > 0 && crc16(rx[:n-2]) != binary.LittleEndian.Uint16(rx[n-2:]) {
		return -1
	}
	return n
}

// answer is silence for another slave's address, a broadcast, and a unit that
// is silent.
func (s rtuSlaves) answer(req []byte) []reply {
	u, ok := s[req[0]]
	if !ok {
		return nil
	}
	f := u.asked()
	pdu := u.obey(req[1:len(req)-2], f)
	if pdu == nil {
		return nil
	}
	adu := append([]byte{f.name(u.id)}, pdu...)
	return f.replies(binary.LittleEndian.AppendUint16(adu, crc16(adu)))
}

// requestLen is the length of the request that begins in rx, 0 while that is
// not known, -1 if none begins there.
func requestLen(rx []byte) int {
	if len(rx) < 2 {
		return 0
	}
	switch rx[1] {
	case fcReadCoils, fcReadDiscrete, fcReadHolding, fcReadInput, fcWriteCoil, fcWriteRegister:
		return 8
	case fcWriteCoils, fcWriteRegs:
		if len(rx) < 7 {
			return 0
		}
		if int(rx[6])+9 > maxFrame {
			return -1
		}
		return int(rx[6]) + 9
	}
	if rx[1] > 0 && rx[1] < 0x80 {
		return 4 // a function we do not know; its length neither, so only the shortest is answered
	}
	return -1
}

// obey returns the PDU that a unit with the fault f gives, or nil.
func (u *unit) obey(pdu []byte, f Fault) []byte {
	switch {
	case f.Silent:
		return nil
	case f.Busy:
		return []byte{pdu[0] | 0x80, exBusy}
	case f.Refuse != 0:
		return []byte{pdu[0] | 0x80, f.Refuse}
	}
	answer, _ := u.answer(pdu) // an exception is an answer
	return answer
}

// answer returns the PDU that replies to pdu; the error says why it is an
// exception.
func (u *unit) answer(pdu []byte) ([]byte, error) {
	fc := pdu[0]
	exception := func(code byte, why string) ([]byte, error) {
		return []byte{fc | 0x80, code}, fmt.Errorf("function %d: %s", fc, why)
	}
	if len(pdu) < 5 {
		return exception(exFunction, "unknown function")
	}
	addr, arg := binary.BigEndian.Uint16(pdu[1:]), binary.BigEndian.Uint16(pdu[3:])
	var out []byte
	var err error
	switch fc {
	case fcReadCoils, fcReadDiscrete:
		if arg == 0 || arg > 2000 {
			return exception(exValue, "quantity")
		}
		out, err = u.readBits(map[byte]Space{fcReadCoils: Coil, fcReadDiscrete: Discrete}[fc], addr, arg)
	case fcReadHolding, fcReadInput:
		if arg == 0 || arg > 125 {
			return exception(exValue, "quantity")
		}
		out, err = u.readWords(map[byte]Space{fcReadHolding: Holding, fcReadInput: Input}[fc], addr, arg)
	case fcWriteCoil:
		if u.pulseAt(pdu) {
			u.startPulse(addr, arg)
			return pdu, nil
		}
		if arg != 0 && arg != 0xFF00 {
			return exception(exValue, "coil value")
		}
		out, err = pdu[1:], u.write(Coil, addr, []uint16{arg >> 15})
	case fcWriteRegister:
		out, err = pdu[1:], u.write(Holding, addr, []uint16{arg})
	case fcWriteCoils, fcWriteRegs:
		values, ok := decodeValues(fc, arg, pdu[5:])
		if !ok {
			return exception(exValue, "byte count")
		}
		out, err = pdu[1:5], u.write(map[byte]Space{fcWriteCoils: Coil, fcWriteRegs: Holding}[fc], addr, values)
	default:
		return exception(exFunction, "unknown function")
	}
	if err != nil {
		return exception(exAddress, err.Error())
	}
	return append([]byte{fc}, out...), nil
}

func (u *unit) readBits(space Space, addr, count uint16) ([]byte, error) {
	values, err := u.read(space, addr, count)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1+(len(values)+7)/8)
	out[0] = byte(len(out) - 1)
	for i, v := range values {
		out[1+i/8] |= byte(v) << (i % 8)
	}
	return out, nil
}

func (u *unit) readWords(space Space, addr, count uint16) ([]byte, error) {
	values, err := u.read(space, addr, count)
	if err != nil {
		return nil, err
	}
	out := []byte{byte(2 * len(values))}
	for _, v := range values {
		out = binary.BigEndian.AppendUint16(out, v)
	}
	return out, nil
}

// decodeValues reads what a write of several coils or registers carries; data
// begins with the byte count.
func decodeValues(fc byte, count uint16, data []byte) ([]uint16, bool) {
	n := int(count) * 2
	if fc == fcWriteCoils {
		n = (int(count) + 7) / 8
	}
	if count == 0 || len(data) != n+1 || int(data[0]) != n {
		return nil, false
	}
	out := make([]uint16, count)
	for i := range out {
		if fc == fcWriteCoils {
			out[i] = uint16(data[1+i/8]>>(i%8)) & 1
		} else {
			out[i] = binary.BigEndian.Uint16(data[1+2*i:])
		}
	}
	return out, true
}

// crc16 is the CRC of Modbus over serial line V1.02, 6.2.2.
func crc16(p []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, b := range p {
		crc ^= uint16(b)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
