package table

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gatehouse/protocol/point"
)

const (
	gas  point.ID = "det-1/gas"
	card point.ID = "reader/card"
)

// running starts a table that notes all it passes on; both stop with the test.
func running(t *testing.T, follow func([]point.Reading)) *Table {
	t.Helper()
	points, err := point.NewIndex([]point.ID{"other/gas", gas, card})
	if err != nil {
		t.Fatal(err)
	}
	tab, err := New(Options{
		Points: points, Limits: []time.Duration{time.Hour, SilenceLimit(time.Second, true), time.Hour},
		Followers: []Follower{func(batch []point.Reading, slots []int32) {
			for i, r := range batch {
				if want := map[point.ID]int32{gas: 1, card: 2}[r.Point]; slots[i] != want {
					t.Errorf("%s has slot %d, want %d", r.Point, slots[i], want)
				}
			}
			follow(batch)
		}},
		Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = tab.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return tab
}

func at(v float64, q point.Quality) point.Reading {
	return point.Reading{Point: gas, At: time.Now(), Value: point.Float(v), Quality: q}
}

func TestReadingsArriveInOrderAndLatestIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []float64
		tab := running(t, func(rs []point.Reading) {
			for _, r := range rs {
				seen = append(seen, r.Value.Num)
			}
		})
		for i := range 100 {
			tab.Put([]point.Reading{at(float64(i), point.Good)})
		}
		synctest.Wait()
		if len(seen) != 100 || !slices.IsSorted(seen) {
			t.Errorf("passed on %d readings, sorted %v", len(seen), slices.IsSorted(seen))
		}
		if r, ok := tab.Latest(gas); !ok || r.Value.Num != 99 {
			t.Errorf("latest = %+v, %v", r, ok)
		}
	})
}

func TestSilentPointBecomesStaleOnceWithItsLastGoodValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passed []point.Reading
		tab := running(t, func(rs []point.Reading) { passed = append(passed, rs...) })
		tab.Put([]point.Reading{at(12, point.Good)})
		synctest.Wait()
		tab.Put([]point.Reading{at(77, point.Implausible)})
		<-time.After(30 * time.Second)
		synctest.Wait()
		if n := len(passed); n != 3 {
			t.Fatalf("%d readings passed on, want good, implausible and one stale", n)
		}
		if last := passed[2]; last.Quality != point.Stale || last.Value.Num != 12 {
			t.Errorf("stale reading = %+v, want the last good value 12", last)
		}
		if e := tab.Snapshot()[1]; e.Latest.Quality != point.Stale || e.LastGood.Value.Num != 12 {
			t.Errorf("entry = %+v", e)
		}
	})
}

func TestAWarmUpWithoutEndIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last point.Reading
		tab := running(t, func(rs []point.Reading) { last = rs[len(rs)-1] })
		for range int(maxWarmUp/time.Second) - 1 {
			tab.Put([]point.Reading{at(0, point.Unknown)})
			<-time.After(time.Second)
		}
		if last.Quality != point.Unknown {
			t.Fatalf("quality %v within the time a warm-up may take", last.Quality)
		}
		for range 3 {
			tab.Put([]point.Reading{at(0, point.Unknown)})
			<-time.After(time.Second)
		}
		if last.Quality != point.Stale {
			t.Errorf("quality %v after %v of warming up, want stale", last.Quality, maxWarmUp)
		}
		tab.Put([]point.Reading{at(3, point.Good)})
		synctest.Wait()
		if last.Quality != point.Good {
			t.Errorf("quality %v after it got ready", last.Quality)
		}
	})
}

func TestPointNeverHeardOfBecomesStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passed []point.Reading
		running(t, func(rs []point.Reading) { passed = append(passed, rs...) })
		<-time.After(5 * time.Second)
		synctest.Wait()
		if len(passed) != 1 || passed[0].Quality != point.Stale || passed[0].Value.Kind != point.None {
			t.Errorf("passed on %+v, want one stale reading without a value", passed)
		}
	})
}

func TestEventsPassThroughAndAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		tab := running(t, func(rs []point.Reading) { n += len(rs) })
		event := point.Reading{Point: card, At: time.Now(), Kind: point.Event, Quality: point.Good}
		tab.Put([]point.Reading{event})
		tab.Put([]point.Reading{event})
		synctest.Wait()
		if n != 2 {
			t.Errorf("%d events passed on, want both", n)
		}
		if r, _ := tab.Latest(card); r.Quality != point.Unknown {
			t.Errorf("an event was kept as a level: %+v", r)
		}
	})
}

