// Package sim is a simulated compound: Modbus slaves that answer from raw
// register tables, OSDP readers, DL/T 645 meters, gas modules and text readers,
// on pseudo-terminals, behind serial servers and in memory; faults of all of
// them; and a scenario that changes them as time passes. Every device can be
// used alone too, with Open, and a Relay spoils the bytes between two ends.
//
// It guarantees: it knows no driver and no profile, so what a driver makes of
// its registers is the driver's own doing; the same scenario with the same
// seed makes the same changes in the same order at the same offsets; Close
// returns after every goroutine it started has ended. Modbus TCP is spoken by
// simonvetter/modbus behind a relay that answers in the place of a unit that is
// to misbehave; all else is spoken by this package's own code.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// ErrUnknownUnit occurs when a unit or listener is named that the scenario does
// not have, or not of that kind.
var ErrUnknownUnit = errors.New("no such unit in the scenario")

// Options say what to simulate and where.
type Options struct {
	Scenario *Scenario
	// Listen, PTY and Dial override the scenario's TCP address, pty link path and
	// address to dial of a listener, by its name.
	Listen map[string]string
	PTY    map[string]string
	Dial   map[string]string
	// Seed makes the noise repeatable.
	Seed uint64
	// Speed is how many seconds of the scenario pass in one second; 0 means 1.
	Speed float64
	// Loop begins the steps again each time the scenario's period has passed.
	Loop bool
	// Hold keeps the tables as they are: no step and no noise runs, a test
	// changes values by hand.
	Hold bool
	// OnChange is told of every change a step makes, from one goroutine; noise
	// is not reported.
	OnChange func(Change)
	Log      *slog.Logger
}

// Address says where a listener answers: one of TCP, PTY and Dial is set.
type Address struct {
	Name string `json:"name"`
	TCP  string `json:"tcp,omitempty"`
	PTY  string `json:"pty,omitempty"`  // the terminal itself: /dev/pts/N
	Link string `json:"link,omitempty"` // the symlink to it
	Dial string `json:"dial,omitempty"` // where it dials to
}

// Sim is a running compound.
type Sim struct {
	opts      Options
	devices   map[string]device
	lines     map[string]*Line // but those of Modbus TCP
	addresses []Address
	closers   []io.Closer // in the order they were opened
	stop      context.CancelFunc
	wg        sync.WaitGroup
}

// Start opens every listener and begins the scenario.
func Start(opts Options) (*Sim, error) {
	if opts.Scenario == nil {
		return nil, errors.New("sim: no scenario")
	}
	if opts.Speed == 0 {
		opts.Speed = 1
	}
	if opts.Speed < 0 {
		return nil, fmt.Errorf("sim: speed %g: must be above 0", opts.Speed)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkOverrides(opts); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Sim{opts: opts, devices: make(map[string]device), lines: make(map[string]*Line), stop: stop}
	units := newUnits(opts.Scenario)
	for name, u := range units {
		s.devices[name] = u
	}
	var errs []error
	others := opts.Scenario.others(func(_ string, err error) { errs = append(errs, err) })
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("sim: %w", errors.Join(err, s.Close()))
	}
	for _, p := range others {
		s.devices[p.name] = p.device
	}
	for _, l := range opts.Scenario.Listeners {
		if err := s.open(l, units, others); err != nil {
			return nil, errors.Join(fmt.Errorf("sim: listener %s: %w", l.Name, err), s.Close())
		}
	}
	if !opts.Hold {
		s.wg.Go(func() { s.play(ctx) })
	}
	return s, nil
}

// checkOverrides refuses an override of a listener that is not there.
func checkOverrides(opts Options) error {
	kinds := make(map[string]string)
	for _, l := range opts.Scenario.Listeners {
		kinds[l.Name] = l.kind()
	}
	for _, o := range []struct {
		kind, label string
		given       map[string]string
	}{{"tcp", "TCP", opts.Listen}, {"pty", "pty", opts.PTY}, {"dial", "dialling", opts.Dial}} {
		for name := range o.given {
			if kinds[name] != o.kind {
				return fmt.Errorf("sim: scenario %s has no %s listener %q", opts.Scenario.Name, o.label, name)
			}
		}
	}
	return nil
}

// open makes a listener answer for the units and other devices on it.
func (s *Sim) open(l Listener, all map[string]*unit, others []placed) error {
	log := s.opts.Log.With("listener", l.Name)
	units := make(map[uint8]*unit)
	for _, u := range all {
		if u.listener == l.Name {
			units[u.id] = u
		}
	}
	var st station
	for _, p := range others {
		if p.listener == l.Name {
			var err error
			if st, err = p.device.join(st); err != nil {
				return err
			}
		}
	}
	if st == nil && l.kind() == "tcp" && l.Framing != "rtu" {
		t, err := listenTCP(override(s.opts.Listen, l.Name, *l.TCP), units, log)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, t)
		s.addresses = append(s.addresses, Address{Name: l.Name, TCP: t.addr()})
		return nil
	}
	if st == nil {
		st = rtuSlaves(units)
	}
	var at Place
	switch l.kind() {
	case "tcp":
		at.TCP = override(s.opts.Listen, l.Name, *l.TCP)
	case "dial":
		at.Dial = override(s.opts.Dial, l.Name, *l.Dial)
		if at.Dial == "" {
			s.addresses = append(s.addresses, Address{Name: l.Name})
			return nil // nobody said where to
		}
	default:
		link := override(s.opts.PTY, l.Name, *l.PTY)
		at.PTY = &link
	}
	line, err := openLine(at, l.Server, log, st)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, line)
	s.lines[l.Name] = line
	a := Address{Name: l.Name, TCP: line.TCP(), PTY: line.PTY(), Dial: at.Dial}
	if at.PTY != nil {
		a.Link = *at.PTY
	}
	s.addresses = append(s.addresses, a)
	return nil
}

