package eventlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"gatehouse/protocol/wire"
)

func TestManyGatewaysAtOnceEachStayInOrder(t *testing.T) {
	l := openLog(t)
	const gateways, batches, size = 24, 6, 3
	var wg sync.WaitGroup
	for g := range gateways {
		o := Origin{Gateway: fmt.Sprintf("gw-%d", g), Division: origin.Division}
		wg.Go(func() {
			for n := range uint64(batches) {
				upTo, err := l.Append(t.Context(), o, batch(t, "e1", n*size+1, (n+1)*size))
				if err != nil || upTo != (n+1)*size {
					t.Errorf("%s: complete up to %d, %v", o.Gateway, upTo, err)
					return
				}
			}
		})
	}
	wg.Wait()
	entries, _ := readAll(t, l, Filter{}, Cursor{}, 50)
	by := map[string][]uint64{}
	for _, e := range entries {
		by[e.Gateway] = append(by[e.Gateway], e.Record.Seq)
	}
	for g := range gateways {
		id := fmt.Sprintf("gw-%d", g)
		if !slices.Equal(by[id], upTo(batches*size)) {
			t.Errorf("%s: %v", id, by[id])
		}
		l.lanes[wire.LaneAlarm].forget(id) // what is remembered must be what is stored
	}
	for g := range gateways {
		m, err := l.lanes[wire.LaneAlarm].marker(t.Context(), fmt.Sprintf("gw-%d", g))
		if err != nil || m.Last != batches*size || m.Epoch != "e1" {
			t.Errorf("gw-%d: marker %+v, %v", g, m, err)
		}
	}
}

func TestOnePartCannotSpoilTheGroup(t *testing.T) {
	l := openLog(t)
	ln := l.lanes[wire.LaneAlarm]
	makePart := func(gateway string, expect uint64) *part {
		o := Origin{Gateway: gateway, Division: origin.Division}
		b := batch(t, "e1", 1, 2)
		messages, err := l.cut(o, b, b.Records)
		if err != nil {
			t.Fatal(err)
		}
		return &part{origin: o, messages: messages, expect: expect, next: marker{Epoch: "e1", Last: 2}, done: make(chan outcome, 1)}
	}
	group := []*part{makePart("gw-1", 0), makePart("gw-2", 77), makePart("gw-3", 0)}
	l.store(ln, group)
	for i, p := range group {
		got := <-p.done
		if i == 1 {
			if !errors.Is(got.err, errRaced) {
				t.Errorf("%s: %+v", p.origin.Gateway, got)
			}
			continue
		}
		m, err := ln.marker(t.Context(), p.origin.Gateway)
		if err != nil || got.err != nil || m.at != got.at || m.Last != 2 {
			t.Errorf("%s: told %+v, stored %+v, %v", p.origin.Gateway, got, m, err)
		}
	}
}

// badPart does not belong into the event lane: its atomic batch is incomplete.
func badPart() *part {
	return &part{
		origin: origin, next: marker{Epoch: "e1"}, done: make(chan outcome, 1),
		messages: []message{{subject: "ev.alarm.53.01.02.001.003.gw-1.x"}},
	}
}

func TestTroubleIsToldUntilItWorksAgain(t *testing.T) {
	l := openLog(t)
	ln := l.lanes[wire.LaneEvent]
	if err := l.Err(); err != nil {
		t.Fatalf("a fresh log is in trouble: %v", err)
	}
	bad := badPart()
	l.store(ln, []*part{bad})
	if got := <-bad.done; got.err == nil || !errors.Is(l.Err(), ErrStore) {
		t.Fatalf("%+v, trouble %v", got, l.Err())
	}
	b := batch(t, "e1", 1, 1)
	b.Lane = wire.LaneEvent
	appended(t, l, origin, b)
	if err := l.Err(); err != nil {
		t.Fatalf("after a success: %v", err)
	}
}

