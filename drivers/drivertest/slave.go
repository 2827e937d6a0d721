package drivertest

import (
	"encoding/binary"

	"gatehouse/protocol/modbus"
)

// Sizes of the requests that read, or write one coil: the request a Handler
// for Modbus is given.
const (
	RTURequest = 8
	TCPRequest = 12
)

// Registers gives the value of one register (or bit) of a Modbus slave.
type Registers func(unit, function byte, address uint16) uint16

// ReplyRTU appends the reply of a slave to an RTU request.
func ReplyRTU(out, request []byte, registers Registers) []byte {
	start := len(out)
	out = append(out, request[0])
	out = reply(out, request[0], request[1:], registers)
	return Seal(out, start)
}

// ReplyTCP appends the reply of a slave to a Modbus TCP request.
func ReplyTCP(out, request []byte, registers Registers) []byte {
	start := len(out)
	out = append(out, request[:7]...)
	out = reply(out, request[6], request[7:], registers)
	binary.BigEndian.PutUint16(out[start+4:], uint16(len(out)-start-6))
	return out
}

// reply appends the PDU.
func reply(out []byte, unit byte, pdu []byte, registers Registers) []byte {
	function := pdu[0]
	address, quantity := binary.BigEndian.Uint16(pdu[1:]), binary.BigEndian.Uint16(pdu[3:])
	switch function {
	case modbus.ReadHoldingRegisters, modbus.ReadInputRegisters:
		out = append(out, function, byte(2*quantity))
		for i := range quantity {
			out = binary.BigEndian.AppendUint16(out, registers(unit, function, address+i))
		}
	case modbus.ReadCoils, modbus.ReadDiscreteInputs:
		size := int(quantity+7) / 8
		out = append(out, function, byte(size))
		first := len(out)
		out = append(out, make([]byte, size)...)
		for i := range quantity {
			if registers(unit, function, address+i) != 0 {
				out[first+int(i/8)] |= 1 << (i % 8)
			}
		}
	case modbus.WriteSingleCoil:
		out = append(out, pdu[:5]...)
	default:
		out = append(out, function|modbus.ExceptionBit, byte(modbus.IllegalFunction))
	}
	return out
}

// Exception appends a refusal to the request, in the same framing (by size).
func Exception(out, request []byte, code modbus.Code) []byte {
	start := len(out)
	if len(request) == TCPRequest {
		out = append(out, request[:7]...)
		out[start+4], out[start+5] = 0, 3
		return append(out, request[7]|modbus.ExceptionBit, byte(code))
	}
	out = append(out, request[0], request[1]|modbus.ExceptionBit, byte(code))
	return Seal(out, start)
}

// Seal appends the CRC of what follows start.
func Seal(out []byte, start int) []byte {
	return binary.LittleEndian.AppendUint16(out, modbus.CRC(out[start:]))
}
