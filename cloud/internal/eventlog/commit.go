package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"gatehouse/protocol/wire"
)

// Headers of an atomic batch, ADR-50, and of a message with an own life time,
// ADR-43 of the nats-architecture-and-design repository.
const (
	headerBatchID  = "Nats-Batch-Id"
	headerBatchSeq = "Nats-Batch-Sequence"
	headerCommit   = "Nats-Batch-Commit"
	headerExpected = "Nats-Expected-Last-Subject-Sequence"
	headerRollup   = "Nats-Rollup"
	headerTTL      = "Nats-TTL"
)

const (
	// maxMessages of one part; the server refuses atomic batches over 1000.
	maxMessages = 500
	// maxGroup and maxGroupBytes bound the atomic batch that several parts share.
	maxGroup      = 900
	maxGroupBytes = 8 << 20

	commitTimeout = 10 * time.Second

	// The server's refusals that matter here, see errors.json in nats-server:
	// of headerExpected, and for want of room.
	codeWrongLastSequence     = 10071
	codeAccountResources      = 10002
	codeInsufficientResources = 10023
	codeStorageResources      = 10047
)

// errRaced occurs when the marker was not what it was thought to be.
var errRaced = errors.New("marker moved")

// part is what one gateway contributes to an atomic batch: messages and the
// marker behind them, good only if its marker is still at expect.
type part struct {
	origin   Origin
	messages []message
	expect   uint64
	next     marker
	done     chan outcome
}

type outcome struct {
	at  uint64 // the new marker's sequence in the stream
	err error
}

// commit stores one part, all or nothing, and returns the marker as it then is.
func (l *Log) commit(ctx context.Context, ln *lane, p part) (marker, error) {
	p.done = make(chan outcome, 1)
	var got outcome
	select {
	case ln.parts <- &p:
		select {
		case got = <-p.done:
		case <-ctx.Done():
			got.err = fmt.Errorf("%w: %w", ErrStore, ctx.Err())
		case <-l.closing:
			got.err = fmt.Errorf("%w: closing", ErrStore)
		}
	case <-ctx.Done():
		got.err = fmt.Errorf("%w: %w", ErrStore, ctx.Err())
	case <-l.closing:
		got.err = fmt.Errorf("%w: closing", ErrStore)
	}
	if got.err != nil {
		ln.forget(p.origin.Gateway) // whatever happened, the stream knows
		return marker{}, got.err
	}
	p.next.at = got.at
	ln.learn(p.origin.Gateway, p.next)
	return p.next, nil
}

// runCommits stores parts until the log closes. What arrives while one atomic
// batch is being synced shares the next, so that the disk's latency bounds the
// wait of a gateway but not the number of gateways.
func (l *Log) runCommits(ln *lane) {
	var first *part
	for {
		if first == nil {
			select {
			case first = <-ln.parts:
			case <-l.closing:
				return
			}
		}
		var group []*part
		group, first = ln.gather(first)
		l.store(ln, group)
	}
}

// gather returns what can share an atomic batch with first, and the part that
// did not fit. One gateway has one part in it: the next goes on from its marker.
func (ln *lane) gather(first *part) (group []*part, left *part) {
	gateways := map[string]bool{}
	count, bytes := 0, 0
	for p := first; ; {
		count += len(p.messages) + 1
		for _, m := range p.messages {
			bytes += len(m.data)
		}
		if len(group) > 0 && (gateways[p.origin.Gateway] || count > maxGroup || bytes > maxGroupBytes) {
			return group, p
		}
		group, gateways[p.origin.Gateway] = append(group, p), true
		select {
		case p = <-ln.parts:
		default:
			return group, nil
		}
	}
}