func TestReadingsOfUnknownPointsAreDroppedByCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		tab := running(t, func(rs []point.Reading) { n += len(rs) })
		tab.Put([]point.Reading{at(1, point.Good), {Point: "no/body", At: time.Now()}, at(2, point.Good)})
		synctest.Wait()
		if n != 2 || testutil.ToFloat64(tab.dropped) != 1 {
			t.Errorf("%d passed on, %v dropped, want 2 and 1", n, testutil.ToFloat64(tab.dropped))
		}
	})
}

func TestHungFollowerDropsByCountAndNeverBlocksPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		tab := running(t, func([]point.Reading) { <-release })
		batch := make([]point.Reading, 1000)
		for i := range batch {
			batch[i] = at(1, point.Good)
		}
		for range 100 {
			tab.Put(batch)
			synctest.Wait()
		}
		if got := testutil.ToFloat64(tab.dropped); got < 30_000 {
			t.Errorf("dropped %v of 100,000 readings behind a hung follower, want what is over the bound", got)
		}
		close(release)
	})
}

// Readings are packed while they wait; what comes out is what went in.
func TestTextsStayWithTheirReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passed []point.Reading
		tab := running(t, func(rs []point.Reading) { passed = append(passed, rs...) })
		var put []point.Reading
		for i := range 3*atOnce + 5 {
			r := at(float64(i), point.Good)
			switch i % 3 {
			case 1:
				r.Value = point.Value{Kind: point.State, Num: float64(i), Text: fmt.Sprintf("state-%d", i%7)}
			case 2:
				r.Point, r.Kind, r.Value = card, point.Event, point.Value{Kind: point.Text, Text: fmt.Sprintf("card-%d", i)}
			}
			put = append(put, r)
		}
		tab.Put(put)
		synctest.Wait()
		if len(passed) != len(put) {
			t.Fatalf("%d readings came out, want %d", len(passed), len(put))
		}
		for i, want := range put {
			if got := passed[i]; !got.At.Equal(want.At) || got.Point != want.Point || got.Value != want.Value || got.Quality != want.Quality || got.Kind != want.Kind {
				t.Fatalf("reading %d: got %+v, want %+v", i, got, want)
			}
		}
		tab.Put([]point.Reading{{Point: gas, At: time.Now(), Value: point.Value{Kind: point.State, Num: 1, Text: "alarm"}, Quality: point.Good}})
		synctest.Wait()
		tab.Put([]point.Reading{{Point: gas, At: time.Now(), Value: point.Value{Kind: point.State, Num: 9, Text: "lost"}, Quality: point.Fault}})
		synctest.Wait()
		if e := tab.Snapshot()[1]; e.Latest.Value.Text != "lost" || e.LastGood.Value != (point.Value{Kind: point.State, Num: 1, Text: "alarm"}) {
			t.Errorf("after a fault: %+v", e)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if r, _ := tab.Latest(gas); r.Quality != point.Stale || r.Value.Text != "alarm" {
			t.Errorf("after a silence: %+v", r)
		}
	})
}

func TestPuttingAndPassingOnDoesNotAllocate(t *testing.T) {
	points, err := point.NewIndex([]point.ID{gas, card})
	if err != nil {
		t.Fatal(err)
	}
	tab, err := New(Options{Points: points, Limits: make([]time.Duration, 2), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	batch := []point.Reading{at(1, point.Good), at(2, point.Fault), {Point: gas, At: time.Now(), Value: point.Value{Kind: point.State, Text: "x"}, Quality: point.Good}}
	var work workspace
	round := func() {
		tab.Put(batch)
		tab.drain(&work)
	}
	for range 3 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSilenceLimit(t *testing.T) {
	for _, c := range []struct {
		every  time.Duration
		safety bool
		want   time.Duration
	}{
		{100 * time.Millisecond, true, 3 * time.Second},
		{time.Second, true, 3 * time.Second},
		{20 * time.Second, true, 30 * time.Second},
		{time.Minute, true, 62 * time.Second},
		{time.Minute, false, 3 * time.Minute},
	} {
		if got := SilenceLimit(c.every, c.safety); got != c.want {
			t.Errorf("SilenceLimit(%v, %v) = %v, want %v", c.every, c.safety, got, c.want)
		}
	}
}
