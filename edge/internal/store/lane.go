package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"gatehouse/protocol/wire"
)

const (
	replayWindow = 24 * time.Hour // how long acked records are kept
	markEvery    = time.Hour
	lookBack     = 10_000  // records read to find the last sound one
	maxLostTail  = 1 << 20 // no damaged page hides more than that
)

// Outbox is what the uplink needs of a lane: its records in order, word of new
// ones, and a place to note what the cloud has.
type Outbox = interface {
	Epoch() string
	// Position returns the last acked and the last committed sequence number.
	Position() (acked, head uint64)
	// Next returns records that follow after, in order and without a hole that
	// no gap record declares: about maxBytes of them, at least one if there is one.
	Next(after uint64, maxBytes int) ([]wire.Record, error)
	// Wait returns when there is a record beyond after.
	Wait(ctx context.Context, after uint64) error
	// Acked notes that the cloud has everything up to upTo.
	Acked(from, upTo uint64) error
}

// lane is one queue of one file. Only the file's writer moves head.
type lane struct {
	id     wire.Lane
	file   *file
	closed <-chan struct{}
	report reporter
	now    func() time.Time // dates a gap that has no record beside it

	mu            sync.Mutex // guards all below
	head          uint64
	pos           position
	dirty, saving bool          // pos is not on disk; it is in the open transaction
	pruned        uint64        // everything up to it was deleted
	grown         chan struct{} // closed when head grows; nil while nobody waits
	told          uint64        // the last damaged record that was reported
}

// reporter tells the log and the metrics what could not be read.
type reporter interface {
	damaged(l wire.Lane, first, last uint64, err error)
}

// load reads head and position. A damaged position costs a resend, nothing else.
func (l *lane) load(tx *bolt.Tx) error {
	b := tx.Bucket(laneBucket(l.id))
	if b == nil {
		return fmt.Errorf("%w: no lane %v", ErrDamaged, l.id)
	}
	if l.head = l.end(b); l.head > math.MaxInt64 {
		return fmt.Errorf("%w: lane %v ends at %d", ErrDamaged, l.id, l.head)
	}
	key := laneBucket(l.id)
	if v := tx.Bucket(bucketAcked).Get(key); v != nil {
		pos, err := decodePosition(key, v)
		if err != nil {
			l.report.damaged(l.id, 0, 0, fmt.Errorf("acked position: %w", err))
			pos = position{}
		}
		pos.acked = min(pos.acked, l.head)
		l.pos = pos
	}
	return nil
}

// end returns the last sequence number: that of the bucket, which has no
// checksum, held against the last sound record.
func (l *lane) end(b *bolt.Bucket) uint64 {
	c, n := b.Cursor(), 0
	for k, v := c.Last(); k != nil && n < lookBack; k, v = c.Prev() {
		r, _, err := l.decode(k, v)
		if err != nil {
			n++
			continue
		}
		if stored := b.Sequence(); stored > r.Seq && stored-r.Seq <= maxLostTail {
			return stored
		}
		return r.Seq
	}
	return b.Sequence()
}

// Epoch names the life of the file within which sequence numbers count.
func (l *lane) Epoch() string { return fmt.Sprintf("%016x", l.file.epoch) }

// Position returns the last acked and the last committed sequence number.
func (l *lane) Position() (acked, head uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pos.acked, l.head
}

// Wait returns when there is a record beyond after.
func (l *lane) Wait(ctx context.Context, after uint64) error {
	for {
		l.mu.Lock()
		if l.head > after {
			l.mu.Unlock()
			return nil
		}
		if l.grown == nil {
			l.grown = make(chan struct{})
		}
		grown := l.grown
		l.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.closed:
			return ErrClosed
		}
	}
}

// advance makes records up to head visible.
func (l *lane) advance(head uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if head <= l.head {
		return
	}
	l.head = head
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
}

// Acked notes that the cloud has everything up to upTo. It reaches the disk
// within SpoolEvery; what is lost by a kill before that is sent again.
func (l *lane) Acked(from, upTo uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upTo > l.head || from > upTo {
		return fmt.Errorf("%w: %d..%d of %d in lane %v", ErrBeyond, from, upTo, l.head, l.id)
	}
	if upTo > l.pos.acked {
		l.pos.acked, l.dirty = upTo, true
	}
	return nil
}

// age lets the marks grow older by d and sets a new one when it is time. The
// window for replay is measured with them.
func (l *lane) age(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	marks := l.pos.marks
	for i := range marks {
		marks[i].age += d
	}
	n := len(marks)
	if l.pos.acked > 0 && (n == 0 || marks[n-1].upTo < l.pos.acked && marks[n-1].age >= markEvery) {
		l.pos.marks, l.dirty = append(marks, mark{upTo: l.pos.acked}), true
	}
}

// expired returns the last record that has outlived the window for replay.
func (l *lane) expired() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.pos.marks) - 1; i >= 0; i-- {
		if m := l.pos.marks[i]; m.age >= replayWindow {
			l.pos.marks = slices.Delete(l.pos.marks, 0, i) // older ones say nothing more
			return m.upTo
		}
	}
	return 0
}

// put stores a sealed record value under seq.
func (l *lane) put(tx *bolt.Tx, seq uint64, key, value []byte) error {
	b := tx.Bucket(laneBucket(l.id))
	b.FillPercent = lanesFillFull
	if err := b.Put(key, value); err != nil {
		return fmt.Errorf("put %v %d: %w", l.id, seq, err)
	}
	return nil
}

// due reports whether there is something to store or to delete.
func (l *lane) due() bool {
	upTo := l.expired()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dirty || upTo > l.pruned
}

// savePosition writes the position if it changed.
func (l *lane) savePosition(tx *bolt.Tx) error {
	l.mu.Lock()
	dirty, value := l.dirty, l.pos.encode()
	l.dirty, l.saving = false, dirty
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	key := laneBucket(l.id)
	return tx.Bucket(bucketAcked).Put(key, seal(value, 0, key))
}

// saved ends savePosition: a position that did not reach the disk is dirty still.
func (l *lane) saved(ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty = l.dirty || l.saving && !ok
	l.saving = false
}

// prune deletes what was acked longer ago than the window for replay, but
// never the last record: it tells where the lane stands.
func (l *lane) prune(tx *bolt.Tx) error {
	upTo := l.expired()
	_, head := l.Position()
	b := tx.Bucket(laneBucket(l.id))
	c := b.Cursor()
	var keys [][]byte
	for k, _ := c.First(); k != nil && len(keys) < pruneAtOnce; k, _ = c.Next() {
		if seq := keySeq(k); seq > upTo || seq == head {
			break
		}
		keys = append(keys, slices.Clone(k))
	}
	if err := deleteAll(b, keys); err != nil {
		return err
	}
	if len(keys) == pruneAtOnce {
		upTo = keySeq(keys[pruneAtOnce-1])
	}
	l.mu.Lock()
	l.pruned = upTo // should the transaction fail, the next one after a restart deletes them
	l.mu.Unlock()
	return nil
}

// keySeq returns the sequence number in k; a key of another length is damage
// and sorts below every record.
func keySeq(k []byte) uint64 {
	if len(k) != keySize {
		return 0
	}
	return binary.BigEndian.Uint64(k)
}

func deleteAll(b *bolt.Bucket, keys [][]byte) error {
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return fmt.Errorf("delete %x: %w", k, err)
		}
	}
	return nil
}