func override(by map[string]string, name, otherwise string) string {
	if o, ok := by[name]; ok {
		return o
	}
	return otherwise
}

// play walks through the timeline until ctx ends or nothing is left of it.
func (s *Sim) play(ctx context.Context) {
	t := newTimeline(s.opts.Scenario, s.opts.Seed, s.opts.Loop)
	begun := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c, ok := t.next()
		if !ok {
			return
		}
		timer.Reset(time.Until(begun.Add(time.Duration(float64(c.At) / s.opts.Speed))))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		apply(s.devices[c.Unit], c)
		if s.opts.OnChange != nil && !c.noise {
			s.opts.OnChange(c)
		}
	}
}

// Close stops the scenario, closes every listener and waits for all of it.
func (s *Sim) Close() error {
	s.stop()
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i].Close())
	}
	s.closers = nil
	s.wg.Wait() // last: a step may be waiting for a line that takes nothing
	return errors.Join(errs...)
}

// Addresses lists where the listeners answer, in the scenario's order.
func (s *Sim) Addresses() []Address { return s.addresses }

// TCPAddr returns host:port of a listener, or "" if there is no such one.
func (s *Sim) TCPAddr(listener string) string { return s.address(listener).TCP }

// PTYPath returns the terminal a client opens, or "" if there is no such one.
func (s *Sim) PTYPath(listener string) string { return s.address(listener).PTY }

func (s *Sim) address(listener string) Address {
	for _, a := range s.addresses {
		if a.Name == listener {
			return a
		}
	}
	return Address{}
}

// find returns the device of that name if it is of that kind.
func find[T any](s *Sim, name string) (T, error) {
	d, ok := s.devices[name].(T)
	if !ok {
		return d, fmt.Errorf("%w: %q (want listener/id)", ErrUnknownUnit, name)
	}
	return d, nil
}

// Reader returns the OSDP reader named listener/id.
func (s *Sim) Reader(name string) (*Reader, error) { return find[*Reader](s, name) }

// Meter returns the DL/T 645 meter named listener/id.
func (s *Sim) Meter(name string) (*Meter, error) { return find[*Meter](s, name) }

// GasModule returns the gas module of a listener.
func (s *Sim) GasModule(listener string) (*GasModule, error) { return find[*GasModule](s, listener) }

// TextReader returns the text reader of a listener.
func (s *Sim) TextReader(listener string) (*TextReader, error) { return find[*TextReader](s, listener) }

// Line returns a listener that is not Modbus TCP.
func (s *Sim) Line(listener string) (*Line, error) {
	if l, ok := s.lines[listener]; ok {
		return l, nil
	}
	return nil, fmt.Errorf("%w: no line %q", ErrUnknownUnit, listener)
}

// SetDiscrete sets one discrete input of a unit, named listener/id.
func (s *Sim) SetDiscrete(name string, addr uint16, on bool) error {
	return s.Set(name, Discrete, addr, bit(on))
}

// SetRegister sets holding or input registers of a unit from addr on.
func (s *Sim) SetRegister(name string, space Space, addr uint16, words ...uint16) error {
	return s.Set(name, space, addr, words...)
}

// Set writes raw values into a unit's table; every address must exist.
func (s *Sim) Set(name string, space Space, addr uint16, values ...uint16) error {
	u, err := find[*unit](s, name)
	if err != nil {
		return err
	}
	return u.write(space, addr, values)
}

// Get reads raw values out of a unit's table.
func (s *Sim) Get(name string, space Space, addr, count uint16) ([]uint16, error) {
	u, err := find[*unit](s, name)
	if err != nil {
		return nil, err
	}
	return u.read(space, addr, count)
}

// SetSilent makes a unit swallow every request, or answer again.
func (s *Sim) SetSilent(name string, silent bool) error {
	d, err := find[device](s, name)
	if err == nil {
		d.SetSilent(silent)
	}
	return err
}

// SetFault makes a unit misbehave from its next request on.
func (s *Sim) SetFault(name string, f Fault) error {
	d, err := find[device](s, name)
	if err == nil {
		d.SetFault(f)
	}
	return err
}

// Requests counts the requests a unit has received, answered or not.
func (s *Sim) Requests(name string) (uint64, error) {
	d, err := find[device](s, name)
	if err != nil {
		return 0, err
	}
	return d.Requests(), nil
}
