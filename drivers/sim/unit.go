package sim

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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

// unit is one slave: its tables and whether it answers.
type unit struct {
	listener string
	id       uint8
	pulse    *Pulse

	silent   atomic.Bool
	requests atomic.Uint64

	mu     sync.Mutex // guards the two maps
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
			listener: us.Listener, id: us.ID, pulse: us.Pulse,
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

// startPulse obeys a write to the unit's pulse coils and reports whether addr
// is one of them: the module itself switches the coil off after value steps.
func (u *unit) startPulse(addr, value uint16) bool {
	p := u.pulse
	if p == nil || addr < p.At || addr-p.At >= p.Coils {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	coil := addr - p.At
	u.tables[Coil][coil] = 1
	u.until[coil] = time.Now().Add(time.Duration(value) * p.Step)
	return true
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

// apply makes the change c. Load has proved that every address exists.
func (u *unit) apply(c Change) {
	if c.Silent != nil {
		u.silent.Store(*c.Silent)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range c.Set {
		u.tables[a.Space][a.Address] = a.Value
	}
}

func bit(on bool) uint16 {
	if on {
		return 1
	}
	return 0
}
