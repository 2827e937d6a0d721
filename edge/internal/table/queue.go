package table

import (
	"sync"
	"time"

	"gatehouse/protocol/point"
)

// queue holds readings on their way from the buses to the one goroutine that
// passes them on. All buses of a site may answer in the same moment, so what
// waits is packed: a third of a point.Reading.
type queue struct {
	mu      sync.Mutex // guards all below
	waiting []packed
	texts   []string // of those that have one, in their order
}

// packed is a reading whose point is known by its slot.
type packed struct {
	at      time.Duration // since the table's start
	num     float64
	slot    int32
	kind    point.Kind
	quality point.Quality
	event   bool
	text    bool // it has one
}

// add takes the readings of known points, but for those there is no room for.
// It returns how many were left out.
func (q *queue) add(batch []point.Reading, points *point.Index, start time.Time) (lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting)+len(batch) > maxWaiting {
		return len(batch)
	}
	next := int32(0)
	for i := range batch {
		r := &batch[i]
		slot, ok := find(points, r.Point, next)
		if !ok {
			lost++
			continue
		}
		next = slot + 1
		p := packed{
			at: r.At.Sub(start), num: r.Value.Num, slot: slot, kind: r.Value.Kind, quality: r.Quality,
			event: r.Kind == point.Event, text: r.Value.Text != "",
		}
		if p.text {
			q.texts = append(q.texts, r.Value.Text)
		}
		q.waiting = append(q.waiting, p)
	}
	return lost
}

// find finds a point, most likely at the guess: readings of a device arrive in
// the order of its points, and a look there costs a fraction of a search.
func find(points *point.Index, p point.ID, guess int32) (int32, bool) {
	if int(guess) < points.Len() && points.ID(guess) == p {
		return guess, true
	}
	return points.Slot(p)
}

// take swaps what waits for the emptied memory of the one who passes it on.
func (q *queue) take(w *workspace) {
	clear(w.texts) // else they would live until their place is used again
	q.mu.Lock()
	q.waiting, w.packed = w.packed[:0], q.waiting
	q.texts, w.texts = w.texts[:0], q.texts
	q.mu.Unlock()
	w.peak = max(w.peak, len(w.packed))
	w.done, w.told = 0, 0
}

// workspace is what is being passed on, some readings at a time.
type workspace struct {
	packed []packed
	texts  []string
	done   int // of packed
	told   int // of texts
	batch  []point.Reading
	slots  []int32
	peak   int // most that waited since trim
}

func (w *workspace) more() bool { return w.done < len(w.packed) }

// unpack fills batch and slots with the next readings.
func (w *workspace) unpack(points *point.Index, start time.Time) {
	w.batch, w.slots = w.batch[:0], w.slots[:0]
	end := min(w.done+atOnce, len(w.packed))
	for i := w.done; i < end; i++ {
		p := &w.packed[i]
		r := point.Reading{
			Point: points.ID(p.slot), At: start.Add(p.at), Value: point.Value{Kind: p.kind, Num: p.num}, Quality: p.quality,
		}
		if p.event {
			r.Kind = point.Event
		}
		if p.text {
			r.Value.Text = w.texts[w.told]
			w.told++
		}
		w.batch, w.slots = append(w.batch, r), append(w.slots, p.slot)
	}
	w.done = end
}

// trim gives memory back: the first wave of polls needs more than all later ones.
func (w *workspace) trim() {
	if cap(w.packed) > 4*max(w.peak, 64) {
		w.packed, w.texts = nil, nil
	}
	w.peak = 0
}
