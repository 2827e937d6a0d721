// Package store keeps what must survive: alarm state and outgoing records. It
// is the only importer of bbolt and knows nothing of alarms: keys and values
// are opaque to it.
//
// It guarantees: what Commit accepted is on disk when it returns, state and
// records together or not at all; records of a lane have contiguous sequence
// numbers in the order of their commits, and a hole is always declared by a gap
// record; a damaged byte is found by its checksum and never crashes, hides or
// invents anything; alarms are never dropped to make room. DESIGN.md states
// what is promised and how the files are laid out.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"

	"gatehouse/protocol/wire"
)

// Options of a Store. Dir is required for Open; everything else has a default.
type Options struct {
	Dir        string
	Quota      int64 // bytes both files may take; 0 = no limit but the disk
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time
	SpoolEvery time.Duration // telemetry reaches the disk at most this late; default 10 s
}

const (
	alarmFile    = "alarm.db"
	spoolFile    = "spool.db"
	alarmReserve = 32 << 20 // of the quota, kept for alarm.db

	smallDiskSize = 512 << 20 // below it no blocks are reserved
)

// Store is safe for concurrent use.
type Store struct {
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	alarm   *file
	spool   *file
	lanes   [wire.LaneMedia + 1]*lane
	limit   int64 // bytes spool.db may use
	memory  bool

	quarantined []string

	commits chan *commit
	flushes chan chan error
	closing chan struct{}
	close   sync.Once
	closed  error
	workers sync.WaitGroup
	pending pending
}

// Open opens or makes both files in o.Dir. A damaged file is moved aside and
// begun anew, in a new epoch: Quarantined tells. An error says what to do.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, fmt.Errorf("%w: no directory given", ErrInvalid)
	}
	s := newStore(o)
	if o.Quota > 2*alarmReserve {
		s.limit = o.Quota - alarmReserve
	} else {
		s.limit = o.Quota / 2
	}
	var err error
	// The order of the lanes is the one in which they give way.
	if s.alarm, err = s.openWhole(o.Dir, alarmFile, alarmMap, wire.LaneEvent, wire.LaneAlarm); err != nil {
		return nil, err
	}
	if s.spool, err = s.openWhole(o.Dir, spoolFile, spoolMap, wire.LaneTelemetry, wire.LaneMedia); err != nil {
		return nil, errors.Join(err, s.alarm.close())
	}
	reserve(s.alarm, o.Quota, s.log)
	if err := s.start(o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenMemory returns a Store that lives in at most 16 MiB of memory and is gone
// with the process: alarms work with no disk at all. When it is full its oldest
// records go, with a gap record. It never fails; should the kernel have no
// memory to give, each Commit says so.
func OpenMemory(o Options) *Store {
	s := newStore(o)
	s.memory, s.limit = true, memorySpool/2
	s.alarm = openMemory(alarmFile, memoryAlarms, wire.LaneEvent, wire.LaneAlarm)
	s.spool = openMemory(spoolFile, memorySpool, wire.LaneTelemetry, wire.LaneMedia)
	err := errors.Join(s.addLanes(s.alarm, wire.LaneEvent, wire.LaneAlarm), s.addLanes(s.spool, wire.LaneTelemetry, wire.LaneMedia))
	if err := errors.Join(err, s.start(o)); err != nil {
		s.log.Error("store in memory", "err", err)
	}
	return s
}

func newStore(o Options) *Store {
	s := &Store{
		log: o.Log, now: o.Now,
		commits: make(chan *commit), flushes: make(chan chan error), closing: make(chan struct{}),
		pending: pending{wake: make(chan struct{}, 1)},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.metrics = newMetrics(o.Registerer)
	return s
}

// start begins writing. It does so even with an error.
func (s *Store) start(o Options) error {
	s.metrics.sizes(s.alarm, s.spool)
	err := s.metrics.register()
	every := o.SpoolEvery
	if every <= 0 {
		every = 10 * time.Second
	}
	s.workers.Go(func() { s.writeAlarms(every) })
	s.workers.Go(func() { s.writeSpool(every) })
	return err
}

func (s *Store) addLanes(f *file, ids ...wire.Lane) error {
	for _, id := range ids {
		s.lanes[id] = &lane{id: id, file: f, closed: s.closing, report: s, now: s.now}
		f.lanes = append(f.lanes, s.lanes[id])
	}
	return f.view(func(tx *bolt.Tx) error {
		for _, l := range f.lanes {
			if err := l.load(tx); err != nil {
				return err
			}
		}
		return whole(tx)
	})
}

// Lane returns the queue of one lane.
func (s *Store) Lane(id wire.Lane) Outbox {
	if !id.Valid() {
		return nil
	}
	return s.lanes[id]
}

// Load calls f for each key that Commit has stored, in order of keys. A damaged
// value is left out and named in the error, after all others were delivered.
func (s *Store) Load(f func(key string, state []byte) error) error {
	type entry struct {
		key   string
		state []byte
	}
	var (
		all     []entry
		damaged error
	)
	err := s.alarm.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketState).ForEach(func(k, v []byte) error {
			state, err := unseal(k, v)
			if err != nil {
				damaged = errors.Join(damaged, fmt.Errorf("state of %q: %w", k, err))
				return nil
			}
			all = append(all, entry{string(k), append([]byte{}, state...)})
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := f(e.key, e.state); err != nil {
			return fmt.Errorf("state of %q: %w", e.key, err)
		}
	}
	return damaged
}

// Flush commits what Append holds in memory.
func (s *Store) Flush() error {
	done := make(chan error, 1)
	select {
	case s.flushes <- done:
		return <-done
	case <-s.closing:
		return ErrClosed
	}
}

// Close commits what is in memory and closes both files. Calls that came in
// before it are answered.
func (s *Store) Close() error {
	s.close.Do(func() {
		close(s.closing)
		s.workers.Wait()
		s.metrics.unregister()
		s.closed = errors.Join(s.alarm.close(), s.spool.close())
	})
	return s.closed
}

// LaneStats is one lane's position.
type LaneStats struct {
	Acked, Head uint64
	Waiting     uint64 // records the cloud has not acked
}

// Stats is what the store holds.
type Stats struct {
	Lanes                  map[wire.Lane]LaneStats
	AlarmBytes, SpoolBytes int64 // in use, free pages not counted
	Memory                 bool  // there is no disk under it
}

// Stats returns what the store holds now.
func (s *Store) Stats() Stats {
	st := Stats{Lanes: map[wire.Lane]LaneStats{}, AlarmBytes: s.alarm.used(), SpoolBytes: s.spool.used(), Memory: s.memory}
	for _, id := range wire.Lanes {
		acked, head := s.lanes[id].Position()
		st.Lanes[id] = LaneStats{Acked: acked, Head: head, Waiting: head - acked}
	}
	return st
}

func (s *Store) damaged(l wire.Lane, first, last uint64, err error) {
	s.log.Error("stored records are damaged: declared as a gap", "lane", l.String(), "first", first, "last", last, "err", err)
	s.metrics.damagedRecords.Add(float64(last - first + 1))
}

func (s *Store) dropped(l wire.Lane, lost loss, reason string) {
	if lost.n == 0 {
		return
	}
	s.log.Warn("records dropped: declared as a gap", "lane", l.String(), "first", lost.first, "last", lost.last, "records", lost.n, "reason", reason)
	s.metrics.droppedRecords.WithLabelValues(l.String()).Add(float64(lost.n))
}
