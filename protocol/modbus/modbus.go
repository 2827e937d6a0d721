// Package modbus knows the bytes of Modbus: which bytes answer a request, what
// an exception says, and the checksum of a serial frame.
//
// It guarantees: a framer accepts only a reply whose address, function, length
// and check (RTU), or transaction, protocol, unit and length (TCP), fit the
// request it was made for, and is made only for a request that the
// specification allows; an exception is complete after 5 (RTU) or 9 (TCP) bytes;
// no framer reads past the bytes it is given, allocates, or panics on any input.
// Building requests is not its business: the driver uses goburrow's packagers
// for that.
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

	MaxWriteRegisters = 123  // AP 6.12: quantity 1 to 0x7B
	MaxWriteBits      = 1968 // AP 6.11: quantity 1 to 0x7B0

	MaxRTU  = 256 // SL 2.5.1.1: RTU frame
	MaxTCP  = 260 // TCP 3.1.3: MBAP header and PDU
	MaxUnit = 247 // SL 2.2: individual addresses 1 to 247
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
	r, err := ReplyRTU(request)
	if err != nil {
		return nil, err
	}
	return r.Judge, nil
}

// TCP returns the framer for the reply to a Modbus TCP request frame, as it is
// numbered now.
func TCP(request []byte) (Framer, error) {
	r, err := ReplyTCP(request)
	if err != nil {
		return nil, err
	}
	return r.Judge, nil
}

// Reply is what answers one request; Judge is its Framer. It is a plain value,
// cheap enough to be made anew for each request that is sent.
type Reply struct {
	head     [tcpHead]byte // as sent; of RTU the last byte only: the unit
	tcp      bool
	counted  bool // the byte after the function is the length of what follows
	many     bool // the request has more bytes behind what is echoed
	function byte
	size     uint16  // of the whole PDU
	echo     [4]byte // what comes back of a write
	more     [2]byte // what stands behind that in the request itself
}

// ReplyRTU returns what answers an RTU request frame.
func ReplyRTU(request []byte) (Reply, error) {
	if len(request) < rtuHead+1+rtuTail || len(request) > MaxRTU {
		return Reply{}, fmt.Errorf("modbus: RTU request of %d bytes", len(request))
	}
	var r Reply
	r.head[tcpHead-1] = request[0]
	err := r.expect(request[rtuHead : len(request)-rtuTail])
	return r, err
}

// ReplyTCP returns what answers a Modbus TCP request frame.
func ReplyTCP(request []byte) (Reply, error) {
	if len(request) < tcpHead+1 || len(request) > MaxTCP {
		return Reply{}, fmt.Errorf("modbus: TCP request of %d bytes", len(request))
	}
	r := Reply{tcp: true, head: [tcpHead]byte(request)}
	err := r.expect(request[tcpHead:])
	return r, err
}

// expect derives the reply from a request PDU.
func (r *Reply) expect(pdu []byte) error {
	if len(pdu) < 5 {
		return fmt.Errorf("modbus: request PDU of %d bytes", len(pdu))
	}
	r.function = pdu[0]
	quantity := int(binary.BigEndian.Uint16(pdu[3:5]))
	size, limit, what := 5, 0, ""
	switch r.function {
	case ReadCoils, ReadDiscreteInputs:
		limit, what = MaxBits, "bits"
		r.counted, r.size = true, uint16(2+(quantity+7)/8)
	case ReadHoldingRegisters, ReadInputRegisters:
		limit, what = MaxRegisters, "registers"
		r.counted, r.size = true, uint16(2+2*quantity)
	case WriteSingleCoil, WriteSingleRegister:
		r.size = 5 // AP 6.5, 6.6: the answer repeats address and value
	case WriteMultipleCoils:
		limit, what = MaxWriteBits, "bits"
		size, r.size = 6+(quantity+7)/8, 5 // AP 6.11: the answer repeats address and quantity
	case WriteMultipleRegisters:
		limit, what = MaxWriteRegisters, "registers"
		size, r.size = 6+2*quantity, 5 // AP 6.12: likewise
	default:
		return fmt.Errorf("modbus: function 0x%02X has no framer", r.function)
	}
	switch {
	case limit > 0 && (quantity < 1 || quantity > limit):
		return fmt.Errorf("modbus: %d %s in one request, want 1 to %d", quantity, what, limit)
	case len(pdu) != size || size > 5 && int(pdu[5]) != size-6:
		return fmt.Errorf("modbus: request PDU of %d bytes for function 0x%02X, want %d", len(pdu), r.function, size)
	}
	copy(r.echo[:], pdu[1:5])
	if size > 5 {
		r.many = true
		copy(r.more[:], pdu[5:])
	}
	return nil
}

// Judge is the Framer of the reply.
func (r *Reply) Judge(rx []byte) (need int, err error) {
	if r.tcp {
		return r.judgeTCP(rx)
	}
	return r.judgeRTU(rx)
}

// judgePDU looks at a PDU prefix and returns the size the whole PDU will have.
func (r *Reply) judgePDU(pdu []byte) (size int, err error) {
	pdu = pdu[:min(len(pdu), int(r.size))]
	if len(pdu) == 0 || pdu[0] == r.function|ExceptionBit {
		return 2, nil // the shortest reply is an exception
	}
	if pdu[0] != r.function {
		return 0, ErrForeign
	}
	if r.counted {
		if len(pdu) > 1 && int(pdu[1]) != int(r.size)-2 {
			return 0, ErrForeign
		}
		return int(r.size), nil
	}
	for i, b := range pdu[1:] {
		if b != r.echo[i] {
			return 0, ErrForeign
		}
	}
	return int(r.size), nil
}

func (r *Reply) judgeRTU(rx []byte) (int, error) {
	if len(rx) == 0 {
		return rtuException, nil
	}
	if rx[0] != r.head[tcpHead-1] {
		return 0, ErrForeign
	}
	// While the CRC is still to come its bytes may be taken for the PDU's; the
	// size is fixed by the first two of them, so nothing is misjudged.
	size, err := r.judgePDU(rx[rtuHead:])
	if err != nil {
		return 0, err
	}
	total := rtuHead + size + rtuTail
	if len(rx) < total {
		return total - len(rx), nil
	}
	body, sum := rx[:total-rtuTail], rx[total-rtuTail:total]
	switch {
	case CRC(body) == binary.LittleEndian.Uint16(sum):
		return total - len(rx), nil
	case r.many && size == int(r.size) && [2]byte(sum) == r.more:
		return 0, ErrForeign // the request itself, played back by the line
	}
	return 0, ErrDamaged
}

func (r *Reply) judgeTCP(rx []byte) (int, error) {
	// Transaction and protocol identifier (TCP 3.1.3) come back as sent.
	for i := 0; i < min(len(rx), 4); i++ {
		if rx[i] != r.head[i] {
			return 0, ErrForeign
		}
	}
	if len(rx) < tcpHead {
		return tcpException - len(rx), nil
	}
	if rx[6] != r.head[6] {
		return 0, ErrForeign
	}
	length := int(binary.BigEndian.Uint16(rx[4:6]))
	size, err := r.judgePDU(rx[tcpHead:])
	if err != nil {
		return 0, err
	}
	if len(rx) > tcpHead && length != 1+size {
		return 0, ErrForeign
	}
	return tcpHead + size - len(rx), nil
}

// RTUUnit returns the unit id of an RTU frame.
func RTUUnit(frame []byte) byte { return frame[0] }

// TCPUnit returns the unit id of a TCP frame.
func TCPUnit(frame []byte) byte { return frame[tcpHead-1] }

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
