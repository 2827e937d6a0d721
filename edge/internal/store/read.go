package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"gatehouse/protocol/wire"
)

// Why a gap record stands where records were.
const (
	gapDamaged = "damaged" // they are on disk and cannot be read
	gapMissing = "missing" // they are not on disk any more
	gapExpired = "expired" // they were acked, kept for replay, and deleted
	gapQuota   = "quota"   // they were dropped for want of space
	gapMemory  = "disk"    // the disk failed and memory had no room to hold them
)

const (
	recordOverhead = 48  // about what a record's header takes in a batch
	salvageAtOnce  = 256 // records read one by one from a damaged file
)

// Next returns the records that follow after, about maxBytes of them. They
// follow each other without a hole: what is damaged or gone is declared by a
// gap record. They share no memory with the file.
func (l *lane) Next(after uint64, maxBytes int) ([]wire.Record, error) {
	_, head := l.Position()
	if after >= head {
		return nil, nil
	}
	r := &reader{lane: l, want: after + 1, room: maxBytes}
	err := l.file.view(func(tx *bolt.Tx) error { return r.scan(tx, after, head) })
	if errors.Is(err, ErrDamaged) {
		r = &reader{lane: l, want: after + 1, room: maxBytes}
		r.salvage(after, head, err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	r.reportDamage()
	return r.recs, nil
}

// reader collects a contiguous run of records.
type reader struct {
	lane *lane
	want uint64 // the next sequence number
	room int    // bytes
	recs []wire.Record
	buf  []byte // backs the bodies
	err  error  // of the damaged records in the hole that begins at want
	hole bool   // a gap was declared for what was never acked
	bad  struct {
		first, last uint64
		err         error
	}
}

// scan reads in order of keys. Where it meets a hole it begins again and visits
// every key: a damaged key among the sound ones leads a search astray.
func (r *reader) scan(tx *bolt.Tx, after, head uint64) error {
	b := tx.Bucket(laneBucket(r.lane.id))
	if b == nil {
		return fmt.Errorf("%w: no lane %v", ErrDamaged, r.lane.id)
	}
	fresh := *r
	c := b.Cursor()
	k, v := c.Seek(seqKey(after + 1))
	r.walk(c, k, v, head)
	if r.hole {
		*r = fresh
		k, v = c.First()
		r.walk(c, k, v, head)
	}
	return nil
}

func (r *reader) walk(c *bolt.Cursor, k, v []byte, head uint64) {
	for ; k != nil; k, v = c.Next() {
		switch seq := keySeq(k); {
		case seq < r.want:
			continue
		case seq > head:
			if _, _, err := r.lane.decode(k, v); err == nil {
				return // committed since; all that follow are newer still
			} else if r.err == nil {
				r.err = err // one of ours, under a damaged key
			}
			continue
		}
		if !r.add(k, v) {
			return
		}
	}
	if r.want <= head {
		r.gap(head, wire.Record{Time: r.lane.now()})
	}
}

// salvage reads one by one where a scan ran into a damaged page, so that what
// lies on sound pages still gets out.
func (r *reader) salvage(after, head uint64, cause error) {
	last := min(head, after+salvageAtOnce)
	for seq := after + 1; seq <= last; seq++ {
		key, more := seqKey(seq), true
		err := r.lane.file.view(func(tx *bolt.Tx) error {
			if v := tx.Bucket(laneBucket(r.lane.id)).Get(key); v != nil {
				more = r.add(key, v)
			}
			return nil
		})
		if err != nil {
			r.damage(seq, cause)
		}
		if !more {
			return
		}
	}
	if r.want <= last {
		r.gap(last, wire.Record{Time: r.lane.now()})
	}
}

// add takes one stored value and reports whether there is room for more.
func (r *reader) add(key, value []byte) bool {
	rec, kind, err := r.lane.decode(key, value)
	if err != nil {
		r.damage(keySeq(key), err)
		return true
	}
	first := rec.Seq
	var gap wire.Gap
	if isGap := string(kind) == wire.KindGap; isGap {
		if gap, err = wire.DecodeGap(rec.Body); err != nil || gap.Last != rec.Seq || gap.First > gap.Last {
			r.damage(rec.Seq, fmt.Errorf("%w: gap record %d", ErrDamaged, rec.Seq))
			return true
		}
		first = max(gap.First, r.want)
	}
	size := len(rec.Body) + len(kind) + recordOverhead
	if len(r.recs) > 0 && r.room < size {
		return false
	}
	if first > r.want {
		r.gap(first-1, rec)
	}
	if gap.Last > 0 && gap.First < first { // its beginning was settled before it became a gap
		gap.First = first
		rec.Body = encodeGap(gap)
	}
	r.take(rec, kind)
	return true
}

// take copies rec out of the transaction.
func (r *reader) take(rec wire.Record, kind []byte) {
	if r.buf == nil {
		r.buf = make([]byte, 0, min(max(r.room, len(rec.Body)), 64<<10))
	}
	if len(rec.Body) > cap(r.buf)-len(r.buf) {
		r.buf = make([]byte, 0, max(cap(r.buf), len(rec.Body)))
	}
	n := len(r.buf)
	r.buf = append(r.buf, rec.Body...)
	rec.Body = r.buf[n:len(r.buf):len(r.buf)]
	if last := len(r.recs) - 1; last >= 0 && r.recs[last].Kind == string(kind) {
		rec.Kind = r.recs[last].Kind
	} else {
		rec.Kind = string(kind)
	}
	r.recs = append(r.recs, rec)
	r.room -= len(rec.Body) + len(kind) + recordOverhead
	r.want, r.err = rec.Seq+1, nil
}

func (r *reader) damage(seq uint64, err error) {
	if seq < r.want {
		return
	}
	r.err = err
	r.note(seq, seq, err)
}

// note keeps what reportDamage will tell.
func (r *reader) note(first, last uint64, err error) {
	if r.bad.first == 0 {
		r.bad.first, r.bad.err = first, err
	}
	r.bad.last = max(r.bad.last, last)
}

// gap declares want..last gone. near is the record it is dated by. Its id
// follows from what it says, so that a resend says the same.
func (r *reader) gap(last uint64, near wire.Record) {
	g := wire.Gap{First: r.want, Last: last, Reason: gapMissing}
	acked, _ := r.lane.Position()
	switch {
	case r.err != nil:
		g.Reason = gapDamaged
	case last <= acked:
		g.Reason = gapExpired
	}
	r.hole = r.hole || g.Reason != gapExpired
	if g.Reason == gapMissing {
		r.note(g.First, g.Last, fmt.Errorf("%w: not in the file", ErrDamaged))
	}
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, []uint64{r.lane.file.epoch, uint64(r.lane.id), g.First, g.Last}) // a hash takes everything
	near.ID = wire.EventID(h.Sum(nil)[:16])
	near.Lane, near.Seq, near.Body = r.lane.id, last, encodeGap(g)
	r.take(near, []byte(wire.KindGap))
}

func encodeGap(g wire.Gap) []byte {
	b, err := g.Encode()
	if err != nil {
		return nil // two numbers and a constant always encode
	}
	return b
}

// reportDamage tells of damaged records once, not at each resend.
func (r *reader) reportDamage() {
	l := r.lane
	l.mu.Lock()
	tell := r.bad.last > l.told
	l.told = max(l.told, r.bad.last)
	l.mu.Unlock()
	if tell {
		l.report.damaged(l.id, r.bad.first, r.bad.last, r.bad.err)
	}
}

// loss says which records were dropped: n of them, between first and last.
type loss struct {
	first, last uint64
	n           int
}

// drop deletes about want bytes of the oldest records to make room, and leaves
// one gap record for those the cloud does not have. The last record stays.
func (l *lane) drop(tx *bolt.Tx, want int64, reason string) (freed int64, lost loss, err error) {
	b := tx.Bucket(laneBucket(l.id))
	acked, head := l.Position()
	var (
		keys   [][]byte
		settle int // keys[:settle] are acked
		near   wire.Record
	)
	c := b.Cursor()
	for k, v := c.First(); k != nil && freed < want && len(keys) < dropAtOnce; k, v = c.Next() {
		seq := keySeq(k)
		if seq == head {
			break
		}
		keys = append(keys, slices.Clone(k))
		if seq <= acked {
			settle = len(keys)
			freed += int64(len(k) + len(v))
			continue
		}
		first := seq
		rec, kind, err := l.decode(k, v)
		if err == nil {
			near = rec
		}
		if g, isGap := storedGap(rec, kind, err); isGap {
			first = max(g.First, acked+1)
		} else {
			lost.n++
			freed += int64(len(k) + len(v))
		}
		if lost.first == 0 {
			lost.first = first
		}
		lost.last = seq
	}
	if lost.n == 0 { // at the most older gap records: they stay
		return freed, loss{}, deleteAll(b, keys[:settle])
	}
	if err := deleteAll(b, keys); err != nil {
		return 0, loss{}, err
	}
	if near.Time.IsZero() {
		near.Time = l.now()
	}
	return freed, lost, l.putGap(tx, near, wire.Gap{First: lost.first, Last: lost.last, Reason: reason})
}

func storedGap(rec wire.Record, kind []byte, err error) (g wire.Gap, ok bool) {
	if err != nil || string(kind) != wire.KindGap {
		return g, false
	}
	g, err = wire.DecodeGap(rec.Body)
	return g, err == nil
}

// putGap stores g, dated by near.
func (l *lane) putGap(tx *bolt.Tx, near wire.Record, g wire.Gap) error {
	near.ID, near.Lane, near.Seq, near.Kind, near.Body = wire.NewEventID(), l.id, g.Last, wire.KindGap, encodeGap(g)
	key := seqKey(g.Last)
	return l.put(tx, g.Last, key, seal(appendRecord(nil, l.file.epoch, &near), 0, key))
}
