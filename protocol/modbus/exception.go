package modbus

import "fmt"

// Code says why a device refuses (AP 7, table of exception codes).
type Code byte

// The published codes.
const (
	IllegalFunction    Code = 0x01
	IllegalDataAddress Code = 0x02
	IllegalDataValue   Code = 0x03
	DeviceFailure      Code = 0x04
	Acknowledge        Code = 0x05
	DeviceBusy         Code = 0x06
	MemoryParityError  Code = 0x08
	GatewayPath        Code = 0x0A
	GatewayTarget      Code = 0x0B
)

var codeNames = map[Code]string{
	IllegalFunction:    "illegal function",
	IllegalDataAddress: "illegal data address",
	IllegalDataValue:   "illegal data value",
	DeviceFailure:      "server device failure",
	Acknowledge:        "acknowledge",
	DeviceBusy:         "server device busy",
	MemoryParityError:  "memory parity error",
	GatewayPath:        "gateway path unavailable",
	GatewayTarget:      "gateway target device failed to respond",
}

// String returns the published text.
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("code 0x%02X", byte(c))
}

// Exception is a device's refusal.
type Exception struct {
	Function byte
	Code     Code
}

// Error names function and code, as in "modbus exception 2 (illegal data address) to function 3".
func (e Exception) Error() string {
	return fmt.Sprintf("modbus exception %d (%s) to function %d", byte(e.Code), e.Code, e.Function)
}

// FromGateway reports whether a gateway in between answered because the device
// itself did not.
func (e Exception) FromGateway() bool { return e.Code == GatewayPath || e.Code == GatewayTarget }

// Passing reports whether the device asks for no more than time (AP 7).
func (e Exception) Passing() bool { return e.Code == Acknowledge || e.Code == DeviceBusy }