func TestStuckCountsAttemptsNotSilence(t *testing.T) {
	l := openLog(t)
	ln := l.lanes[wire.LaneMedia]
	start := time.Now().Add(-time.Hour)
	broken, full := fmt.Errorf("%w: write error", ErrStore), fmt.Errorf("%w: %w", ErrStore, ErrFull)
	for _, step := range []struct {
		name  string
		after time.Duration
		err   error
		want  time.Duration
	}{
		{"one failure, and an hour of silence", 0, broken, 0},
		{"and another", 40 * time.Second, broken, 40 * time.Second},
		{"full", 50 * time.Second, full, 0},
		{"a lost race", time.Minute, errRaced, 0},
		{"a failure after it worked", 2 * time.Minute, broken, 0},
	} {
		ln.note(step.err, start.Add(step.after))
		if got := l.Stuck(); got != step.want {
			t.Errorf("%s: stuck for %s, want %s", step.name, got, step.want)
		}
	}
}

func TestRecordThatCannotBeStoredHarmsNobodyElse(t *testing.T) {
	l := openLog(t)
	noise := make([]byte, 900<<10)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	// Far repeats: a wide window makes a payload of it, the log's own does not.
	var body []byte
	for range 4 {
		body = append(append(body, noise...), make([]byte, 1<<20)...)
	}
	b := wire.Batch{Version: wire.Version, Gateway: origin.Gateway, Epoch: "e1", Lane: wire.LaneAlarm, Records: []wire.Record{
		{ID: wire.NewEventID(), Lane: wire.LaneAlarm, Seq: 1, Kind: "x", Time: time.Now(), Body: body},
	}}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			o := Origin{Gateway: fmt.Sprintf("gw-ok-%d", g), Division: origin.Division}
			for seq := range uint64(4) {
				if _, err := l.Append(t.Context(), o, batch(t, "e1", seq+1, seq+1)); err != nil {
					t.Errorf("%s: %v", o.Gateway, err)
				}
			}
		})
	}
	if _, err := l.Append(t.Context(), origin, b); !errors.Is(err, ErrTooBig) || errors.Is(err, ErrStore) {
		t.Errorf("error %v", err)
	}
	wg.Wait()
	if err := l.Err(); err != nil {
		t.Errorf("the log is in trouble: %v", err)
	}
}

func TestAnyFailureOfAGroupIsItsOwn(t *testing.T) {
	l := openLog(t)
	ln := l.lanes[wire.LaneEvent]
	huge := badPart()
	huge.messages[0] = message{subject: "ev.event.53.01.02.001.003.gw-1.x", data: make([]byte, 2<<20)} // over what a connection carries
	good := &part{origin: Origin{Gateway: "gw-2", Division: origin.Division}, next: marker{Epoch: "e1", Last: 1}, done: make(chan outcome, 1)}
	good.messages = []message{{subject: "ev.event.53.01.02.001.003.gw-2.x", data: []byte("x"), last: 1}}
	l.store(ln, []*part{good, huge})
	if got := <-good.done; got.err != nil {
		t.Errorf("the good part: %v", got.err)
	}
	if got := <-huge.done; !errors.Is(got.err, nats.ErrMaxPayload) {
		t.Errorf("the huge part: %v", got.err)
	}
	for range 60 { // more than may be open at once
		l.store(ln, []*part{huge})
		<-huge.done
	}
	b := batch(t, "e1", 1, 1)
	b.Lane = wire.LaneEvent
	appended(t, l, origin, b)
}

func TestStoredIsAnnouncedThoughNobodyWaits(t *testing.T) {
	l := openLog(t)
	ln := l.lanes[wire.LaneAlarm]
	news, stop := l.Watch(Filter{})
	defer stop()
	b := batch(t, "e1", 1, 1)
	messages, err := l.cut(origin, b, b.Records)
	if err != nil {
		t.Fatal(err)
	}
	l.store(ln, []*part{{origin: origin, messages: messages, next: marker{Epoch: "e1", Last: 1}, done: make(chan outcome, 1)}})
	select {
	case <-news:
	default:
		t.Fatal("stored and not announced")
	}
}
