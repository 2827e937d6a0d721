package bus

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

func TestPeriodsLieOnACommonGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		<-time.After(137 * time.Millisecond) // not on the grid
		r := newRig(t, Options{})
		r.device(t, 1, time.Second, 5*time.Second)
		r.run(t)
		<-time.After(10 * time.Second)
		r.stop()
		if n := len(r.seen["b/0"]); n != 11 {
			t.Errorf("%d readings in 10 s at 1 s, want the one at start and 10", n)
		}
		for _, at := range r.seen["b/0"][1:] {
			if off := at.UnixNano() % int64(time.Second); off > int64(20*time.Millisecond) {
				t.Errorf("a reading %v off the second", time.Duration(off))
			}
		}
		if n := len(r.seen["b/1"]); n != 3 {
			t.Errorf("%d readings in 10 s at 5 s, want 3", n)
		}
	})
}

func TestSlotsThatWereMissedAreNotMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 5 * time.Second})
		slow := true
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			if slow {
				slow = false
				return bytes.Clone(tx), 4500 * time.Millisecond
			}
			return bytes.Clone(tx), 2 * time.Millisecond
		}
		d := r.device(t, 1, time.Second)
		r.run(t)
		<-time.After(6500 * time.Millisecond)
		r.stop()
		if n := len(d.asked); n != 3 { // at 0 (until 4.5), 5 and 6
			t.Errorf("asked %d times, want 3: %v", n, d.asked)
		}
	})
}

func TestLifeSafetyGoesFirstWhenTheLineIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		r.line.reply = func(tx []byte) ([]byte, time.Duration) { return bytes.Clone(tx), 300 * time.Millisecond }
		for n := range byte(6) {
			r.device(t, n, time.Second)
		}
		r.device(t, 9, -time.Second)
		r.run(t)
		<-time.After(20 * time.Second)
		r.stop()
		if n := len(r.seen["j/0"]); n < 19 {
			t.Errorf("%d life-safety readings in 20 s, want one a second", n)
		}
		total := 0
		for n := range byte(6) {
			got := len(r.seen[point.MakeID(string(rune('a'+n)), "0")])
			if got == 0 {
				t.Errorf("device %d was never read", n)
			}
			total += got
		}
		if total < 30 {
			t.Errorf("%d other readings; the rest of the line was not used", total)
		}
	})
}

// Pain 2: one dead slave starves the bus.
func TestADeadDeviceDelaysTheOthersByNoMoreThanATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 500 * time.Millisecond
		r := newRig(t, Options{Timeout: timeout, Retries: 1})
		dead := r.device(t, 1, time.Second)
		r.device(t, 2, -time.Second)
		r.device(t, 3, time.Second)
		r.silent(1)
		r.run(t)
		<-time.After(60 * time.Second)
		r.stop()
		for _, p := range []point.ID{"c/0", "d/0"} {
			if n := len(r.seen[p]); n < 60 {
				t.Errorf("%s: %d readings in 60 s", p, n)
			}
			for i := 1; i < len(r.seen[p]); i++ {
				if gap := r.seen[p][i].Sub(r.seen[p][i-1]); gap > time.Second+timeout+50*time.Millisecond {
					t.Errorf("%s: %v between readings", p, gap)
				}
			}
		}
		if n := len(dead.asked); n != 2 {
			t.Errorf("the dead device was polled %d times before it was demoted, want 2", n)
		}
		for i := 1; i < len(dead.probes); i++ {
			if gap := dead.probes[i].Sub(dead.probes[i-1]); gap < 4*timeout {
				t.Errorf("%v between probes, want at least %v", gap, 4*timeout)
			}
		}
		if n := len(dead.probes); n < 20 {
			t.Errorf("%d probes in a minute", n)
		}
		if n := strings.Count(r.log.String(), "does not answer"); n != 1 {
			t.Errorf("%d log lines about it, want one:\n%s", n, r.log)
		}
	})
}

func TestTenDeadDevicesShareTheOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 200 * time.Millisecond})
		var dead []*fakeDriver
		var mute []byte
		for n := range byte(10) {
			dead = append(dead, r.device(t, n, time.Second))
			mute = append(mute, n)
		}
		r.device(t, 20, -time.Second)
		r.silent(mute...)
		r.run(t)
		<-time.After(60 * time.Second)
		synctest.Wait()
		halt := time.Now()
		// The power is back: the first answer hurries the others along.
		r.silent()
		<-time.After(3 * time.Second)
		r.stop()
		probes := 0
		for n, d := range dead {
			own := 0
			for _, at := range d.probes {
				if at.Before(halt) {
					own++
				}
			}
			probes += own
			if own < 4 || own > 7 {
				t.Errorf("device %d was probed %d times, want its turn of about 56", n, own)
			}
		}
		if probes > 60 {
			t.Errorf("%d probes in 60 s, want one a second", probes)
		}
		if n := len(r.seen["u/0"]); n < 56 {
			t.Errorf("the living device was read %d times in 60 s", n)
		}
		for n, d := range dead {
			if len(r.seen[point.MakeID(string(rune('a'+n)), "0")]) == 0 {
				t.Errorf("device %d was not read again (%d probes)", n, len(d.probes))
			}
		}
	})
}

func TestNoProbeWhileALifeSafetyJobIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: time.Second})
		dead := r.device(t, 1, time.Second)
		// Life safety alone needs more than the line has.
		for n := range byte(4) {
			r.device(t, 10+n, -time.Second)
		}
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			if tx[0] == 1 {
				return nil, 0
			}
			return bytes.Clone(tx), 360 * time.Millisecond
		}
		r.run(t)
		<-time.After(30 * time.Second)
		r.stop()
		if n := len(dead.asked) + len(dead.probes); n > 0 {
			t.Errorf("%d requests to another device on a line that life safety fills", n)
		}
		if n := len(r.seen["k/0"]); n < 15 {
			t.Errorf("a life-safety device was read %d times in 30 s", n)
		}
	})
}

func TestAJobThatFailsAloneDoesNotCostItsDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond, Retries: 1})
		r.device(t, 1, time.Second, time.Second)
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			if tx[1] == 0 {
				return nil, 0 // the first job is never answered
			}
			return bytes.Clone(tx), 2 * time.Millisecond
		}
		r.run(t)
		<-time.After(60 * time.Second)
		r.stop()
		if n := len(r.seen["b/1"]); n < 50 {
			t.Errorf("the job that works was read %d times in 60 s", n)
		}
	})
}

func TestARefusalIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		d := r.device(t, 1, time.Second)
		d.refuse = true
		r.run(t)
		<-time.After(10*time.Second + 500*time.Millisecond)
		r.stop()
		if len(d.asked) != 11 || len(d.probes) > 0 {
			t.Errorf("%d polls, %d probes; want 11 and none", len(d.asked), len(d.probes))
		}
		if n := strings.Count(r.log.String(), "refuses"); n != 1 {
			t.Errorf("%d log lines, want one:\n%s", n, r.log)
		}
	})
}

// Pain 3, in time: a device that always answers too late is never asked while
// an old answer may still come.
func TestALateDeviceIsLeftAloneUntilItsAnswerCannotBeMistaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 200 * time.Millisecond
		r := newRig(t, Options{Timeout: timeout, Retries: 3})
		d := r.device(t, 1, time.Second, time.Second)
		r.line.reply = func(tx []byte) ([]byte, time.Duration) { return bytes.Clone(tx), timeout + 50*time.Millisecond }
		r.run(t)
		<-time.After(time.Second)
		r.stop()
		for i := 1; i < len(d.asked); i++ {
			if gap := d.asked[i].Sub(d.asked[i-1]); gap < 2*timeout {
				t.Errorf("asked again after %v, want %v", gap, 2*timeout)
			}
		}
		if len(d.asked) < 2 || len(r.seen) > 0 {
			t.Errorf("asked %d times, read %v", len(d.asked), r.seen)
		}
	})
}

func TestAWriteGoesAheadOfEveryPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		r.line.reply = func(tx []byte) ([]byte, time.Duration) { return bytes.Clone(tx), 400 * time.Millisecond }
		for n := range byte(5) {
			r.device(t, n, -time.Second) // more than fits
		}
		r.run(t)
		<-time.After(2100 * time.Millisecond)
		start := time.Now()
		if err := r.Write(t.Context(), "c/0", point.Truth(true)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 900*time.Millisecond {
			t.Errorf("the write took %v, want no more than the poll in flight and itself", took)
		}
		r.stop()
		if err := r.Write(t.Context(), "c/0", point.Truth(true)); !errors.Is(err, drivers.ErrLinkDown) {
			t.Errorf("write after the end: %v, want ErrLinkDown", err)
		}
	})
}

func TestWritesThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 200 * time.Millisecond})
		d := r.device(t, 1, time.Minute)
		r.silent(1)
		r.run(t)
		if err := r.Write(t.Context(), "nobody/0", point.Truth(true)); !errors.Is(err, drivers.ErrNotWritable) {
			t.Errorf("an unknown device: %v, want ErrNotWritable", err)
		}
		if err := r.Write(t.Context(), "b/0", point.Truth(true)); !errors.Is(err, drivers.ErrNoReply) {
			t.Errorf("a silent device: %v, want ErrNoReply", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := r.Write(ctx, "b/0", point.Truth(true)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller in a hurry: %v, want its own deadline", err)
		}
		if took := time.Since(start); took > 60*time.Millisecond {
			t.Errorf("it waited %v", took)
		}
		r.stop()
		if len(d.wrote) == 0 || !d.closed {
			t.Errorf("wrote %v, closed %v", d.wrote, d.closed)
		}
	})
}

