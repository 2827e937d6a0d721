// Package table holds the latest reading of every point and passes readings
// on, in order, to those who follow them.
//
// It guarantees: Put never blocks and never loses an order within one bus; all
// followers are called from one goroutine, in the order they were given, so
// what they own needs no lock against each other; a level point that has been
// silent for longer than it may is passed on once as Stale with its last value;
// an event is passed on and never kept; the last good reading outlives every
// bad one. If the followers hang, readings are dropped by count and not
// buffered without bound.
package table

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/protocol/point"
)

// Pace is how often the followers are told that time has passed; every
// sweepEvery-th time the points are looked over for silence.
const (
	Pace       = 250 * time.Millisecond
	sweepEvery = 4
)

// maxWaiting bounds the readings that wait for the followers.
const maxWaiting = 1 << 16

// Options is what a Table needs.
type Options struct {
	// Limits says for each level point how long it may be silent.
	Limits map[point.ID]time.Duration
	// Followers are called with every batch of readings, in this order. A
	// batch is valid during the call only.
	Followers []func([]point.Reading)
	// Ticks are called after the followers at every Pace.
	Ticks []func(now time.Time)
	// Now is the clock of Reading.At; it must be monotonic.
	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Table is the point table. Its methods may be called from any goroutine.
type Table struct {
	o    Options
	wake chan struct{}

	mu      sync.RWMutex // guards entries
	entries map[point.ID]*entry

	inMu    sync.Mutex // guards waiting
	waiting []point.Reading

	dropped prometheus.Counter
}

type entry struct {
	latest point.Reading
	good   point.Reading // last good; zero if there never was one
	heard  time.Time     // when anything was last read
	limit  time.Duration
}

// Entry is what is known of one point.
type Entry struct {
	Latest   point.Reading
	LastGood point.Reading
}

// SilenceLimit is how long a point polled every period may be silent: three
// polls and not less than 3 s; a safety point not more than 30 s, unless a
// single period is longer.
func SilenceLimit(every time.Duration, safety bool) time.Duration {
	limit := max(3*every, 3*time.Second)
	if safety {
		limit = max(min(limit, 30*time.Second), every+2*time.Second)
	}
	return limit
}

// New returns a table in which every point of o.Limits is known and has not
// been heard of.
func New(o Options) (*Table, error) {
	if o.Now == nil || o.Log == nil {
		return nil, errors.New("table: Now and Log are required")
	}
	t := &Table{o: o, wake: make(chan struct{}, 1), entries: make(map[point.ID]*entry, len(o.Limits))}
	now := o.Now()
	for id, limit := range o.Limits {
		t.entries[id] = &entry{latest: point.Reading{Point: id, At: now}, heard: now, limit: limit}
	}
	t.dropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_readings_dropped_total", Help: "Readings dropped because the rules did not keep up."})
	if o.Registerer != nil {
		if err := o.Registerer.Register(t.dropped); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Put hands over a batch of readings. It copies them and returns at once.
func (t *Table) Put(batch []point.Reading) {
	t.inMu.Lock()
	if len(t.waiting)+len(batch) > maxWaiting {
		t.inMu.Unlock()
		t.dropped.Add(float64(len(batch)))
		return
	}
	t.waiting = append(t.waiting, batch...)
	t.inMu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run passes readings on until ctx ends, then those still waiting.
func (t *Table) Run(ctx context.Context) error {
	ticker := time.NewTicker(Pace)
	defer ticker.Stop()
	var batch []point.Reading
	for n := 1; ; {
		select {
		case <-ctx.Done():
			t.pass(t.take(batch))
			return nil
		case <-t.wake:
			batch = t.take(batch)
			t.pass(batch)
		case <-ticker.C:
			now := t.o.Now()
			if n++; n%sweepEvery == 0 {
				t.follow(t.sweep(now))
			}
			for _, tick := range t.o.Ticks {
				tick(now)
			}
		}
	}
}

// take swaps the waiting readings for the emptied batch before them.
func (t *Table) take(batch []point.Reading) []point.Reading {
	clear(batch)
	t.inMu.Lock()
	defer t.inMu.Unlock()
	taken := t.waiting
	t.waiting = batch[:0]
	return taken
}

// pass keeps the level readings and passes all on.
func (t *Table) pass(batch []point.Reading) {
	t.mu.Lock()
	for i := range batch {
		t.keep(&batch[i])
	}
	t.mu.Unlock()
	t.follow(batch)
}

func (t *Table) keep(r *point.Reading) {
	if r.Kind == point.Event {
		return
	}
	e := t.entries[r.Point]
	if e == nil {
		e = &entry{limit: SilenceLimit(0, false)}
		t.entries[r.Point] = e
	}
	e.heard = r.At
	e.latest = *r
	if r.Quality == point.Good {
		e.good = *r
	}
}

func (t *Table) follow(batch []point.Reading) {
	if len(batch) == 0 {
		return
	}
	for _, f := range t.o.Followers {
		f(batch)
	}
}

// sweep marks the points that have been silent for too long and returns them
// as readings that carry their last value.
func (t *Table) sweep(now time.Time) (stale []point.Reading) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if e.latest.Quality == point.Stale || now.Sub(e.heard) <= e.limit {
			continue
		}
		e.latest.Quality = point.Stale
		if e.good.Quality == point.Good {
			e.latest.Value = e.good.Value
		}
		stale = append(stale, e.latest)
	}
	return stale
}

// Latest returns the latest reading of p; ok is false for a point unheard of.
func (t *Table) Latest(p point.ID) (r point.Reading, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.entries[p]
	if e == nil {
		return point.Reading{}, false
	}
	return e.latest, true
}

// Snapshot returns every point's entry at one moment.
func (t *Table) Snapshot() map[point.ID]Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make(map[point.ID]Entry, len(t.entries))
	for id, e := range t.entries {
		all[id] = Entry{Latest: e.latest, LastGood: e.good}
	}
	return all
}
