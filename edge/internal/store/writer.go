package store

import (
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"gatehouse/protocol/wire"
)

const (
	maxGroup = 256       // commits that share one transaction
	maxKey   = 4 << 10   // bytes of a state key
	maxState = 256 << 10 // bytes of a state
)

// Change is one step of CommitAll: a state to store under Key, or to delete
// when State is nil, and records to add to their lanes (alarm or event). An
// empty Key adds records alone. It is an alias so that a consumer can declare
// the same without importing this package.
type Change = struct {
	Key     string
	State   []byte
	Records []wire.Record
}

// commit is one caller's share of a transaction.
type commit struct {
	changes []Change
	done    chan error
}

// Commit stores state under key, deletes the key when state is nil, and adds
// recs to their lanes (alarm or event), all in one transaction that is on disk
// when Commit returns nil. An empty key stores records alone. Concurrent
// callers share a transaction.
func (s *Store) Commit(key string, state []byte, recs ...wire.Record) error {
	c := Change{Key: key, State: state, Records: recs}
	if err := checkChange(&c); err != nil {
		return err
	}
	return s.submit([]Change{c})
}

// CommitAll is Commit of many changes, in their order and in one transaction:
// all are on disk when it returns nil, none when it returns an error. If one is
// invalid the error names its index and nothing is stored. It reads changes
// until it returns.
func (s *Store) CommitAll(changes []Change) error {
	for i := range changes {
		if err := checkChange(&changes[i]); err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return s.submit(changes)
}

func checkChange(c *Change) error {
	if len(c.Key) > maxKey || len(c.State) > maxState || c.Key == "" && c.State != nil {
		return fmt.Errorf("%w: state of %d bytes under a key of %d", ErrInvalid, len(c.State), len(c.Key))
	}
	for i := range c.Records {
		if err := check(&c.Records[i]); err != nil {
			return err
		}
		if l := c.Records[i].Lane; l != wire.LaneAlarm && l != wire.LaneEvent {
			return fmt.Errorf("%w: %v records go through Append", ErrInvalid, l)
		}
	}
	return nil
}

// submit hands changes to the writer and waits for it.
func (s *Store) submit(changes []Change) error {
	c := &commit{changes: changes, done: make(chan error, 1)}
	select {
	case s.commits <- c:
		return <-c.done
	case <-s.closing:
		return ErrClosed
	}
}

// alarmWriter owns every transaction on alarm.db.
type alarmWriter struct {
	*Store
	group []*commit
	arena []byte // values of the transaction that is being built
}

// writeAlarms is the only writer of alarm.db. Each round takes all commits that
// wait and gives them one transaction.
func (s *Store) writeAlarms(every time.Duration) {
	w := &alarmWriter{Store: s}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case c := <-s.commits:
			w.gather(c)
			err := w.write()
			for _, c := range w.group {
				c.done <- err
			}
			clear(w.group)
		case now := <-tick.C:
			w.tend(s.alarm, now.Sub(last))
			last = now
		case <-s.closing:
			w.tend(s.alarm, 0)
			return
		}
	}
}

func (w *alarmWriter) gather(first *commit) {
	w.group = append(w.group[:0], first)
	for len(w.group) < maxGroup {
		select {
		case c := <-w.commits:
			w.group = append(w.group, c)
		default:
			return
		}
	}
}

func (w *alarmWriter) write() error {
	err := w.tryWrite()
	if w.memory && errors.Is(err, ErrFull) { // no disk: the newest alarm counts more than the oldest
		w.makeRoom(w.alarm, memoryAlarms/8)
		err = w.tryWrite()
	}
	return err
}

func (w *alarmWriter) tryWrite() error {
	if cap(w.arena) > spoolChunk {
		w.arena = nil // one large record is no reason to hold so much for ever
	}
	w.arena = w.arena[:0]
	heads := w.alarm.heads()
	err := w.timed(w.alarm, func(tx *bolt.Tx) error {
		for _, c := range w.group {
			for i := range c.changes {
				if err := w.putChange(tx, &c.changes[i], &heads); err != nil {
					return err
				}
			}
		}
		return w.alarm.setHeads(tx, heads)
	})
	if err == nil {
		w.alarm.advance(heads)
	}
	return err
}

