package modbus

import (
	"errors"
	"fmt"
	"time"

	"gatehouse/drivers"
)

// pulseUnit is the step in which relay modules time their pulses, and
// longestPulse the number of steps a coil value can carry.
const (
	pulseUnit    = 100 * time.Millisecond
	longestPulse = 0x7FFF
)

// The line is not polled during a command. One pause must end before a bus that
// stands still counts as hung; all of them, before its points are stale.
const (
	longestPause  = 2 * time.Second
	longestPauses = 2 * time.Second
)

func checkOutput(spec drivers.Spec, w *drivers.Output, units unitRange) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	errs = append(errs, checkTarget(spec, w.At, units)...)
	if w.PulseAt != nil {
		if w.PulseAt.Space != "coil" {
			fail("pulse space %q: want coil", w.PulseAt.Space)
		} else {
			errs = append(errs, checkItem(spec, *w.PulseAt, 1, units)...)
		}
	}
	on, off := levels(w)
	switch coil := w.At.Space == "coil"; {
	case !coil && (w.On == nil || w.Off == nil):
		fail("on, off: a register needs both, for Modbus knows no values of its own for it")
	case coil && w.Multiple:
		for _, value := range []uint16{on, off} {
			if err := checkBit(value); err != nil {
				errs = append(errs, err)
			}
		}
		on, off = min(on, 1), min(off, 1)
	}
	if on == off {
		fail("on and off are both 0x%X: the output could not be switched", on)
	}
	switch n := w.PulseFor / pulseUnit; {
	case w.PulseFor == 0:
	case w.PulseAt == nil:
		fail("pulse: this module times no pulses (no pulse address)")
	case w.PulseFor%pulseUnit != 0 || n < 1 || n > longestPulse:
		fail("pulse %v: want a multiple of 100ms, at most %v", w.PulseFor, longestPulse*pulseUnit)
	}
	return errs
}

// checkTarget checks where something is written.
func checkTarget(spec drivers.Spec, at drivers.Item, units unitRange) []error {
	if at.Space != "coil" && at.Space != "holding" {
		return []error{fmt.Errorf("write space %q: want coil or holding", at.Space)}
	}
	return checkItem(spec, at, 1, units)
}

// checkBit checks a coil value that function 15 carries: it has one bit for it.
func checkBit(value uint16) error {
	if value > 1 && value != coilOn {
		return fmt.Errorf("value 0x%X: function 15 carries 0, 1 and 0xFF00 only", value)
	}
	return nil
}

func checkCommands(spec drivers.Spec, units unitRange) (errs []error) {
	seen := make(map[string]bool)
	for _, c := range spec.Commands {
		fail := func(err error) { errs = append(errs, fmt.Errorf("command %q: %w", c.Name, err)) }
		switch {
		case c.Name == "":
			fail(errors.New("it has no name to order it by"))
		case seen[c.Name]:
			fail(errors.New("listed twice"))
		}
		seen[c.Name] = true
		if len(c.Steps) == 0 {
			fail(errors.New("no steps: it would do nothing"))
		}
		var pauses time.Duration
		for i, s := range c.Steps {
			for _, err := range checkTarget(spec, s.At, units) {
				fail(fmt.Errorf("step %d: %w", i+1, err))
			}
			if s.At.Space == "coil" && s.Multiple {
				if err := checkBit(s.Value); err != nil {
					fail(fmt.Errorf("step %d: %w", i+1, err))
				}
			}
			if s.Pause < 0 || s.Pause > longestPause {
				fail(fmt.Errorf("step %d: pause %v: want 0 to %v", i+1, s.Pause, longestPause))
				continue
			}
			pauses += s.Pause
		}
		if pauses > longestPauses {
			fail(fmt.Errorf("pauses of %v: the line is not polled meanwhile; want at most %v", pauses, longestPauses))
		}
	}
	return errs
}
