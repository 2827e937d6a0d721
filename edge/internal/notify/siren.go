// Package notify tells people. Each way of telling is one file.
//
// It guarantees: Step returns at once; an output that fails is tried again
// until it works or nobody needs it, and holds up no other.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gatehouse/edge/internal/alarm"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// SirenOptions is what a Siren needs.
type SirenOptions struct {
	Point point.ID
	// Pulse is how long the module sounds after one command; the siren is
	// commanded again while anybody needs it. Zero: it sounds until told not to.
	Pulse time.Duration
	// Write commands the relay; it may take as long as a bus exchange.
	Write func(context.Context, point.ID, point.Value) error
	// Trouble is told when the relay cannot be commanded, and, with nil, when it
	// can be again.
	Trouble func(error)
	Log     *slog.Logger
}

const (
	writeTimeout = 5 * time.Second  // of one command
	retryWrite   = time.Second      // after one that failed
	refresh      = 10 * time.Second // of a held relay: its module may have lost power meanwhile
)

// Siren sounds one relay while a P1 alarm is active and not acknowledged.
type Siren struct {
	o    SirenOptions
	wake chan struct{}

	mu      sync.Mutex // guards calling
	calling map[wire.EventID]bool
}

// NewSiren returns a siren that is silent until Run is called.
func NewSiren(o SirenOptions) (*Siren, error) {
	if o.Point == "" || o.Write == nil || o.Trouble == nil || o.Log == nil {
		return nil, errors.New("siren: Point, Write, Trouble and Log are required")
	}
	return &Siren{o: o, wake: make(chan struct{}, 1), calling: make(map[wire.EventID]bool)}, nil
}

// Resume makes an alarm that was open before a restart call again.
func (s *Siren) Resume(open []alarm.Alarm) {
	for _, a := range open {
		s.Step(alarm.Step{Kind: wire.KindAlarmRaised, Alarm: a})
	}
}

// Step notes whether the alarm needs the siren.
func (s *Siren) Step(step alarm.Step) {
	a := step.Alarm
	if a.Priority != 1 {
		return
	}
	s.mu.Lock()
	if a.Status() == alarm.Raised {
		s.calling[a.ID] = true
	} else {
		delete(s.calling, a.ID)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Siren) needed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calling) > 0
}

// Run commands the relay until ctx ends. It leaves a pulsed relay to its own
// timer and switches a held one off.
func (s *Siren) Run(ctx context.Context) error {
	var again <-chan time.Time // when to command once more: the pulse runs out, or the last try failed
	sounding, failing, due := false, false, false
	for {
		if need := s.needed(); need != sounding || due {
			again, due = nil, false
			err := s.write(ctx, need)
			switch {
			case err == nil:
				sounding = need
				if failing {
					failing = false
					s.o.Trouble(nil)
				}
				if need {
					again = time.After(s.pause())
				}
			case ctx.Err() == nil:
				if !failing {
					failing = true
					s.o.Log.Error("the siren cannot be commanded and is being retried", "point", s.o.Point, "err", err)
					s.o.Trouble(fmt.Errorf("%s: %w", s.o.Point, err))
				}
				sounding = true // for all we know: the command may have arrived and its answer not
				again = time.After(retryWrite)
			}
		}
		select {
		case <-ctx.Done():
			if sounding && s.o.Pulse == 0 {
				return s.write(context.WithoutCancel(ctx), false)
			}
			return nil
		case <-s.wake:
		case <-again:
			due = true
		}
	}
}

// pause is how long one command lasts before the next is due.
func (s *Siren) pause() time.Duration {
	if s.o.Pulse > 0 {
		return s.o.Pulse * 3 / 4
	}
	return refresh
}

func (s *Siren) write(ctx context.Context, on bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return s.o.Write(ctx, s.o.Point, point.Truth(on))
}