func (w *alarmWriter) putChange(tx *bolt.Tx, c *Change, h *heads) error {
	if err := w.putState(tx, c); err != nil {
		return err
	}
	for i := range c.Records {
		id := c.Records[i].Lane
		h[id]++
		if err := w.putRecord(tx, w.lanes[id], h[id], &c.Records[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *alarmWriter) putState(tx *bolt.Tx, c *Change) error {
	if c.Key == "" {
		return nil
	}
	key, b := []byte(c.Key), tx.Bucket(bucketState)
	if c.State == nil {
		return b.Delete(key)
	}
	return b.Put(key, seal(append([]byte{version}, c.State...), 0, key))
}

// putRecord encodes into the arena: bbolt keeps the slice until the commit.
func (w *alarmWriter) putRecord(tx *bolt.Tx, l *lane, seq uint64, r *wire.Record) error {
	key, n := seqKey(seq), len(w.arena)
	w.arena = seal(appendRecord(w.arena, w.alarm.epoch, r), n, key)
	return l.put(tx, seq, key, w.arena[n:len(w.arena):len(w.arena)])
}

// timed runs one transaction and counts it.
func (s *Store) timed(f *file, fn func(*bolt.Tx) error) error {
	start := time.Now()
	err := f.update(fn)
	s.metrics.commitSeconds.WithLabelValues(f.name).Observe(time.Since(start).Seconds())
	if err != nil {
		s.metrics.failures.WithLabelValues(f.name).Inc()
		return err
	}
	s.metrics.commits.WithLabelValues(f.name).Inc()
	return nil
}

// tend does what can wait: it stores the acked positions and deletes what is
// past its window. Without work it does not touch the disk.
func (s *Store) tend(f *file, passed time.Duration) {
	due := false
	for _, l := range f.lanes {
		l.age(passed)
		due = due || l.due()
	}
	if !due {
		return
	}
	err := s.timed(f, func(tx *bolt.Tx) error { return f.housekeep(tx) })
	f.settle(err)
	if failing := err != nil; failing != f.failing {
		f.failing = failing
		if failing {
			s.log.Warn("acked positions are not stored: records may be sent twice after a restart", "file", f.name, "err", err)
		}
	}
}

// heads is a sequence number per lane.
type heads [wire.LaneMedia + 1]uint64

func (f *file) heads() (h heads) {
	for _, l := range f.lanes {
		_, h[l.id] = l.Position()
	}
	return h
}

// setHeads stores the last sequence numbers beside the records, so that they
// survive when the last record is damaged.
func (f *file) setHeads(tx *bolt.Tx, h heads) error {
	for _, l := range f.lanes {
		if b := tx.Bucket(laneBucket(l.id)); b.Sequence() != h[l.id] {
			if err := b.SetSequence(h[l.id]); err != nil {
				return err
			}
		}
	}
	return nil
}

// advance makes what was committed visible.
func (f *file) advance(h heads) {
	for _, l := range f.lanes {
		l.advance(h[l.id])
	}
}

// housekeep is the part of a transaction that tend and the spool share.
func (f *file) housekeep(tx *bolt.Tx) error {
	for _, l := range f.lanes {
		if err := l.savePosition(tx); err != nil {
			return err
		}
		if err := l.prune(tx); err != nil {
			return err
		}
	}
	return nil
}

// settle tells the lanes how the transaction with their positions ended.
func (f *file) settle(err error) {
	for _, l := range f.lanes {
		l.saved(err == nil)
	}
}

// makeRoom drops about want bytes of the oldest records, in the order
// of f.lanes, and reports whether it found any.
func (s *Store) makeRoom(f *file, want int64) bool {
	for _, l := range f.lanes {
		var freed int64
		var lost loss
		err := s.timed(f, func(tx *bolt.Tx) (err error) {
			freed, lost, err = l.drop(tx, want, gapQuota)
			return err
		})
		if err != nil {
			s.log.Error("no room could be made", "file", f.name, "err", err)
			return false
		}
		s.dropped(l.id, lost, gapQuota)
		if freed > 0 {
			return true
		}
	}
	return false
}
