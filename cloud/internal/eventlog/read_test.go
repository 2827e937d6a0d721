package eventlog

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"gatehouse/protocol/wire"
)

// of returns b as another gateway's.
func of(gateway string, b wire.Batch) (Origin, wire.Batch) {
	b.Gateway = gateway
	return Origin{Gateway: gateway, Division: origin.Division}, b
}

func TestReaderOfSeveralKindsMissesNothingOfWhatIsBeingAppended(t *testing.T) {
	l := openLog(t)
	const gateways, each = 6, 60
	var wg sync.WaitGroup
	for g := range gateways {
		wg.Go(func() {
			for seq := uint64(1); seq <= each; seq++ {
				o, b := of(fmt.Sprintf("gw-%d", g), batch(t, "e1", seq, seq))
				if _, err := l.Append(t.Context(), o, b); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	got := map[string]int{}
	var cur Cursor
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		var page []Entry
		page, cur = readAll(t, l, Filter{Kinds: []string{"alarm"}}, cur, 100)
		for _, e := range page {
			got[fmt.Sprintf("%s %d", e.Gateway, e.Record.Seq)]++
		}
	}
	lost, twice := 0, 0
	for g := range gateways {
		for seq := 1; seq <= each; seq++ {
			switch n := got[fmt.Sprintf("gw-%d %d", g, seq)]; {
			case n == 0:
				lost++
			case n > 1:
				twice++
			}
		}
	}
	if lost+twice > 0 {
		t.Fatalf("%d lost, %d twice, of %d", lost, twice, gateways*each)
	}
}

// age lets the alarm lane lose all its records but no marker.
func age(t *testing.T, l *Log, markers uint64) {
	t.Helper()
	js, err := jetstream.New(l.nc)
	if err != nil {
		t.Fatal(err)
	}
	ln := l.lanes[wire.LaneAlarm]
	cfg := ln.stream.CachedInfo().Config
	kept := cfg
	cfg.MaxAge, cfg.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	deadline, tick := time.NewTimer(10*time.Second), time.NewTicker(20*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		info, err := ln.stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs == markers {
			break
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%d messages left, want %d markers", info.State.Msgs, markers)
		}
	}
	if _, err := js.UpdateStream(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
}

func TestSilentGatewayDoesNotHideWhatRetentionTook(t *testing.T) {
	l := openLog(t)
	o, b := of("gw-silent", batch(t, "e1", 1, 1))
	appended(t, l, o, b)
	for seq := range uint64(6) {
		appended(t, l, origin, batch(t, "e1", seq+1, seq+1))
	}
	f := Filter{Kinds: []string{"alarm"}}
	page, cur, err := l.Read(t.Context(), f, Cursor{}, 2)
	if err != nil || len(page) != 2 {
		t.Fatalf("%d entries, %v", len(page), err)
	}
	age(t, l, 2)
	appended(t, l, origin, batch(t, "e1", 7, 7))
	entries, _ := readAll(t, l, f, cur, 10)
	if len(entries) != 2 || entries[0].Record.Kind != wire.KindGap || entries[0].Gateway != "" || entries[1].Record.Seq != 7 {
		t.Fatalf("records 2 to 6 are gone and the reader hears of %+v", entries)
	}
}

func TestReaderWhoHadAllThatAgedHearsOfNoGap(t *testing.T) {
	l := openLog(t)
	appended(t, l, origin, batch(t, "e1", 1, 1))
	appended(t, l, origin, batch(t, "e1", 2, 2))
	page, cur, err := l.Read(t.Context(), Filter{}, Cursor{}, 1) // ends between record 1 and its marker
	if err != nil || len(page) != 1 {
		t.Fatalf("%d entries, %v", len(page), err)
	}
	purgeBefore(t, l, 2)
	entries, _ := readAll(t, l, Filter{}, cur, 10)
	if len(entries) != 1 || entries[0].Record.Seq != 2 {
		t.Fatalf("got %+v, want record 2 alone", entries)
	}
}

// patience ends a context after so many looks at its channel.
type patience struct {
	context.Context
	mu    sync.Mutex
	looks int
	over  chan struct{}
}

func (p *patience) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.looks--; p.looks == 0 {
		close(p.over)
	}
	return p.over
}

func (p *patience) Err() error {
	select {
	case <-p.over:
		return context.DeadlineExceeded
	default:
		return p.Context.Err()
	}
}

func TestRareFilterGetsOnWhenItsTimeEnds(t *testing.T) {
	l := openLog(t)
	const n = 3 * fetchMessages
	b := batch(t, "e1", 1, n)
	for i := range b.Records {
		b.Records[i] = alarmRecord(t, uint64(i+1), b.Records[i].Kind, i == n-1)
	}
	appended(t, l, origin, b)
	f := Filter{Drill: DrillOnly}
	stopped := 0
	for looks := 1; ; looks++ {
		ctx := &patience{Context: t.Context(), looks: looks, over: make(chan struct{})}
		page, cur, err := l.Read(ctx, f, Cursor{}, 1)
		if err != nil {
			continue // over before anything was searched
		}
		if len(page) == 1 {
			break
		}
		stopped++
		if rest, _ := readAll(t, l, f, cur, 1); len(rest) != 1 || rest[0].Record.Seq != n {
			t.Fatalf("stopped after %d looks and went on to find %v", looks, seqs(rest))
		}
	}
	if stopped == 0 {
		t.Fatal("no search ended on its way")
	}
}
