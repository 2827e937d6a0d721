package bus

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// full makes a line of 32 safety points, one poll in two seconds each, on which
// an exchange takes as long as it does at 9600 baud.
func full(t *testing.T) (*rig, []*fakeDriver) {
	t.Helper()
	r := newRig(t, Options{})
	devices := make([]*fakeDriver, 32)
	for i := range devices {
		devices[i] = r.device(t, byte(i), -2*time.Second)
	}
	r.living(func(byte) bool { return true })
	return r, devices
}

// living says which devices answer.
func (r *rig) living(lives func(number byte) bool) {
	r.line.mu.Lock()
	defer r.line.mu.Unlock()
	r.line.reply = func(tx []byte) ([]byte, time.Duration) {
		if !lives(tx[0]) {
			return nil, 0
		}
		return bytes.Clone(tx), 23 * time.Millisecond
	}
}

// longest is the longest time between two polls that were answered, from a
// moment on.
func longest(polls []time.Time, from, upTo time.Time) time.Duration {
	var most time.Duration
	last := from
	for _, at := range polls {
		if at.After(from) && at.Before(upTo) {
			most, last = max(most, at.Sub(last)), at
		}
	}
	return max(most, upTo.Sub(last))
}

func TestOneHungSlaveAmong32DelaysTheOthersByATimeoutAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, devices := full(t)
		r.run(t)
		<-time.After(10 * time.Second)
		r.living(func(number byte) bool { return number != 7 })
		from := time.Now()
		<-time.After(time.Minute)
		r.stop()
		bound := 2*time.Second + r.opts.Timeout + 50*time.Millisecond
		for i, d := range devices {
			if most := longest(d.asked, from, time.Now()); i != 7 && most > bound {
				t.Errorf("device %d was not read for %v, want at most %v", i, most, bound)
			}
		}
		if len(devices[7].probes) < 10 {
			t.Errorf("the hung one was probed %d times in a minute", len(devices[7].probes))
		}
	})
}

// Where the one that lives stands among those that died cannot be known without
// asking: each dead one costs a short try before it, once. From then on it keeps
// its period.
func Test31DeadOf32CostTheLivingOneATimeoutAtMost(t *testing.T) {
	for _, alive := range []byte{0, 16, 31} {
		synctest.Test(t, func(t *testing.T) {
			r, devices := full(t)
			r.run(t)
			<-time.After(10 * time.Second)
			r.living(func(number byte) bool { return number == alive })
			from := time.Now()
			<-time.After(2 * time.Minute)
			end := time.Now()
			r.living(func(byte) bool { return true })
			<-time.After(10 * time.Second)
			r.stop()
			asked, timeout := devices[alive].asked, r.opts.Timeout
			once := 2*time.Second + timeout + 31*100*time.Millisecond
			if most := longest(asked, from, end); most > once {
				t.Errorf("device %d, when the others died, was not read for %v, want at most %v", alive, most, once)
			}
			steady := 2*time.Second + timeout + 50*time.Millisecond
			if most := longest(asked, from.Add(once), end); most > steady {
				t.Errorf("device %d was not read for %v, want at most %v", alive, most, steady)
			}
			for i, d := range devices {
				if most := longest(d.asked, end.Add(5*time.Second), time.Now()); most > 2100*time.Millisecond {
					t.Errorf("device %d is back and was not read for %v", i, most)
				}
			}
		})
	}
}
