package eventlog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"gatehouse/protocol/wire"
)

// maxPageBytes ends a page early: no reader is handed more bodies at once. In
// JSON a body of telemetry takes several times its size.
const maxPageBytes = 1 << 20

// Read returns up to limit entries that f selects after cur, and the cursor
// behind the last of them. The zero Cursor starts at the oldest entry. Lanes
// come most urgent first; an empty page with an unmoved cursor means that there
// is no news yet. If ctx's deadline ends the search, what was found until then
// and the cursor behind it are the page.
func (l *Log) Read(ctx context.Context, f Filter, cur Cursor, limit int) ([]Entry, Cursor, error) {
	switch {
	case cur == Cursor{}:
		cur.filter = f.hash()
	case cur.filter != f.hash():
		return nil, Cursor{}, ErrOtherFilter
	}
	start := cur
	p := &page{log: l, filter: f, limit: limit}
	for i, id := range laneOrder {
		pos, err := p.readLane(ctx, l.lanes[id], cur.pos[i])
		cur.pos[i] = pos
		if err == nil {
			continue
		}
		if cur != start && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			break
		}
		return nil, Cursor{}, err
	}
	return p.entries, cur, nil
}

// Since returns the cursor before the first entry received at t or later.
func (l *Log) Since(ctx context.Context, f Filter, t time.Time) (Cursor, error) {
	cur := Cursor{filter: f.hash()}
	for i, id := range laneOrder {
		ln := l.lanes[id]
		info, err := ln.stream.Info(ctx)
		if err != nil {
			return Cursor{}, fmt.Errorf("state of the log: %w", err)
		}
		first, _, err := l.get(ctx, ln, request{NextFor: "ev." + id.String() + ".>", Batch: 1, StartTime: &t})
		if err != nil {
			return Cursor{}, err
		}
		cur.pos[i] = position{incarnation: info.Created.UnixNano(), seq: info.State.LastSeq}
		if len(first) > 0 {
			cur.pos[i].seq = first[0].seq - 1
		}
	}
	return cur, nil
}

// page collects entries up to a limit.
type page struct {
	log     *Log
	filter  Filter
	limit   int
	entries []Entry
	bytes   int
}

func (p *page) full() bool { return len(p.entries) >= p.limit || p.bytes >= maxPageBytes }

// readLane adds what one stream has after pos and returns the new position,
// with an error too. The position moves over what the filter does not select:
// a cursor whose filter seldom matches must not grow older than the log.
func (p *page) readLane(ctx context.Context, ln *lane, pos position) (position, error) {
	if p.full() {
		return pos, nil
	}
	info, err := ln.stream.Info(ctx)
	if err != nil {
		return pos, fmt.Errorf("state of the log: %w", err)
	}
	last := info.State.LastSeq
	created := info.Created.UnixNano()
	if pos.incarnation == created && pos.next() == last+1 {
		return pos, nil
	}
	oldest, err := p.log.oldest(ctx, ln, last)
	if err != nil {
		return pos, err
	}
	pos = p.enter(ln.id, pos, created, oldest, last)
	subjects := p.filter.subjects(ln.id)
	for !p.full() && pos.next() <= last {
		messages, horizon, err := p.log.fetch(ctx, ln, subjects, pos.next(), last, p.room()+1)
		if err != nil {
			return pos, err
		}
		pos = p.take(ln.id, pos, messages, horizon)
	}
	return pos, nil
}

// room returns how many messages to ask for: as many as there is place for
// their entries, unless only their bodies tell which ones count.
func (p *page) room() int {
	if p.filter.Drill != DrillAny {
		return fetchMessages
	}
	return min(p.limit-len(p.entries), fetchMessages)
}

// enter checks pos against what the stream still holds, and declares a loss.
func (p *page) enter(id wire.Lane, pos position, created int64, oldest, last uint64) position {
	before := position{incarnation: created, seq: oldest - 1}
	switch {
	case pos.incarnation == 0:
		return before
	case pos.incarnation != created || pos.seq > last:
		p.declare(id, created, 0, before.seq, "the event log was replaced")
		return before
	case pos.next() < oldest:
		p.declare(id, created, pos.next(), before.seq, "no longer in the event log")
		return before
	}
	return pos
}

// declare adds an entry of the log's own for what it no longer has. First and
// last are places in the log, not sequence numbers of a gateway. The id is
// made from them, so that a page asked for twice is the same twice.
func (p *page) declare(id wire.Lane, incarnation int64, first, last uint64, reason string) {
	if !p.filter.concernsGaps(id) {
		return
	}
	gap, err := gapRecord(id, first, last, reason)
	if err != nil {
		p.log.log.Error("declare gap", "err", err)
		return
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %d", id, incarnation, first, last))
	gap.ID = wire.EventID(sum[:16])
	p.entries = append(p.entries, Entry{Received: gap.Time, Record: gap})
}

// take adds the records of messages until the page is full, and returns the
// place behind them: before the next message there is, or at the horizon.
func (p *page) take(id wire.Lane, pos position, messages []stored, horizon uint64) position {
	for i, m := range messages {
		skip := 0
		if pos.index > 0 && m.seq == pos.seq {
			skip = int(pos.index)
		}
		entries, err := p.log.open(m)
		if err != nil {
			p.log.log.Error("unreadable message in the event log", "lane", id, "seq", m.seq, "err", err)
			p.declare(id, pos.incarnation, m.seq, m.seq, "unreadable in the event log")
		}
		for i := min(skip, len(entries)); i < len(entries); i++ {
			if p.full() {
				pos.seq, pos.index = m.seq, uint32(i)
				return pos.normal()
			}
			if p.filter.wants(&entries[i].Record) {
				p.entries = append(p.entries, entries[i])
				p.bytes += len(entries[i].Record.Body)
			}
		}
		pos.seq, pos.index = horizon, 0
		if i+1 < len(messages) {
			pos.seq = messages[i+1].seq - 1
		}
		if p.full() {
			return pos
		}
	}
	pos.seq, pos.index = horizon, 0
	return pos
}

// normal gives a place between two messages one form: nothing of message seq
// taken is the same as all before it taken.
func (p position) normal() position {
	if p.index == 0 {
		p.seq--
	}
	return p
}

// open returns the entries of one message.
func (l *Log) open(m stored) ([]Entry, error) {
	o, err := parseSubject(m.subject)
	if err != nil {
		return nil, err
	}
	p, err := l.dec.DecodeAll(m.data, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	b, err := wire.DecodeStored(p)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(b.Records))
	for i, r := range b.Records {
		entries[i] = Entry{Gateway: o.Gateway, Division: o.Division, Epoch: b.Epoch, Received: m.at, Record: r}
	}
	return entries, nil
}
