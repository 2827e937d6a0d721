// Package sim is a simulated compound: Modbus slaves on TCP and on
// pseudo-terminals that answer from raw register tables, and a scenario that
// changes the tables as time passes.
//
// It guarantees: it knows no driver and no profile, so what a driver makes of
// its registers is the driver's own doing; the same scenario with the same
// seed makes the same changes in the same order at the same offsets; Close
// returns after every goroutine it started has ended. Modbus TCP is spoken by
// simonvetter/modbus behind a relay that can swallow the requests of a silent
// unit; RTU is spoken by a slave of its own.
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

// ErrUnknownUnit occurs when a unit is named that the scenario does not have.
var ErrUnknownUnit = errors.New("no such unit in the scenario")

// Options say what to simulate and where.
type Options struct {
	Scenario *Scenario
	// Listen and PTY override the scenario's TCP address and pty link path of a
	// listener, by its name.
	Listen map[string]string
	PTY    map[string]string
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

// Address says where a listener answers. TCP or PTY is set, never both.
type Address struct {
	Name string `json:"name"`
	TCP  string `json:"tcp,omitempty"`
	PTY  string `json:"pty,omitempty"`  // the terminal itself: /dev/pts/N
	Link string `json:"link,omitempty"` // the symlink to it
}

// Sim is a running compound.
type Sim struct {
	opts      Options
	units     map[string]*unit
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
	s := &Sim{opts: opts, units: newUnits(opts.Scenario), stop: stop}
	for _, l := range opts.Scenario.Listeners {
		if err := s.open(l); err != nil {
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
	for name := range opts.Listen {
		if kinds[name] != "tcp" {
			return fmt.Errorf("sim: scenario %s has no TCP listener %q", opts.Scenario.Name, name)
		}
	}
	for name := range opts.PTY {
		if kinds[name] != "pty" {
			return fmt.Errorf("sim: scenario %s has no pty listener %q", opts.Scenario.Name, name)
		}
	}
	return nil
}

func (s *Sim) open(l Listener) error {
	units := make(map[uint8]*unit)
	for _, u := range s.units {
		if u.listener == l.Name {
			units[u.id] = u
		}
	}
	log := s.opts.Log.With("listener", l.Name)
	if l.kind() == "tcp" {
		addr := *l.TCP
		if o, ok := s.opts.Listen[l.Name]; ok {
			addr = o
		}
		t, err := listenTCP(addr, units, log)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, t)
		s.addresses = append(s.addresses, Address{Name: l.Name, TCP: t.addr()})
		return nil
	}
	link := *l.PTY
	if o, ok := s.opts.PTY[l.Name]; ok {
		link = o
	}
	p, err := openPTY(link)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, serveRTU(p, units, log))
	s.addresses = append(s.addresses, Address{Name: l.Name, PTY: p.path, Link: p.link})
	return nil
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
		s.units[c.Unit].apply(c)
		if s.opts.OnChange != nil && !c.noise {
			s.opts.OnChange(c)
		}
	}
}

// Close stops the scenario, closes every listener and waits for all of it.
func (s *Sim) Close() error {
	s.stop()
	s.wg.Wait()
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i].Close())
	}
	s.closers = nil
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

func (s *Sim) unit(name string) (*unit, error) {
	u, ok := s.units[name]
	if !ok {
		return nil, fmt.Errorf("%w: %q (want listener/id)", ErrUnknownUnit, name)
	}
	return u, nil
}

// SetDiscrete sets one discrete input of a unit, named listener/id.
func (s *Sim) SetDiscrete(unit string, addr uint16, on bool) error {
	return s.Set(unit, Discrete, addr, bit(on))
}

// SetRegister sets holding or input registers of a unit from addr on.
func (s *Sim) SetRegister(unit string, space Space, addr uint16, words ...uint16) error {
	return s.Set(unit, space, addr, words...)
}

// Set writes raw values into a unit's table; every address must exist.
func (s *Sim) Set(unit string, space Space, addr uint16, values ...uint16) error {
	u, err := s.unit(unit)
	if err != nil {
		return err
	}
	return u.write(space, addr, values)
}

// Get reads raw values out of a unit's table.
func (s *Sim) Get(unit string, space Space, addr, count uint16) ([]uint16, error) {
	u, err := s.unit(unit)
	if err != nil {
		return nil, err
	}
	return u.read(space, addr, count)
}

// SetSilent makes a unit swallow every request, or answer again.
func (s *Sim) SetSilent(unit string, silent bool) error {
	u, err := s.unit(unit)
	if err != nil {
		return err
	}
	u.silent.Store(silent)
	return nil
}

// Requests counts the requests a unit has received, answered or not.
func (s *Sim) Requests(unit string) (uint64, error) {
	u, err := s.unit(unit)
	if err != nil {
		return 0, err
	}
	return u.requests.Load(), nil
}
