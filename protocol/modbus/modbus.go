// Package modbus knows the bytes of Modbus: which bytes answer a request, what
// an exception says, and the checksum of a serial frame.
//
// It guarantees: a framer accepts only a reply whose address, function, length
// and check (RTU), or transaction, protocol, unit and length (TCP), fit the
// request it was made for; an exception is complete after 5 (RTU) or 9 (TCP)
// bytes; no framer reads past the bytes it is given, allocates, or panics on
// any input. Building requests is not its business: the driver uses goburrow's
// packagers for that.
//
// Sections cited: "AP" is the MODBUS Application Protocol Specification V1.1b3,
// "SL" is MODBUS over Serial Line V1.02, "TCP" is the MODBUS Messaging on
// TCP/IP Implementation Guide V1.0b.
package modbus

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors a framer returns. Both mean that no reply begins at the first byte.
var (
	// ErrForeign occurs when the bytes cannot begin the expected reply.
	ErrForeign = errors.New("foreign frame")
	// ErrDamaged occurs when all but the check value fits the expected reply.
	ErrDamaged = fmt.Errorf("damaged frame: %w", ErrForeign)
)

// Function codes (AP 6.1 to 6.6, 6.11, 6.12).
const (
	ReadCoils              byte = 0x01
	ReadDiscreteInputs     byte = 0x02
	ReadHoldingRegisters   byte = 0x03
	ReadInputRegisters     byte = 0x04
	WriteSingleCoil        byte = 0x05
	WriteSingleRegister    byte = 0x06
	WriteMultipleCoils     byte = 0x0F
	WriteMultipleRegisters byte = 0x10

	// ExceptionBit is set in the function code of an exception (AP 7).
	ExceptionBit byte = 0x80
)

// Limits of one request.
const (
	MaxRegisters = 125  // AP 6.3, 6.4: quantity 1 to 0x7D
	MaxBits      = 2000 // AP 6.1, 6.2: quantity 1 to 0x7D0
	MaxRTU       = 256  // SL 2.5.1.1: RTU frame
	MaxTCP       = 260  // TCP 3.1.3: MBAP header and PDU
	MaxUnit      = 247  // SL 2.2: individual addresses 1 to 247
)

// Sizes of the wrapping around a PDU.
const (
	rtuHead      = 1 // SL 2.3: address
	rtuTail      = 2 // SL 2.3: CRC, low byte first
	rtuException = 5 // address, function, code, CRC
	tcpHead      = 7 // TCP 3.1.3: transaction, protocol, length, unit
	tcpException = 9 // header, function, code
)

// Framer judges the bytes received so far, which begin where a reply may
// begin. need > 0: so many bytes are missing at the least; need == 0: rx is the
// whole reply; need < 0: the last -need bytes of rx do not belong to it.
type Framer func(rx []byte) (need int, err error)

// RTU returns the framer for the reply to an RTU request frame. The request
// must be complete, with its CRC; it is read only now.
func RTU(request []byte) (Framer, error) {
	if len(request) < rtuHead+1+rtuTail || len(request) > MaxRTU {
		return nil, fmt.Errorf("modbus: RTU request of %d bytes", len(request))
	}
	want, err := expect(request[rtuHead : len(request)-rtuTail])
	if err != nil {
		return nil, err
	}
	f := rtuFramer{unit: request[0], reply: want}
	return f.judge, nil
}

// TCP returns the framer for the reply to a Modbus TCP request frame. It keeps
// request and compares the transaction id that stands there when it is called,
// so the owner may renumber the frame before sending it again.
func TCP(request []byte) (Framer, error) {
	if len(request) < tcpHead+1 || len(request) > MaxTCP {
		return nil, fmt.Errorf("modbus: TCP request of %d bytes", len(request))
	}
	want, err := expect(request[tcpHead:])
	if err != nil {
		return nil, err
	}
	f := tcpFramer{request: request[:tcpHead], reply: want}
	return f.judge, nil
}

// reply is what the PDU of an answer must look like.
type reply struct {
	function byte
	size     int  // of the whole PDU
	counted  bool // the byte after the function is the length of what follows
	echo     [4]byte
}

