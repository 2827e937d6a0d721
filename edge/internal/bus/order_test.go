package bus

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/drivers"
)

// commanded is a fakeDriver that can be ordered to do things.
type commanded struct {
	*fakeDriver
	done []string
}

func (c *commanded) Commands() []string { return []string{"close", "open"} }

func (c *commanded) Command(ctx context.Context, name string) error {
	c.done = append(c.done, name)
	return c.ask(ctx, 0xCC)
}

func TestACommandGoesAheadOfPollsAndIsNeverRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond, Retries: 3})
		d := &commanded{fakeDriver: &fakeDriver{number: 1, link: r.Link("b", Timing{})}}
		d.jobs = []drivers.Job{{Every: time.Second, TxBytes: 8, RxBytes: 8}}
		if err := r.Attach("b", d); err != nil {
			t.Fatal(err)
		}
		r.device(t, 2, time.Second)
		r.run(t)
		defer r.stop()
		if names := r.Commands("b"); !slices.Equal(names, []string{"close", "open"}) {
			t.Errorf("commands %v", names)
		}
		if names := r.Commands("c"); names != nil {
			t.Errorf("commands %v of a device that has none", names)
		}
		begun := time.Now()
		if err := r.Command(t.Context(), "b", "close"); err != nil || time.Since(begun) > 200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		r.silent(1)
		if err := r.Command(t.Context(), "b", "open"); !errors.Is(err, drivers.ErrNoReply) {
			t.Errorf("no answer: %v", err)
		}
		if !slices.Equal(d.done, []string{"close", "open"}) {
			t.Errorf("done %v, want each once", d.done)
		}
		if err := r.Command(t.Context(), "c", "open"); !errors.Is(err, ErrNoCommand) {
			t.Errorf("a device without commands: %v", err)
		}
	})
}

func TestASleepingDeviceIsWokenBeforeEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond})
		d := &fakeDriver{number: 1, link: r.Link("b", Timing{Wake: []byte{0x8F}, WakePause: 30 * time.Millisecond})}
		d.jobs = []drivers.Job{{Every: time.Second, TxBytes: 8, RxBytes: 8}}
		if err := r.Attach("b", d); err != nil {
			t.Fatal(err)
		}
		other := r.device(t, 2, time.Second)
		var woken time.Time
		asleep := 0
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			switch {
			case bytes.Equal(tx, []byte{0x8F}):
				woken = time.Now()
				return []byte{0xFF}, time.Millisecond // what it says as it wakes is no reply
			case tx[0] == 1 && time.Since(woken) < 30*time.Millisecond, tx[0] == 1 && time.Since(woken) > 500*time.Millisecond:
				asleep++
				return nil, 0
			}
			return bytes.Clone(tx), 2 * time.Millisecond
		}
		r.run(t)
		<-time.After(5 * time.Second)
		r.stop()
		if asleep > 0 || len(d.asked) < 5 || len(other.asked) < 5 || len(d.probes) > 0 {
			t.Errorf("asked %d times, %d times while it slept; the other %d times", len(d.asked), asleep, len(other.asked))
		}
	})
}

// modeLine notes how characters looked when a request was sent.
type modeLine struct {
	*fakeLine
	mode     Mode
	switches int
	wrong    int
}

func (l *modeLine) configure(m Mode) error { l.mode, l.switches = m, l.switches+1; return nil }
func (l *modeLine) send(tx []byte) error {
	if want := map[byte]int{1: 9600, 2: 2400}[tx[0]]; l.mode.Baud != want {
		l.wrong++
	}
	return l.fakeLine.send(tx)
}

func TestEachDeviceIsSpokenToInItsOwnMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond})
		line := &modeLine{fakeLine: r.line, mode: r.link.Mode}
		r.Bus.line = line
		r.device(t, 1, time.Second)
		slow := &fakeDriver{number: 2, link: r.Link("slow", Timing{Mode: Mode{Baud: 2400, Parity: ParityEven, StopBits: 1}})}
		slow.jobs = []drivers.Job{{Every: time.Second, TxBytes: 8, RxBytes: 8}}
		if err := r.Attach("slow", slow); err != nil {
			t.Fatal(err)
		}
		r.run(t)
		<-time.After(10 * time.Second)
		r.stop()
		if line.wrong > 0 || len(slow.asked) < 9 {
			t.Errorf("%d requests in another's mode; the slow device was asked %d times", line.wrong, len(slow.asked))
		}
		if line.switches > 2*len(slow.asked) {
			t.Errorf("%d switches for %d polls: only a change needs one", line.switches, len(slow.asked))
		}
		if dev := r.devices[1]; dev.timing.Gap < 15*time.Millisecond || dev.timing.Timeout < time.Second {
			t.Errorf("a device at 2400 baud has %v of silence and %v for its reply", dev.timing.Gap, dev.timing.Timeout)
		}
	})
}
