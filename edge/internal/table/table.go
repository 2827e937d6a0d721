// Package table holds the latest reading of every point and passes readings
// on, in order, to those who follow them.
//
// It guarantees: Put never blocks and never loses an order within one bus; all
// followers are called from one goroutine, in the order they were given, so
// what they own needs no lock against each other; a level point that has been
// silent for longer than it may is passed on once as Stale with its last value,
// and one that has been warming up for too long is passed on as Stale;
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

// maxWarmUp is how long a device may answer that it is not ready. A module
// whose registers are all zero says so for ever; after this it is as good as silent.
const maxWarmUp = 10 * time.Minute

// Point is one point of the table.
type Point struct {
	ID point.ID
	// Limit is how long it may be silent.
	Limit time.Duration
}

// Follower is called with every batch of readings. slots[i] is the place of
// batch[i].Point in Options.Points: looked up once, for all followers. Both
// are valid during the call only.
type Follower func(batch []point.Reading, slots []int32)

// Options is what a Table needs.
type Options struct {
	// Points are best listed in the order in which they are read.
	Points []Point
	// Followers are called in this order.
	Followers []Follower
	// Ticks are called after the followers at every Pace.
	Ticks []func(now time.Time)
	// Now is the clock of Reading.At; it must be monotonic.
	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Table is the point table. Its methods may be called from any goroutine.
type Table struct {
	o     Options
	start time.Time
	index map[point.ID]int32
	wake  chan struct{}

	mu      sync.RWMutex // guards entries
	entries []entry      // slot by slot

	inMu    sync.Mutex // guards waiting
	waiting []point.Reading

	dropped prometheus.Counter
}

// entry is what is known of one point. There may be tens of thousands.
type entry struct {
	value   point.Value   // the latest
	at      time.Duration // of the latest reading, since the table's start
	ready   time.Duration // of the latest reading that was not Unknown
	good    *lastGood     // while the latest is not good; nil if there never was one
	quality point.Quality
}

type lastGood struct {
	value point.Value
	at    time.Duration
}

// Entry is what is known of one point.
type Entry struct {
	Latest   point.Reading
	LastGood point.Reading // zero if there never was one
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

// New returns a table in which every point is known and none has been heard of.
func New(o Options) (*Table, error) {
	if o.Now == nil || o.Log == nil {
		return nil, errors.New("table: Now and Log are required")
	}
	t := &Table{
		o: o, start: o.Now(), wake: make(chan struct{}, 1),
		index: make(map[point.ID]int32, len(o.Points)), entries: make([]entry, len(o.Points)),
	}
	for slot, p := range o.Points {
		t.index[p.ID] = int32(slot)
	}
	if len(t.index) != len(o.Points) {
		return nil, errors.New("table: a point is listed twice")
	}
	t.dropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_readings_dropped_total", Help: "Readings dropped because the rules did not keep up, or of points nobody configured."})
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
	var slots []int32
	peak := 0
	for n := 1; ; {
		select {
		case <-ctx.Done():
			t.pass(t.take(batch), slots)
			return nil
		case <-t.wake:
			batch = t.take(batch)
			peak = max(peak, len(batch))
			slots = t.pass(batch, slots)
		case <-ticker.C:
			now := t.o.Now()
			if n++; n%sweepEvery == 0 {
				t.follow(t.sweep(now))
				if cap(batch) > 4*max(peak, 64) {
					batch, slots = nil, nil // the first wave of polls needs more than all later ones
				}
				peak = 0
			}
			for _, tick := range t.o.Ticks {
				tick(now)
			}
		}
	}
}

// take swaps the waiting readings for the emptied batch before them.
func (t *Table) take(batch []point.Reading) []point.Reading {
	t.inMu.Lock()
	defer t.inMu.Unlock()
	taken := t.waiting
	t.waiting = batch[:0]
	return taken
}

// pass keeps the level readings and passes all on, but for those of points
// that are not in the table, and for warm-ups without an end, which are Stale.
// It returns slots for the next time.
func (t *Table) pass(batch []point.Reading, slots []int32) []int32 {
	slots = slots[:0]
	known := batch[:0]
	next := int32(0)
	t.mu.Lock()
	for i := range batch {
		slot, ok := t.slot(batch[i].Point, next)
		if !ok {
			continue
		}
		next = slot + 1
		t.keep(slot, &batch[i])
		known, slots = append(known, batch[i]), append(slots, slot)
	}
	t.mu.Unlock()
	if n := len(batch) - len(known); n > 0 {
		t.dropped.Add(float64(n))
	}
	t.follow(known, slots)
	return slots
}

// slot finds a point, most likely at the guess: readings of a device arrive in
// the order of its points, and a look there costs a tenth of one in the index.
func (t *Table) slot(p point.ID, guess int32) (int32, bool) {
	if int(guess) < len(t.o.Points) && t.o.Points[guess].ID == p {
		return guess, true
	}
	slot, ok := t.index[p]
	return slot, ok
}

func (t *Table) keep(slot int32, r *point.Reading) {
	if r.Kind == point.Event {
		return
	}
	e := &t.entries[slot]
	at := r.At.Sub(t.start)
	switch {
	case r.Quality == point.Good:
		e.good = nil
	case e.quality == point.Good:
		e.good = &lastGood{value: e.value, at: e.at}
	}
	if r.Quality != point.Unknown {
		e.ready = at
	} else if at-e.ready > maxWarmUp {
		r.Quality = point.Stale
	}
	e.value, e.at, e.quality = r.Value, at, r.Quality
}

func (t *Table) follow(batch []point.Reading, slots []int32) {
	if len(batch) == 0 {
		return
	}
	for _, f := range t.o.Followers {
		f(batch, slots)
	}
}

// sweep marks the points that have been silent for too long and returns them
// as readings that carry their last good value.
func (t *Table) sweep(now time.Time) (stale []point.Reading, slots []int32) {
	since := now.Sub(t.start)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.entries {
		e := &t.entries[i]
		if e.quality == point.Stale || since-e.at <= t.o.Points[i].Limit {
			continue
		}
		if e.quality == point.Good {
			e.good = &lastGood{value: e.value, at: e.at}
		}
		e.quality = point.Stale
		if e.good != nil {
			e.value = e.good.value
		}
		stale, slots = append(stale, t.latest(i)), append(slots, int32(i))
	}
	return stale, slots
}

// latest returns the latest reading of one slot; mu is held.
func (t *Table) latest(slot int) point.Reading {
	e := &t.entries[slot]
	return point.Reading{Point: t.o.Points[slot].ID, At: t.start.Add(e.at), Value: e.value, Quality: e.quality}
}

// Latest returns the latest reading of p; ok is false for a point unheard of.
func (t *Table) Latest(p point.ID) (r point.Reading, ok bool) {
	slot, ok := t.index[p]
	if !ok {
		return point.Reading{}, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.latest(int(slot)), true
}

// Snapshot returns every point's entry at one moment, slot by slot.
func (t *Table) Snapshot() []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]Entry, len(t.entries))
	for i := range t.entries {
		e := Entry{Latest: t.latest(i)}
		switch good := t.entries[i].good; {
		case e.Latest.Quality == point.Good:
			e.LastGood = e.Latest
		case good != nil:
			e.LastGood = point.Reading{Point: e.Latest.Point, At: t.start.Add(good.at), Value: good.value, Quality: point.Good}
		}
		all[i] = e
	}
	return all
}