// expect derives the reply from a request PDU.
func expect(pdu []byte) (reply, error) {
	if len(pdu) < 5 {
		return reply{}, fmt.Errorf("modbus: request PDU of %d bytes", len(pdu))
	}
	r := reply{function: pdu[0]}
	quantity := int(binary.BigEndian.Uint16(pdu[3:5]))
	switch r.function {
	case ReadCoils, ReadDiscreteInputs:
		if quantity < 1 || quantity > MaxBits {
			return reply{}, fmt.Errorf("modbus: %d bits in one request, want 1 to %d", quantity, MaxBits)
		}
		r.counted, r.size = true, 2+(quantity+7)/8
	case ReadHoldingRegisters, ReadInputRegisters:
		if quantity < 1 || quantity > MaxRegisters {
			return reply{}, fmt.Errorf("modbus: %d registers in one request, want 1 to %d", quantity, MaxRegisters)
		}
		r.counted, r.size = true, 2+2*quantity
	case WriteSingleCoil, WriteSingleRegister, WriteMultipleCoils, WriteMultipleRegisters:
		// AP 6.5, 6.6, 6.11, 6.12: the answer repeats address and value (or quantity).
		r.size = 5
		copy(r.echo[:], pdu[1:5])
	default:
		return reply{}, fmt.Errorf("modbus: function 0x%02X has no framer", r.function)
	}
	return r, nil
}

// judge looks at a PDU prefix and returns the size the whole PDU will have.
func (r *reply) judge(pdu []byte) (size int, err error) {
	if len(pdu) == 0 {
		return 2, nil // the shortest reply is an exception
	}
	if pdu[0] == r.function|ExceptionBit {
		return 2, nil
	}
	if pdu[0] != r.function {
		return 0, ErrForeign
	}
	if r.counted {
		if len(pdu) > 1 && int(pdu[1]) != r.size-2 {
			return 0, ErrForeign
		}
		return r.size, nil
	}
	for i, b := range pdu[1:min(len(pdu), r.size)] {
		if b != r.echo[i] {
			return 0, ErrForeign
		}
	}
	return r.size, nil
}

type rtuFramer struct {
	unit  byte
	reply reply
}

func (f *rtuFramer) judge(rx []byte) (int, error) {
	if len(rx) == 0 {
		return rtuException, nil
	}
	if rx[0] != f.unit {
		return 0, ErrForeign
	}
	// While the CRC is still to come its bytes may be taken for the PDU's; the
	// size is fixed by the first two of them, so nothing is misjudged.
	size, err := f.reply.judge(rx[rtuHead:min(len(rx), rtuHead+f.reply.size)])
	if err != nil {
		return 0, err
	}
	total := rtuHead + size + rtuTail
	if len(rx) < total {
		return total - len(rx), nil
	}
	body, sum := rx[:total-rtuTail], rx[total-rtuTail:total]
	if CRC(body) != binary.LittleEndian.Uint16(sum) {
		return 0, ErrDamaged
	}
	return total - len(rx), nil
}

type tcpFramer struct {
	request []byte // the MBAP header as sent
	reply   reply
}

func (f *tcpFramer) judge(rx []byte) (int, error) {
	// Transaction and protocol identifier (TCP 3.1.3) come back as sent.
	for i := 0; i < min(len(rx), 4); i++ {
		if rx[i] != f.request[i] {
			return 0, ErrForeign
		}
	}
	if len(rx) < tcpHead {
		return tcpException - len(rx), nil
	}
	if rx[6] != f.request[6] {
		return 0, ErrForeign
	}
	length := int(binary.BigEndian.Uint16(rx[4:6]))
	size, err := f.reply.judge(rx[tcpHead:min(len(rx), tcpHead+f.reply.size)])
	if err != nil {
		return 0, err
	}
	if len(rx) > tcpHead && length != 1+size {
		return 0, ErrForeign
	}
	return tcpHead + size - len(rx), nil
}

// RTUPDU returns the function, data part of a complete RTU frame.
func RTUPDU(frame []byte) []byte { return frame[rtuHead : len(frame)-rtuTail] }

// TCPPDU returns the function, data part of a complete TCP frame.
func TCPPDU(frame []byte) []byte { return frame[tcpHead:] }

// Data returns the registers or bits of a read's reply PDU, or an Exception.
func Data(pdu []byte) ([]byte, error) {
	if len(pdu) < 2 {
		return nil, ErrForeign
	}
	if pdu[0]&ExceptionBit != 0 {
		return nil, Exception{Function: pdu[0] &^ ExceptionBit, Code: Code(pdu[1])}
	}
	switch pdu[0] {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters:
		return pdu[2:], nil
	}
	return pdu[1:], nil
}

// SetTransaction numbers a TCP request.
func SetTransaction(frame []byte, id uint16) { binary.BigEndian.PutUint16(frame, id) }
