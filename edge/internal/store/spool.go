package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"gatehouse/protocol/wire"
)

const (
	// spoolEarly is how many bytes do not wait for the tick: with what comes
	// meanwhile about one transaction. To gather more before the first would take
	// memory and spare the flash nothing.
	spoolEarly = 192 << 10
	spoolChunk = 256 << 10 // bytes of records in one transaction
	spoolCap   = 2 << 20   // bytes in memory at the most, the writer's share included
	entryHead  = 5         // lane, length of the value
)

// pending is what Append was given and the disk does not have yet: entries of
// lane, length and a value that lacks only its CRC, which covers the sequence
// number. Two buffers take turns, so that a steady stream makes no garbage.
type pending struct {
	wake chan struct{}

	mu   sync.Mutex // guards all below
	buf  []byte
	out  int    // bytes the writer has taken and may give back
	lost losses // dropped from the front of buf
}

// losses counts records by lane.
type losses [wire.LaneMedia + 1]int

// Append takes records of the lanes telemetry and media. They are held in
// memory until the next commit, at most SpoolEvery later, and lost if the
// process is killed before. Bodies are copied.
func (s *Store) Append(recs ...wire.Record) error {
	for i := range recs {
		if err := check(&recs[i]); err != nil {
			return err
		}
		if l := recs[i].Lane; l != wire.LaneTelemetry && l != wire.LaneMedia {
			return fmt.Errorf("%w: %v records go through Commit", ErrInvalid, l)
		}
	}
	select {
	case <-s.closing:
		return ErrClosed
	default:
	}
	p := &s.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.buf)
	for i := range recs {
		p.add(s.spool.epoch, &recs[i])
	}
	if before < spoolEarly && len(p.buf) >= spoolEarly { // once: a disk that fails is tried again at the tick
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (p *pending) add(epoch uint64, r *wire.Record) {
	need := entryHead + headerSize + len(r.Kind) + len(r.Body) + crcSize
	if p.out+len(p.buf)+need > spoolCap {
		p.dropFront(max(need, spoolCap/4))
	}
	if p.out+len(p.buf)+need > spoolCap { // the writer hangs with all there may be
		p.lost[r.Lane]++
		return
	}
	n := len(p.buf)
	p.buf = append(p.buf, byte(r.Lane), 0, 0, 0, 0)
	p.buf = appendRecord(p.buf, epoch, r)
	p.buf = append(p.buf, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(p.buf[n+1:], uint32(len(p.buf)-n-entryHead))
}

// dropFront gives up the oldest records that never reached the disk.
func (p *pending) dropFront(want int) {
	n := p.lost.count(p.buf, want)
	p.buf = p.buf[:copy(p.buf, p.buf[n:])]
}

// count adds the entries of b to l until they make want bytes, and returns how
// many bytes they are.
func (l *losses) count(b []byte, want int) (n int) {
	for n < len(b) && n < want {
		lane, value := entry(b[n:])
		l[lane]++
		n += entryHead + len(value)
	}
	return n
}

// take hands over what is held and leaves an empty buffer to fill.
func (p *pending) take(empty []byte) (full []byte, lost losses) {
	p.mu.Lock()
	defer p.mu.Unlock()
	full, lost = p.buf, p.lost
	p.buf, p.out, p.lost = empty[:0], len(full), losses{}
	return full, lost
}

// giveBack puts what could not be stored, b[done:] and lost ahead of it, before
// all that came since, and returns an empty buffer. So one buffer holds
// everything, oldest first.
func (p *pending) giveBack(b []byte, done int, lost losses) (empty []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost != (losses{}) { // newer ones are lost already, and these are older
		done += lost.count(b[done:], len(b))
	}
	for id, n := range lost {
		p.lost[id] += n
	}
	n := copy(b, b[done:])
	empty, p.buf, p.out = p.buf[:0], append(b[:n], p.buf...), 0
	return empty
}

func entry(b []byte) (lane wire.Lane, value []byte) {
	return wire.Lane(b[0]), b[entryHead : entryHead+int(binary.BigEndian.Uint32(b[1:]))]
}

// spoolWriter owns every transaction on spool.db.
type spoolWriter struct {
	*Store
	buf     []byte // taken from pending; buf[done:] is not on disk
	done    int    // bytes
	lost    losses // to be declared ahead of buf[done:]
	failing bool
}

// writeSpool is the only writer of spool.db.
func (s *Store) writeSpool(every time.Duration) {
	w := &spoolWriter{Store: s}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case now := <-tick.C:
			_ = w.flush() // it has logged what failed, and tries again at the next tick
			w.tend(s.spool, now.Sub(last))
			last = now
		case <-s.pending.wake:
			_ = w.flush()
		case done := <-s.flushes:
			done <- w.flush()
		case <-s.closing:
			_ = w.flush()
			w.tend(s.spool, 0)
			return
		}
	}
}

