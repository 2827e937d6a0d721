package alarm

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

func TestLifeOfAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := empty()
		r := newRig(t, j, high())
		r.read(30, point.Good)
		r.wantStatus(Raised)
		r.read(22, point.Good) // deadband
		r.wantStatus(Raised)
		first := r.List()[0]
		for _, name := range []string{" ", "a\nb", "\x1b[31m", "\xff", strings.Repeat("王", 65)} {
			if _, err := r.Acknowledge(first.ID, name); !errors.Is(err, ErrNoActor) {
				t.Errorf("acknowledged by %q: %v", name, err)
			}
		}
		if a, err := r.Acknowledge(first.ID, "老王"); err != nil || a.AckedBy != "老王" {
			t.Errorf("Acknowledge = %+v, %v", a, err)
		}
		r.wantStatus(Acknowledged)
		if a, err := r.Acknowledge(first.ID, "小李"); err != nil || a.AckedBy != "老王" {
			t.Errorf("a second acknowledgement changed the first: %+v, %v", a, err)
		}
		r.read(10, point.Good)
		r.wantStatus()
		r.read(40, point.Good)
		if next := r.List()[0]; next.ID == first.ID || next.Occurrence != 1 {
			t.Errorf("after it was closed, the alarm came back as %+v", next)
		}
		synctest.Wait()
		want := []string{wire.KindAlarmRaised, wire.KindAlarmAcknowledged, wire.KindAlarmCleared, wire.KindAlarmRaised}
		if got := j.kinds(t); !slices.Equal(got, want) {
			t.Errorf("records = %v, want %v", got, want)
		}
		if len(j.state) != 1 {
			t.Errorf("%d alarms are stored, want the open one", len(j.state))
		}
		if _, err := r.Acknowledge(wire.NewEventID(), "老王"); !errors.Is(err, ErrNoAlarm) {
			t.Errorf("acknowledging nothing: %v", err)
		}
	})
}

func TestRaisedAgainBeforeAnAnswerStaysOneAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, empty(), high())
		r.read(30, point.Good)
		id := r.List()[0].ID
		r.read(0, point.Good)
		r.wantStatus(Cleared)
		r.read(30, point.Good)
		r.wantStatus(Raised)
		if a := r.List()[0]; a.ID != id || a.Occurrence != 2 {
			t.Errorf("raised again = %+v, want alarm %s with 2 occurrences", a, id)
		}
	})
}

func TestBadQualityNeitherRaisesNorClears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, empty(), high())
		r.read(99, point.Fault)
		r.wantStatus()
		r.read(30, point.Good)
		for _, q := range []point.Quality{point.Unknown, point.Stale, point.Fault, point.Implausible} {
			r.read(0, q)
			r.wantStatus(Raised)
		}
	})
}

func TestOnDelayRunsOnlyWhileTheConditionIsKnownToHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := high()
		def.For = 10 * time.Second
		r := newRig(t, empty(), def)
		r.read(30, point.Good)
		r.pass(9 * time.Second)
		r.wantStatus()
		r.read(30, point.Stale)
		r.pass(time.Hour)
		r.wantStatus()
		r.read(30, point.Good)
		r.pass(500 * time.Millisecond)
		r.wantStatus()
		r.pass(time.Second)
		r.wantStatus(Raised)

		r.read(0, point.Good)
		r.read(30, point.Good)
		r.pass(5 * time.Second)
		r.read(0, point.Good)
		r.read(30, point.Good)
		r.pass(9 * time.Second)
		r.wantStatus(Cleared) // the delay began anew
	})
}

func TestSamplesCountReadingsNotTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := high()
		def.Samples = 2
		r := newRig(t, empty(), def)
		r.read(30, point.Good)
		r.pass(time.Minute)
		r.wantStatus()
		r.read(0, point.Good)
		r.read(30, point.Good)
		r.wantStatus()
		r.read(30, point.Good)
		r.wantStatus(Raised)
	})
}

