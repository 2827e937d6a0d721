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
)

// kept is what a trace holds at this moment.
func kept(b *Bus) []Frame {
	b.trace.mu.Lock()
	defer b.trace.mu.Unlock()
	return b.trace.ring
}

func TestATraceRunsWhileSomebodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond})
		r.device(t, 1, time.Second)
		secret := &fakeDriver{number: 2, link: r.Link("secret", Timing{Reveal: 1})}
		secret.jobs = []drivers.Job{{Every: time.Second, TxBytes: 8, RxBytes: 8}}
		if err := r.Attach("secret", secret); err != nil {
			t.Fatal(err)
		}
		r.device(t, 3, time.Second)
		r.silent(3)
		r.run(t)
		defer r.stop()
		<-time.After(5 * time.Second)
		if len(kept(r.Bus)) > 0 {
			t.Fatal("frames were kept before anybody asked")
		}

		var last uint64
		seen := make(map[string]Frame)
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			frames, err := r.Trace(t.Context(), last)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				if f.Seq != last+1 {
					t.Fatalf("frame %d follows %d", f.Seq, last)
				}
				last = f.Seq
				dir := " rx"
				if f.Sent {
					dir = " tx"
				}
				seen[f.Device+dir] = f
			}
		}
		if f := seen["b rx"]; len(f.Bytes) != 2 || f.Hidden != 0 || f.Note != "" {
			t.Errorf("a reply: %+v", f)
		}
		if f := seen["secret rx"]; len(f.Bytes) != 1 || f.Hidden != 1 {
			t.Errorf("a reply that may not be seen: %+v", f)
		}
		if f := seen["d rx"]; len(f.Bytes) != 0 || !strings.Contains(f.Note, "no reply") {
			t.Errorf("silence: %+v", f)
		}

		for range traceFrames { // nobody asks, and it must not grow
			r.traced(r.devices[0], true, []byte{1})
		}
		if n := len(kept(r.Bus)); n > traceFrames {
			t.Errorf("%d frames are kept", n)
		}
		<-time.After(tracePause + 2*time.Second)
		if r.trace.on.Load() || kept(r.Bus) != nil {
			t.Error("the trace goes on though nobody looks")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := r.Trace(ctx, last+1e6); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a question for frames to come: %v", err)
		}
	})
}

// The late frame of a card reader comes while another device is asked.
func TestATraceShowsNoSecretUnderAnotherName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond})
		r.device(t, 2, time.Second)
		r.Link("reader", Timing{Reveal: 6})
		card := []byte("SSSSSS-CARD-NUMBER")
		r.line.reply = func([]byte) ([]byte, time.Duration) { return card, 10 * time.Millisecond }
		r.run(t)
		defer r.stop()
		received := 0
		for last, end := uint64(0), time.Now().Add(5*time.Second); time.Now().Before(end); {
			frames, err := r.Trace(t.Context(), last)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				last = f.Seq
				if f.Sent {
					continue
				}
				received += f.Hidden
				if len(f.Bytes) > 0 {
					t.Fatalf("under %s: %q", f.Device, f.Bytes)
				}
			}
		}
		if received < len(card) {
			t.Errorf("%d bytes counted", received)
		}
	})
}

// A device that talks unasked, on a line with a wrong baud: the trace shows what came.
func TestATraceOfASourceShowsWhatWasNoFrame(t *testing.T) {
	for _, reveal := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Options{Timeout: time.Second})
			line := &talkLine{said: make(chan []byte), stop: make(chan struct{})}
			r.Bus.line = line
			if err := r.Attach("d", &lister{link: r.Link("d", Timing{Reveal: reveal})}); err != nil {
				t.Fatal(err)
			}
			r.run(t)
			defer r.stop()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r.Trace(ctx, 0) // somebody looks
			line.said <- []byte("\xf7\x3e garbage")
			line.said <- []byte("no<half <whole>")
			line.said <- []byte("<dam!aged>")
			<-time.After(3 * time.Second)
			var text []byte
			frames, notes, hidden := 0, "", 0
			for _, f := range kept(r.Bus) {
				text = append(text, f.Bytes...)
				notes += f.Note + "|"
				hidden += f.Hidden
				if f.Note == "" {
					frames++
				}
			}
			if !strings.Contains(notes, drivers.ErrForeign.Error()) || !strings.Contains(notes, "no reply") || frames != 1 {
				t.Errorf("%d frames, notes %q", frames, notes)
			}
			if shown := bytes.Contains(text, []byte("garbage")); shown == (reveal > 0) || reveal > 0 && hidden < 20 {
				t.Errorf("reveal %d: %q, %d hidden", reveal, text, hidden)
			}
		})
	}
}
