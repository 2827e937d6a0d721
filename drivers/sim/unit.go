package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Space names one of the four tables of a Modbus device.
type Space string

// The tables.
const (
	Coil     Space = "coil"
	Discrete Space = "discrete"
	Holding  Space = "holding"
	Input    Space = "input"
)

// errNoAddress occurs when an address is not in the unit's table.
var errNoAddress = errors.New("no such address")

// unit is one slave: its tables and how it misbehaves.
type unit struct {
	health
	listener string
	id       uint8
	pulse    *Pulse
	breaker  bool

	mu     sync.Mutex // guards those below
	armed  uint16     // the pre-command that a breaker holds
	tables map[Space]map[uint16]uint16
	until  map[uint16]time.Time // coil -> when its pulse ends
}

// unitName is how steps and tests name a unit.
func unitName(listener string, id uint8) string { return fmt.Sprintf("%s/%d", listener, id) }

func newUnits(sc *Scenario) map[string]*unit {
	units := make(map[string]*unit, len(sc.Units))
	for i := range sc.Units {
		us := &sc.Units[i]
		u := &unit{
			listener: us.Listener, id: us.ID, pulse: us.Pulse, breaker: us.Breaker,
			tables: make(map[Space]map[uint16]uint16), until: make(map[uint16]time.Time),
		}
		for space, cells := range us.spaces() {
			u.tables[space] = cells.flat()
		}
		units[unitName(us.Listener, us.ID)] = u
	}
	return units
}

// read returns count values from addr on.
func (u *unit) read(space Space, addr, count uint16) ([]uint16, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if space == Coil {
		u.endPulses(time.Now())
	}
	out := make([]uint16, count)
	for i := range out {
		v, ok := u.tables[space][addr+uint16(i)]
		if !ok {
			return nil, fmt.Errorf("%w: %s %d", errNoAddress, space, int(addr)+i)
		}
		out[i] = v
	}
	return out, nil
}

// write sets values from addr on, all or none of them.
func (u *unit) write(space Space, addr uint16, values []uint16) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.breaker && space == Holding && len(values) == 1 && u.operate(addr, values[0]) {
		return nil
	}
	for i := range values {
		if _, ok := u.tables[space][addr+uint16(i)]; !ok {
			return fmt.Errorf("%w: %s %d", errNoAddress, space, int(addr)+i)
		}
	}
	for i, v := range values {
		u.tables[space][addr+uint16(i)] = v
		if space == Coil {
			delete(u.until, addr+uint16(i))
		}
	}
	return nil
}

// The registers and codes of a two-step breaker, 佳岚 (facts of the device, 6.12).
const (
	breakerState   = 0x0010 // low byte 0: closed
	breakerPrepare = 0x0080
	breakerExecute = 0x0081
	prepareClose   = 0x0155
	prepareOpen    = 0x0255
	executeClose   = 0x01AA
	executeOpen    = 0x02AA
)

// operate obeys a write to the two command registers of a breaker and reports
// whether addr is one of them: it moves only if the command that is executed was
// prepared just before. Called with mu held.
func (u *unit) operate(addr, value uint16) bool {
	switch addr {
	case breakerPrepare:
		u.armed = value
	case breakerExecute:
		state := u.tables[Holding][breakerState] &^ 0xFF
		switch {
		case value == executeClose && u.armed == prepareClose:
			u.tables[Holding][breakerState] = state
		case value == executeOpen && u.armed == prepareOpen:
			u.tables[Holding][breakerState] = state | 1
		}
		u.armed = 0
	default:
		return false
	}
	return true
}

// pulseAt reports whether pdu writes one of the unit's pulse coils.
func (u *unit) pulseAt(pdu []byte) bool {
	if u.pulse == nil || len(pdu) != 5 {
		return false
	}
	addr := binary.BigEndian.Uint16(pdu[1:])
	return addr >= u.pulse.At && addr-u.pulse.At < u.pulse.Coils
}

// startPulse obeys a write to one of the pulse coils: the module itself switches
// the coil off after value steps.
func (u *unit) startPulse(addr, value uint16) {
	p := u.pulse
	u.mu.Lock()
	defer u.mu.Unlock()
	coil := addr - p.At
	u.tables[Coil][coil] = 1
	u.until[coil] = time.Now().Add(time.Duration(value) * p.Step)
}

// endPulses switches off what has been on for long enough. Called with mu held
// before coils are looked at, it needs no timer.
func (u *unit) endPulses(now time.Time) {
	for coil, end := range u.until {
		if !now.Before(end) {
			u.tables[Coil][coil] = 0
			delete(u.until, coil)
		}
	}
}

// assign sets values. Load has proved that every address exists.
func (u *unit) assign(values []Assign) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range values {
		u.tables[a.Space][a.Address] = a.Value
	}
}

func (u *unit) setValue(name string, _ float64) error {
	return fmt.Errorf("a Modbus unit has no %q: it is set by address", name)
}

func (u *unit) value(name string) (float64, error) { return 0, u.setValue(name, 0) }

func bit(on bool) uint16 {
	if on {
		return 1
	}
	return 0
}