// store publishes a group and announces it. If it fails, each part is tried
// by itself, so that one cannot spoil it for the others; not if the server does
// not answer, which would make each of them wait as long again.
func (l *Log) store(ln *lane, group []*part) {
	last, err := l.publish(ln, group)
	if err != nil && len(group) > 1 && !errors.Is(err, nats.ErrTimeout) {
		for _, p := range group {
			l.store(ln, []*part{p})
		}
		return
	}
	ln.note(err, time.Now())
	for i := len(group) - 1; i >= 0; i-- {
		p := group[i]
		if err == nil { // here, because who appended may have stopped waiting
			l.announce(ln.id, p.origin.Division, p.messages)
		}
		p.done <- outcome{at: last, err: err}
		last -= uint64(len(p.messages) + 1) // an atomic batch is stored without a gap
	}
}

// publish sends a group as one atomic batch and returns the sequence of its
// last message once it is on the disk.
func (l *Log) publish(ln *lane, group []*part) (last uint64, err error) {
	batch, err := atomicBatch(ln.id, group)
	if err != nil {
		return 0, err
	}
	n := len(batch) - 1
	for i, m := range batch[:n] {
		if err := l.nc.PublishMsg(m); err != nil {
			l.abandon(batch[i])
			return 0, fmt.Errorf("%w: %w", ErrStore, err)
		}
	}
	return l.seal(batch[n])
}

// atomicBatch returns the messages of a group, the last of which commits. Each
// marker follows its messages: should an atomic batch ever be torn, records
// are stored again, not lost.
func atomicBatch(lane wire.Lane, group []*part) ([]*nats.Msg, error) {
	id := nuid.Next()
	var batch []*nats.Msg
	add := func(subject string, data []byte) nats.Header {
		h := nats.Header{headerBatchID: {id}, headerBatchSeq: {strconv.Itoa(len(batch) + 1)}}
		batch = append(batch, &nats.Msg{Subject: subject, Data: data, Header: h})
		return h
	}
	for _, p := range group {
		for _, m := range p.messages {
			add(m.subject, m.data)
		}
		data, err := json.Marshal(p.next)
		if err != nil {
			return nil, fmt.Errorf("marker: %w", err)
		}
		h := add(markSubject(lane, p.origin.Gateway), data)
		h[headerExpected] = []string{strconv.FormatUint(p.expect, 10)}
		h[headerRollup] = []string{"sub"}
		h[headerTTL] = []string{"never"}
	}
	batch[len(batch)-1].Header[headerCommit] = []string{"1"}
	return batch, nil
}

// abandon ends the atomic batch that m could not be sent in: a sequence that
// does not follow makes the server drop it, else it would stay open a while.
func (l *Log) abandon(m *nats.Msg) {
	end := &nats.Msg{Subject: m.Subject, Header: nats.Header{
		headerBatchID: m.Header[headerBatchID], headerBatchSeq: {strconv.Itoa(maxGroup * 2)}, headerCommit: {"1"},
	}}
	if err := l.nc.PublishMsg(end); err != nil {
		l.log.Debug("abandon an atomic batch", "err", err) // the server's own time limit ends it
	}
}

// seal sends the committing message and waits for the server's answer.
func (l *Log) seal(msg *nats.Msg) (uint64, error) {
	reply, err := l.nc.RequestMsg(msg, commitTimeout)
	if err != nil {
		if !errors.Is(err, nats.ErrTimeout) {
			l.abandon(msg)
		}
		return 0, fmt.Errorf("%w: commit: %w", ErrStore, err)
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return 0, fmt.Errorf("%w: commit answer: %w", ErrStore, err)
	}
	if ack.Error == nil {
		return ack.Seq, nil
	}
	switch ack.Error.ErrorCode {
	case codeWrongLastSequence:
		return 0, errRaced
	case codeAccountResources, codeInsufficientResources, codeStorageResources:
		return 0, fmt.Errorf("%w: %w: %w", ErrStore, ErrFull, ack.Error)
	}
	return 0, fmt.Errorf("%w: commit: %w", ErrStore, ack.Error)
}
