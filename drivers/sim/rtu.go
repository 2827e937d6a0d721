package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
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

// frameSilence ends a frame that is not complete. It is far above 3.5
// characters because a pseudo-terminal does not keep time.
const frameSilence = 50 * time.Millisecond

// rtuSlave answers for all units on one line.
type rtuSlave struct {
	line  *pty
	units map[uint8]*unit
	log   *slog.Logger
	wg    sync.WaitGroup
}

func serveRTU(line *pty, units map[uint8]*unit, log *slog.Logger) *rtuSlave {
	s := &rtuSlave{line: line, units: units, log: log}
	s.wg.Go(s.serve)
	return s
}

// Close closes the line and waits.
func (s *rtuSlave) Close() error {
	err := s.line.Close()
	s.wg.Wait()
	return err
}

func (s *rtuSlave) serve() {
	var rx []byte
	buf := make([]byte, maxFrame)
	for {
		deadline := time.Time{}
		if len(rx) > 0 {
			deadline = time.Now().Add(frameSilence)
		}
		if err := s.line.master.SetReadDeadline(deadline); err != nil {
			return // closed
		}
		n, err := s.line.master.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.log.Debug("incomplete frame dropped", "bytes", len(rx))
			rx = rx[:0]
			continue
		}
		if err != nil {
			return // closed: the terminal's other side is held open by us
		}
		rx = s.consume(append(rx, buf[:n]...))
	}
}

// consume answers every request in rx and returns the bytes that may begin the
// next one. Where no request begins, it slides on by one byte.
func (s *rtuSlave) consume(rx []byte) []byte {
	for len(rx) > 0 {
		n := requestLen(rx)
		if n < 0 {
			rx = rx[1:]
			continue
		}
		if n == 0 || len(rx) < n {
			return rx
		}
		if crc16(rx[:n-2]) != binary.LittleEndian.Uint16(rx[n-2:]) {
			rx = rx[1:]
			continue
		}
		if reply := s.answer(rx[:n-2]); reply != nil {
			reply = binary.LittleEndian.AppendUint16(reply, crc16(reply))
			if _, err := s.line.master.Write(reply); err != nil {
				s.log.Debug("reply not written", "error", err)
			}
		}
		rx = rx[n:]
	}
	return rx
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

// answer returns address and PDU of the reply; nil means silence: another
// slave's address, a broadcast, or a unit that is silent.
func (s *rtuSlave) answer(req []byte) []byte {
	u, ok := s.units[req[0]]
	if !ok {
		return nil
	}
	u.requests.Add(1)
	if u.silent.Load() {
		return nil
	}
	pdu, err := u.answer(req[1:])
	if err != nil {
		s.log.Debug("request refused", "unit", u.id, "error", err)
	}
	return append([]byte{req[0]}, pdu...)
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
		if u.startPulse(addr, arg) {
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