// flush commits everything held. What fails stays held.
func (w *spoolWriter) flush() error {
	err := w.drain()
	if failing := err != nil; failing != w.failing {
		w.failing = failing
		if failing {
			w.log.Error("telemetry cannot be stored: held in memory, oldest dropped first", "err", err)
		} else {
			w.log.Info("telemetry is stored again")
		}
	}
	return err
}

func (w *spoolWriter) drain() error {
	for {
		for w.done < len(w.buf) || w.lost != (losses{}) {
			if err := w.commit(); err != nil {
				w.buf, w.done, w.lost = w.pending.giveBack(w.buf, w.done, w.lost), 0, losses{}
				return err
			}
		}
		w.buf, w.lost = w.pending.take(w.buf)
		w.done = 0
		if len(w.buf) == 0 && w.lost == (losses{}) {
			if cap(w.buf) > 2*spoolChunk {
				w.buf = nil // it grew while the disk hung
			}
			return nil
		}
	}
}

// commit writes one chunk, making room where there is none.
func (w *spoolWriter) commit() error {
	err := w.tryCommit()
	for range 3 {
		if !errors.Is(err, ErrFull) || !w.makeRoom(w.spool, 4*spoolChunk) {
			return err
		}
		err = w.tryCommit()
	}
	return err
}

func (w *spoolWriter) tryCommit() error {
	end := chunkEnd(w.buf, w.done)
	over := int64(0)
	if w.limit > 0 {
		over = w.spool.used() + int64(end-w.done) - w.limit
	}
	heads := w.spool.heads()
	var lost [wire.LaneMedia + 1]loss
	err := w.timed(w.spool, func(tx *bolt.Tx) (err error) {
		for _, l := range w.spool.lanes {
			if over > 0 {
				var freed int64
				if freed, lost[l.id], err = l.drop(tx, over, gapQuota); err != nil {
					return err
				}
				over -= freed
			}
		}
		if err := w.putLost(tx, &heads); err != nil {
			return err
		}
		if err := w.putChunk(tx, w.buf[w.done:end], &heads); err != nil {
			return err
		}
		return errors.Join(w.spool.setHeads(tx, heads), w.spool.housekeep(tx))
	})
	w.spool.settle(err)
	if err != nil {
		return err
	}
	for _, l := range w.spool.lanes {
		w.dropped(l.id, lost[l.id], gapQuota)
	}
	w.done, w.lost = end, losses{}
	w.spool.advance(heads)
	return nil
}

// chunkEnd returns where a chunk that begins at from ends: at least one entry.
func chunkEnd(b []byte, from int) int {
	end := from
	for end < len(b) {
		_, value := entry(b[end:])
		if end > from && end-from+len(value) > spoolChunk {
			break
		}
		end += entryHead + len(value)
	}
	return end
}

// putChunk stores the entries of chunk, which is not touched before the
// transaction ends.
func (w *spoolWriter) putChunk(tx *bolt.Tx, chunk []byte, h *heads) error {
	for len(chunk) > 0 {
		id, value := entry(chunk)
		chunk = chunk[entryHead+len(value):]
		h[id]++
		key := seqKey(h[id])
		resum(value, key)
		if err := w.lanes[id].put(tx, h[id], key, value); err != nil {
			return err
		}
	}
	return nil
}

// putLost declares records that were given up before they had a number: they
// get one now, so that the cloud can count them.
func (w *spoolWriter) putLost(tx *bolt.Tx, h *heads) error {
	for id, n := range w.lost {
		if n == 0 {
			continue
		}
		first := h[id] + 1
		h[id] += uint64(n)
		g := wire.Gap{First: first, Last: h[id], Reason: gapMemory}
		if err := w.lanes[id].putGap(tx, wire.Record{Time: w.now()}, g); err != nil {
			return err
		}
	}
	return nil
}