func TestALinkThatDoesNotOpenIsTriedForEverInOneLogLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		r.device(t, 1, time.Second)
		r.line.openErr = errTest
		r.run(t)
		<-time.After(10 * time.Minute)
		synctest.Wait()
		r.line.mu.Lock()
		n := r.line.opens
		r.line.openErr = nil
		r.line.mu.Unlock()
		if n < 120 || n > 260 {
			t.Errorf("%d attempts in 10 min, want one each 2.5 to 5 s", n)
		}
		if n := strings.Count(r.log.String(), "\n"); n != 1 || !strings.Contains(r.log.String(), "hint=") {
			t.Errorf("%d log lines, want one with a hint:\n%s", n, r.log)
		}
		<-time.After(10 * time.Second)
		r.stop()
		if len(r.seen["b/0"]) < 4 {
			t.Errorf("read %d times after the link was back", len(r.seen["b/0"]))
		}
		if !strings.Contains(r.log.String(), "link is back") {
			t.Errorf("nobody says that it is back:\n%s", r.log)
		}
	})
}

func TestAConnectionClosedWhileIdleCostsNoPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		d := r.device(t, 1, 30*time.Second)
		r.run(t)
		for range 4 {
			<-time.After(20 * time.Second)
			r.line.mu.Lock()
			r.line.gone = true
			r.line.mu.Unlock()
			<-time.After(10*time.Second + 100*time.Millisecond)
		}
		r.stop()
		if n := len(r.seen["b/0"]); n != 5 || len(d.asked) != n {
			t.Errorf("%d readings of %d polls in 2 min, want 5 of 5", n, len(d.asked))
		}
		if r.line.opens != 5 {
			t.Errorf("opened %d times, want 5", r.line.opens)
		}
	})
}

func TestALinkThatComesBackFindsNoDeviceDemoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 200 * time.Millisecond})
		r.device(t, 1, time.Second)
		d := r.device(t, 2, time.Second)
		r.silent(1, 2)
		r.run(t)
		<-time.After(5 * time.Second)
		r.line.mu.Lock()
		r.line.gone, r.line.openErr = true, errTest
		r.line.mu.Unlock()
		<-time.After(20 * time.Second)
		r.line.mu.Lock()
		r.line.openErr = nil
		r.line.mu.Unlock()
		r.silent(1)
		<-time.After(8 * time.Second)
		r.stop()
		if n := len(r.seen["c/0"]); n < 2 {
			t.Errorf("%d readings after the link was back (%d polls, %d probes)", n, len(d.asked), len(d.probes))
		}
	})
}

func TestTheHeartBeatsAtLeastEveryTwoSeconds(t *testing.T) {
	cases := map[string]func(t *testing.T, r *rig){
		"idle":      func(t *testing.T, r *rig) { r.device(t, 1, time.Hour) },
		"dead link": func(t *testing.T, r *rig) { r.device(t, 1, time.Second); r.line.openErr = errTest },
		"dead device": func(t *testing.T, r *rig) {
			r.device(t, 1, time.Second)
			r.silent(1)
		},
		"slow device": func(t *testing.T, r *rig) {
			r.opts.Timeout = 30 * time.Second
			r.device(t, 1, time.Second)
			r.silent(1)
		},
		"no device": func(*testing.T, *rig) {},
	}
	for name, prepare := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{})
				prepare(t, r)
				last := time.Now()
				r.run(t)
				<-time.After(2 * time.Minute)
				r.stop()
				for _, at := range r.beats {
					if gap := at.Sub(last); gap > 2*time.Second {
						t.Errorf("%v without a beat", gap)
					}
					last = at
				}
				if len(r.beats) < 60 {
					t.Errorf("%d beats in 2 min", len(r.beats))
				}
			})
		})
	}
}

func TestTheEndComesAtOnceInTheMiddleOfAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 3 * time.Second})
		d := r.device(t, 1, time.Second)
		r.silent(1)
		r.run(t)
		<-time.After(time.Second)
		start := time.Now()
		r.stop()
		if took := time.Since(start); took > 10*time.Millisecond {
			t.Errorf("stopping took %v", took)
		}
		if !d.closed {
			t.Error("the driver was not closed")
		}
	})
}