func TestAReadingIsJudgedAsItWasEvenIfALaterOneIsInTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, empty(), high())
		now := time.Now()
		spike := point.Reading{Point: gas, At: now, Value: point.Float(30), Quality: point.Good}
		after := point.Reading{Point: gas, At: now, Value: point.Float(0), Quality: point.Good}
		r.table[gas] = after
		r.Observe([]point.Reading{spike, after}, []int32{0, 0})
		r.wantStatus(Cleared)
		if a := r.List()[0]; a.Occurrence != 1 {
			t.Errorf("the spike left %+v", a)
		}
	})
}

func TestOutputsAreCommandedAtOnceWhenTheStoreHangsAndTheStallIsAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := empty()
		j.hang = make(chan struct{})
		r := newRig(t, j, high())
		start := time.Now()
		r.read(30, point.Good)
		if len(r.out.steps) != 1 || !r.out.at[0].Equal(start) {
			t.Fatalf("outputs heard %d steps, want the alarm in the same instant", len(r.out.steps))
		}
		r.pass(1750 * time.Millisecond)
		r.wantStatus(Raised)
		r.pass(500 * time.Millisecond)
		r.wantStatus(Raised, Raised)
		if last := r.out.steps[len(r.out.steps)-1]; last.Alarm.Rule != stallRule || last.Kind != wire.KindAlarmRaised {
			t.Errorf("outputs heard %+v, want the stall", last)
		}
		if _, err := r.Acknowledge(r.List()[0].ID, "老王"); !errors.Is(err, ErrNotDurable) {
			t.Errorf("acknowledging with a hung store: %v", err)
		}
		j.mu.Lock()
		close(j.hang)
		j.hang = nil
		j.mu.Unlock()
		r.pass(time.Second)
		r.wantStatus(Acknowledged, Cleared)
		want := []string{wire.KindAlarmRaised, wire.KindAlarmRaised, wire.KindAlarmAcknowledged, wire.KindAlarmCleared}
		if got := j.kinds(t); !slices.Equal(got, want) {
			t.Errorf("records = %v, want %v: nothing lost, in order", got, want)
		}
	})
}

func TestAFailingStoreIsRetriedAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := empty()
		j.fail = errors.New("no space left on device")
		r := newRig(t, j, high())
		r.read(30, point.Good)
		r.pass(10 * time.Second)
		j.mu.Lock()
		j.fail = nil
		j.mu.Unlock()
		r.pass(3 * time.Second)
		if got := j.kinds(t); len(got) < 1 || got[0] != wire.KindAlarmRaised {
			t.Errorf("records after the store came back: %v", got)
		}
	})
}

func TestOpenAlarmsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := empty()
		before := newRig(t, j, high())
		before.read(30, point.Good)
		if _, err := before.Acknowledge(before.List()[0].ID, "老王"); err != nil {
			t.Fatal(err)
		}
		was := before.List()[0]

		after := newRig(t, j, high())
		after.wantStatus(Acknowledged)
		is := after.List()[0]
		if is.ID != was.ID || is.AckedBy != "老王" || is.Place != "3/2/501" || !is.Raised.Equal(was.Raised) {
			t.Errorf("after the restart %+v, before %+v", is, was)
		}
		after.read(30, point.Good)
		if len(after.out.steps) != 0 {
			t.Errorf("an alarm that was open was raised again: %+v", after.out.steps)
		}
		after.read(0, point.Good)
		after.wantStatus()
		synctest.Wait()

		after.read(30, point.Good) // open again, then its rule goes
		synctest.Wait()
		gone := newRig(t, j)
		gone.wantStatus(Cleared)
	})
}

