package eventlog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

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
		return &part{gateway: gateway, messages: messages, expect: expect, next: marker{Epoch: "e1", Last: 2}, done: make(chan outcome, 1)}
	}
	group := []*part{makePart("gw-1", 0), makePart("gw-2", 77), makePart("gw-3", 0)}
	l.store(ln, group)
	for i, p := range group {
		got := <-p.done
		if i == 1 {
			if !errors.Is(got.err, errRaced) {
				t.Errorf("%s: %+v", p.gateway, got)
			}
			continue
		}
		m, err := ln.marker(t.Context(), p.gateway)
		if err != nil || got.err != nil || m.at != got.at || m.Last != 2 {
			t.Errorf("%s: told %+v, stored %+v, %v", p.gateway, got, m, err)
		}
	}
}

func TestFailingIsToldUntilItWorksAgain(t *testing.T) {
	l := openLog(t)
	ln := l.lanes[wire.LaneEvent]
	if l.Failing() != 0 {
		t.Fatal("a fresh log is failing")
	}
	// A message that belongs to another stream leaves this one's batch incomplete.
	bad := &part{gateway: "gw-1", next: marker{Epoch: "e1"}, done: make(chan outcome, 1)}
	bad.messages = []message{{subject: "ev.alarm.53.01.02.001.003.gw-1.x"}} // another lane's
	l.store(ln, []*part{bad})
	if got := <-bad.done; got.err == nil || l.Failing() == 0 {
		t.Fatalf("%+v, failing %s", got, l.Failing())
	}
	b := batch(t, "e1", 1, 1)
	b.Lane = wire.LaneEvent
	appended(t, l, origin, b)
	if l.Failing() != 0 {
		t.Fatal("still failing after a success")
	}
}
