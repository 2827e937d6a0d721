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
	"fmt"
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

// atOnce is how many readings the followers are given in one call at the most.
const atOnce = 256

// maxWarmUp is how long a device may answer that it is not ready. A module
// whose registers are all zero says so for ever; after this it is as good as silent.
const maxWarmUp = 10 * time.Minute

// Follower is called with every batch of readings. slots[i] is the slot of
// batch[i].Point: looked up once, for all followers. Both are valid during the
// call only.
type Follower func(batch []point.Reading, slots []int32)

// Options is what a Table needs.
type Options struct {
	// Points are best numbered in the order in which they are read.
	Points *point.Index
	// Limits is how long each may be silent, slot by slot.
	Limits []time.Duration
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
//
// There may be tens of thousands of points on a box with little memory. So what
// every point needs is a few bytes without a pointer, and what few need (a text,
// what was before a fault) stands apart.
type Table struct {
	o      Options
	start  time.Time
	limits []time.Duration // that differ; entries name them
	wake   chan struct{}

	mu      sync.RWMutex // guards the three below
	entries []entry      // slot by slot
	texts   map[int32]string
	bad     map[int32]before // of the points whose latest reading is not good

	queue   queue
	dropped prometheus.Counter
}

// entry is what is known of one point.
type entry struct {
	num     float64       // of the latest value
	at      time.Duration // of the latest reading, since the table's start
	limit   uint32        // index into Table.limits
	kind    point.Kind
	quality point.Quality
}

// before is what was before a point went bad.
type before struct {
	value point.Value // the last good one
	at    time.Duration
	known bool          // there was a good one
	ready time.Duration // of the latest reading that was not Unknown
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
	if o.Points == nil || o.Now == nil || o.Log == nil {
		return nil, errors.New("table: Points, Now and Log are required")
	}
	if len(o.Limits) != o.Points.Len() {
		return nil, fmt.Errorf("table: %d points, but %d limits", o.Points.Len(), len(o.Limits))
	}
	t := &Table{
		o: o, start: o.Now(), wake: make(chan struct{}, 1),
		entries: make([]entry, len(o.Limits)), texts: make(map[int32]string), bad: make(map[int32]before),
	}
	known := make(map[time.Duration]uint32)
	for slot, limit := range o.Limits {
		n, ok := known[limit]
		if !ok {
			n = uint32(len(t.limits))
			known[limit], t.limits = n, append(t.limits, limit)
		}
		t.entries[slot].limit = n
	}
	t.o.Limits = nil // the caller's need not stay in memory
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
	if lost := t.queue.add(batch, t.o.Points, t.start); lost > 0 {
		t.dropped.Add(float64(lost))
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run passes readings on until ctx ends, then those still waiting.
func (t *Table) Run(ctx context.Context) error {
	ticker := time.NewTicker(Pace)
	defer ticker.Stop()
	var work workspace
	for n := 1; ; {
		select {
		case <-ctx.Done():
			t.drain(&work)
			return nil
		case <-t.wake:
			t.drain(&work)
		case <-ticker.C:
			now := t.o.Now()
			if n++; n%sweepEvery == 0 {
				t.follow(t.sweep(now))
				work.trim()
			}
			for _, tick := range t.o.Ticks {
				tick(now)
			}
		}
	}
}

// drain passes on what waits.
func (t *Table) drain(w *workspace) {
	for t.queue.take(w); w.more(); {
		w.unpack(t.o.Points, t.start)
		t.keepAll(w.batch, w.slots)
		t.follow(w.batch, w.slots)
	}
}

// keepAll keeps the level readings. A warm-up without an end becomes Stale.
func (t *Table) keepAll(batch []point.Reading, slots []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range batch {
		if batch[i].Kind == point.Level {
			t.keep(slots[i], &batch[i])
		}
	}
}

func (t *Table) keep(slot int32, r *point.Reading) {
	e := &t.entries[slot]
	at := r.At.Sub(t.start)
	if r.Quality != point.Good {
		b := t.before(slot)
		if r.Quality != point.Unknown {
			b.ready = at
		} else if at-b.ready > maxWarmUp {
			r.Quality = point.Stale
		}
		t.bad[slot] = b
	} else if e.quality != point.Good {
		delete(t.bad, slot)
	}
	t.set(slot, r.Value)
	e.at, e.quality = at, r.Quality
}

// before returns what was before slot went bad, be it now; mu is held.
func (t *Table) before(slot int32) before {
	if e := &t.entries[slot]; e.quality == point.Good {
		return before{value: t.value(slot), at: e.at, known: true, ready: e.at}
	}
	return t.bad[slot]
}

// value and set are the latest value of a slot; mu is held.
func (t *Table) value(slot int32) point.Value {
	e := &t.entries[slot]
	v := point.Value{Kind: e.kind, Num: e.num}
	if v.Kind == point.State || v.Kind == point.Text {
		v.Text = t.texts[slot]
	}
	return v
}

func (t *Table) set(slot int32, v point.Value) {
	e := &t.entries[slot]
	e.kind, e.num = v.Kind, v.Num
	if (v.Kind == point.State || v.Kind == point.Text) && t.texts[slot] != v.Text {
		t.texts[slot] = v.Text
	}
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
		e, slot := &t.entries[i], int32(i)
		if e.quality == point.Stale || since-e.at <= t.limits[e.limit] {
			continue
		}
		b := t.before(slot)
		t.bad[slot] = b
		e.quality = point.Stale
		if b.known {
			t.set(slot, b.value)
		}
		stale, slots = append(stale, t.latest(slot)), append(slots, slot)
	}
	return stale, slots
}

// latest returns the latest reading of one slot; mu is held.
func (t *Table) latest(slot int32) point.Reading {
	e := &t.entries[slot]
	return point.Reading{Point: t.o.Points.ID(slot), At: t.start.Add(e.at), Value: t.value(slot), Quality: e.quality}
}

// Latest returns the latest reading of p; ok is false for a point unheard of.
func (t *Table) Latest(p point.ID) (r point.Reading, ok bool) {
	slot, ok := t.o.Points.Slot(p)
	if !ok {
		return point.Reading{}, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.latest(slot), true
}

// Snapshot returns every point's entry at one moment, slot by slot.
func (t *Table) Snapshot() []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]Entry, len(t.entries))
	for i := range all {
		e := Entry{Latest: t.latest(int32(i))}
		switch good := t.bad[int32(i)]; {
		case e.Latest.Quality == point.Good:
			e.LastGood = e.Latest
		case good.known:
			e.LastGood = point.Reading{Point: e.Latest.Point, At: t.start.Add(good.at), Value: good.value, Quality: point.Good}
		}
		all[i] = e
	}
	return all
}
