package modbus

import (
	gomodbus "github.com/goburrow/modbus"

	"gatehouse/drivers"
)

// encoder wraps a function and its data in a frame for a unit id.
type encoder func(unit, function byte, data ...byte) ([]byte, error)

// newEncoder returns goburrow's packager of a framing. The data is our own:
// goburrow's client forbids coil values other than on and off, and modules time
// their pulses by them. The packager is large and needed only while a driver is
// built; whether a reply fits is the framer's to judge (protocol/modbus).
func newEncoder(framing drivers.Framing) encoder {
	if framing == drivers.TCP {
		h := gomodbus.NewTCPClientHandler("")
		return func(unit, function byte, data ...byte) ([]byte, error) {
			h.SlaveId = unit
			return h.Encode(&gomodbus.ProtocolDataUnit{FunctionCode: function, Data: data})
		}
	}
	h := gomodbus.NewRTUClientHandler("")
	return func(unit, function byte, data ...byte) ([]byte, error) {
		h.SlaveId = unit
		return h.Encode(&gomodbus.ProtocolDataUnit{FunctionCode: function, Data: data})
	}
}
