package bus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// talkLine is a line on which bytes come unasked; an empty piece ends it.
type talkLine struct {
	said  chan []byte
	stop  chan struct{}
	isUp  bool
	opens atomic.Int32
	left  []byte
}

func (l *talkLine) open(context.Context) error { l.isUp = true; l.opens.Add(1); return nil }
func (l *talkLine) isOpen() bool               { return l.isUp }
func (l *talkLine) configure(Mode) error       { return nil }
func (l *talkLine) rest(time.Duration)         {}
func (l *talkLine) send([]byte) error          { return errTest }
func (l *talkLine) discard() (int, error)      { return 0, errTest }
func (l *talkLine) shut()                      { l.isUp = false }
func (l *talkLine) interrupt()                 { close(l.stop) }

func (l *talkLine) receive(buf []byte, until time.Time) (int, error) {
	if len(l.left) == 0 {
		timer := time.NewTimer(min(time.Until(until), patience))
		defer timer.Stop()
		select {
		case <-timer.C:
			return 0, nil
		case <-l.stop:
			return 0, context.Canceled
		case l.left = <-l.said:
			if len(l.left) == 0 {
				return 0, io.EOF
			}
		}
	}
	n := copy(buf, l.left)
	l.left = l.left[n:]
	return n, nil
}

// lister is a source of frames "<letters>".
type lister struct {
	link    drivers.Link
	silence atomic.Int32
}

func (d *lister) Jobs() []drivers.Job         { return nil }
func (d *lister) Close() error                { return nil }
func (d *lister) Probe(context.Context) error { return errTest }
func (d *lister) Do(context.Context, int, func(point.Reading)) error {
	return errTest
}

func (d *lister) Run(ctx context.Context, emit func(point.Reading)) error {
	for {
		frame, err := d.link.Exchange(ctx, nil, func(rx []byte) (int, error) {
			if len(rx) > 0 && rx[0] != '<' {
				return 0, drivers.ErrForeign
			}
			if end := bytes.IndexByte(rx, '>'); end >= 0 {
				if bytes.IndexByte(rx[:end], '!') >= 0 {
					return 0, drivers.ErrDamaged
				}
				return end + 1 - len(rx), nil
			}
			return 1, nil
		})
		switch {
		case errors.Is(err, drivers.ErrNoReply):
			d.silence.Add(1)
		case err != nil:
			return err
		default:
			emit(point.Reading{Point: "d/text", At: time.Now(), Quality: point.Good, Kind: point.Event,
				Value: point.Value{Kind: point.Text, Text: string(frame)}})
		}
	}
}

func TestADeviceThatTalksUnaskedIsHeardFrameByFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var heard []string
		b, err := New(Options{ID: "b", Link: "serial:/dev/fake", Timeout: time.Second, Log: slog.New(slog.DiscardHandler),
			Emit: func(batch []point.Reading) {
				mu.Lock()
				defer mu.Unlock()
				for _, r := range batch {
					heard = append(heard, r.Value.Text)
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		line := &talkLine{said: make(chan []byte), stop: make(chan struct{})}
		b.line = line
		d := &lister{link: b.Link("d", Timing{})}
		if err := b.Attach("d", d); err != nil {
			t.Fatal(err)
		}
		b.Link("e", Timing{})
		if err := b.Attach("e", &fakeDriver{}); err == nil || !strings.Contains(err.Error(), "a bus of its own") {
			t.Errorf("a second device beside a source: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		say := func(s string, want ...string) {
			t.Helper()
			line.said <- []byte(s)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(heard, want) {
				t.Errorf("after %q: heard %q, want %q", s, heard, want)
			}
			heard = nil
		}
		say("<one>", "<one>")
		say("noise<two><three><fo", "<two>", "<three>")
		say("ur>", "<four>")
		say("<dam!aged><five>", "<five>")
		say("<" + strings.Repeat("x", 3*rxSize)) // a frame without an end takes no more room than there is
		say("><six>", "<six>")
		say("<half")
		<-time.After(3 * time.Second) // the rest never comes
		if d.silence.Load() == 0 {
			t.Error("the source never heard that nothing is said")
		}
		say("<seven>", "<seven>")
		if err := b.Write(t.Context(), "d/text", point.Truth(true)); !errors.Is(err, drivers.ErrNotWritable) {
			t.Errorf("an order to a device that only talks: %v", err)
		}
		before := line.opens.Load()
		say("") // the other end is gone
		<-time.After(10 * time.Second)
		say("<eight>", "<eight>")
		if line.opens.Load() <= before {
			t.Error("the line was not opened again")
		}
		cancel()
		wg.Wait()
	})
}