func TestARuleThatBecameMoreUrgentIsRaisedAsSuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, def := empty(), high()
		def.Priority, def.Title = "P2", "旧"
		before := newRig(t, j, def)
		before.read(30, point.Good)
		synctest.Wait()
		after := newRig(t, j, high())
		if a := after.List()[0]; a.Priority != 1 || a.Title != "燃气浓度高" {
			t.Errorf("after the restart the open alarm is %+v", a)
		}
		after.read(0, point.Good)
		after.read(30, point.Good)
		if last := after.out.steps[len(after.out.steps)-1].Alarm; last.Priority != 1 || last.Occurrence != 2 {
			t.Errorf("raised again as %+v", last)
		}
	})
}

func TestStatesThatCannotBeReadAreAnAlarmAndHideNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := empty()
		before := newRig(t, j, high())
		before.read(30, point.Good)
		synctest.Wait()
		j.state[keyPrefix+"torn/det-1/gas"] = []byte("{")
		j.lost = errors.New("alarm/gone: damaged")
		after := newRig(t, j, high())
		after.wantStatus(Raised, Raised)
		if a := after.List()[1]; a.Rule != "alarms-unreadable" || a.Remark == "" {
			t.Errorf("the second alarm is %+v", a)
		}
		synctest.Wait()
		delete(j.state, keyPrefix+"torn/det-1/gas")
		j.lost = nil
		newRig(t, j, high()).wantStatus(Raised, Cleared)
	})
}

func TestABurstOnASlowStoreIsStoredTogetherAndIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := empty()
		j.slow = 100 * time.Millisecond
		r := newRig(t, j, high())
		for range 100 {
			r.read(30, point.Good)
			r.read(0, point.Good)
		}
		r.pass(StallAfter + time.Second)
		r.wantStatus(Cleared)
		if len(j.records) != 200 || j.commits > 3 {
			t.Errorf("%d records in %d transactions, want 200 in at most 3", len(j.records), j.commits)
		}
	})
}

// TestRandomOrdersKeepTheBooks drives the manager with random readings, ticks,
// acknowledgements and restarts, and holds it against a model: an alarm is
// open exactly while its condition holds or nobody has answered, and the
// records of every alarm read raise, clear, raise, … with one answer at most.
func TestRandomOrdersKeepTheBooks(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			j := empty()
			r := newRig(t, j, high())
			active, answered := false, true
			for range 200 {
				switch rng.IntN(6) {
				case 0, 1:
					v := rng.Float64() * 40
					r.read(v, point.Good)
					if v >= 25 && !active {
						active, answered = true, false
					} else if v < 20 {
						active = false
					}
				case 2:
					r.read(rng.Float64()*40, point.Quality(2+rng.IntN(3)))
				case 3:
					r.pass(time.Second)
				case 4:
					for _, a := range r.List() {
						if _, err := r.Acknowledge(a.ID, "x"); err != nil {
							t.Fatal(err)
						}
						answered = true
					}
				case 5:
					synctest.Wait()
					r = newRig(t, j, high())
				}
				if open := len(r.List()) == 1; open != (active || !answered) {
					t.Fatalf("seed %d: open %v, active %v, answered %v", seed, open, active, answered)
				}
			}
			synctest.Wait()
			checkBooks(t, j.records)
		})
	}
}

func checkBooks(t *testing.T, records []wire.Record) {
	t.Helper()
	type book struct{ active, answered bool }
	books := map[wire.EventID]*book{}
	for i, rec := range records {
		a, err := wire.DecodeAlarm(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		b := books[a.Alarm]
		if b == nil {
			b = &book{}
			books[a.Alarm] = b
		}
		ok := false
		switch rec.Kind {
		case wire.KindAlarmRaised:
			ok, b.active = !b.active, true
		case wire.KindAlarmCleared:
			ok, b.active = b.active, false
		case wire.KindAlarmAcknowledged:
			ok, b.answered = !b.answered, true
		}
		if !ok {
			t.Fatalf("record %d: %s does not follow for alarm %s", i, rec.Kind, a.Alarm)
		}
	}
}
