package notify

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/edge/internal/alarm"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// relay notes what it was told, and may refuse.
type relay struct {
	mu     sync.Mutex
	on     int
	off    int
	last   time.Time
	refuse error
	heard  []error // by Trouble
}

func (r *relay) trouble(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, err)
}

func (r *relay) write(_ context.Context, _ point.ID, v point.Value) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return r.refuse
	}
	r.last = time.Now()
	if v.On() {
		r.on++
	} else {
		r.off++
	}
	return nil
}

func (r *relay) told() (on, off int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.on, r.off
}

func (r *relay) lastTold() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func running(t *testing.T, r *relay, pulse time.Duration) *Siren {
	t.Helper()
	s, err := NewSiren(SirenOptions{Point: "di-1/relay1", Pulse: pulse, Write: r.write, Trouble: r.trouble, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return s
}

func p1() alarm.Alarm { return alarm.Alarm{ID: wire.NewEventID(), Priority: 1, Active: true} }

func raise(s *Siren, a alarm.Alarm) { s.Step(alarm.Step{Kind: wire.KindAlarmRaised, Alarm: a}) }

func TestSirenSoundsAtOnceAndUntilAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{}
		s := running(t, r, 4*time.Second)
		start := time.Now()
		a := p1()
		raise(s, a)
		synctest.Wait()
		if on, _ := r.told(); on != 1 || !r.lastTold().Equal(start) {
			t.Fatalf("commanded on %d times, want once at once", on)
		}
		<-time.After(30 * time.Second)
		synctest.Wait()
		if on, off := r.told(); on != 11 || off != 0 {
			t.Errorf("on %d times, off %d in 30 s, want a new 4 s pulse every 3 s", on, off)
		}
		a.Acked = time.Now()
		s.Step(alarm.Step{Kind: wire.KindAlarmAcknowledged, Alarm: a})
		synctest.Wait()
		on, off := r.told()
		if off != 1 {
			t.Errorf("off %d times after the answer, want once", off)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if after, _ := r.told(); after != on {
			t.Error("the siren sounded after the answer")
		}
	})
}

func TestSirenStaysOnWhileOneOfTwoAlarmsIsUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{}
		s := running(t, r, 0)
		a, b := p1(), p1()
		raise(s, a)
		raise(s, b)
		a.Active = false
		s.Step(alarm.Step{Kind: wire.KindAlarmCleared, Alarm: a})
		synctest.Wait()
		if _, off := r.told(); off != 0 {
			t.Error("switched off while an alarm called")
		}
	})
}

func TestSirenIgnoresLesserAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{}
		a := p1()
		a.Priority = 2
		raise(running(t, r, 0), a)
		synctest.Wait()
		if on, _ := r.told(); on != 0 {
			t.Error("sounded for P2")
		}
	})
}

func TestSirenThatFailsIsRetriedWhileNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{refuse: errors.New("no reply")}
		s := running(t, r, 4*time.Second)
		raise(s, p1())
		<-time.After(10 * time.Second)
		r.mu.Lock()
		r.refuse = nil
		r.mu.Unlock()
		<-time.After(retryWrite)
		synctest.Wait()
		if on, _ := r.told(); on == 0 {
			t.Error("not commanded after the relay came back")
		}
		if len(r.heard) != 2 || r.heard[0] == nil || r.heard[1] != nil {
			t.Errorf("trouble was told as %v, want once and its end", r.heard)
		}
	})
}

func TestAHeldSirenIsCommandedAgainInCaseItsModuleLostPower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{}
		raise(running(t, r, 0), p1())
		<-time.After(35 * time.Second)
		synctest.Wait()
		if on, _ := r.told(); on != 4 {
			t.Errorf("commanded %d times in 35 s, want at once and every 10 s", on)
		}
	})
}

func TestSirenResumesAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &relay{}
		s := running(t, r, 0)
		s.Resume([]alarm.Alarm{p1()})
		synctest.Wait()
		if on, _ := r.told(); on != 1 {
			t.Errorf("commanded %d times, want once", on)
		}
	})
}
