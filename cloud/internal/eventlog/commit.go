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

	// codeWrongLastSequence is the server's refusal of headerExpected, see
	// errors.json in nats-server.
	codeWrongLastSequence = 10071
)

// errRaced occurs when the marker was not what it was thought to be.
var errRaced = errors.New("marker moved")

// part is what one gateway contributes to an atomic batch: messages and the
// marker behind them, good only if its marker is still at expect.
type part struct {
	gateway  string
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
		ln.forget(p.gateway) // whatever happened, the stream knows
		return marker{}, got.err
	}
	p.next.at = got.at
	ln.learn(p.gateway, p.next)
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
		if len(group) > 0 && (gateways[p.gateway] || count > maxGroup || bytes > maxGroupBytes) {
			return group, p
		}
		group, gateways[p.gateway] = append(group, p), true
		select {
		case p = <-ln.parts:
		default:
			return group, nil
		}
	}
}

// store publishes a group; if the server refuses it, each part by itself, so
// that one cannot spoil it for the others.
func (l *Log) store(ln *lane, group []*part) {
	last, err := l.publish(ln, group)
	var refusal *jetstream.APIError
	if len(group) > 1 && (errors.Is(err, errRaced) || errors.As(err, &refusal)) {
		for _, p := range group {
			l.store(ln, []*part{p})
		}
		return
	}
	ln.note(err)
	for i := len(group) - 1; i >= 0; i-- {
		group[i].done <- outcome{at: last, err: err}
		last -= uint64(len(group[i].messages) + 1) // an atomic batch is stored without a gap
	}
}

// note keeps since when the lane has not been able to store.
func (ln *lane) note(err error) {
	if err == nil || errors.Is(err, errRaced) {
		ln.failing.Store(0)
		return
	}
	ln.failing.CompareAndSwap(0, time.Now().UnixNano())
}

// Failing returns for how long a lane has failed to store what it was given; 0
// if all is well. A full disk passes by itself, a stream that met a write error
// stays closed to writing until the server is started again.
func (l *Log) Failing() time.Duration {
	longest := time.Duration(0)
	for _, ln := range l.lanes {
		if since := ln.failing.Load(); since != 0 {
			longest = max(longest, time.Since(time.Unix(0, since)))
		}
	}
	return longest
}

// publish sends a group as one atomic batch and returns the sequence of its
// last message once it is on the disk. Each marker follows its messages:
// should an atomic batch ever be torn, records are stored again, not lost.
func (l *Log) publish(ln *lane, group []*part) (last uint64, err error) {
	id, seq := nuid.Next(), 0
	msg := func(subject string, data []byte) *nats.Msg {
		seq++
		return &nats.Msg{Subject: subject, Data: data, Header: nats.Header{
			headerBatchID: {id}, headerBatchSeq: {strconv.Itoa(seq)},
		}}
	}
	for i, p := range group {
		for _, m := range p.messages {
			if err := l.nc.PublishMsg(msg(m.subject, m.data)); err != nil {
				return 0, fmt.Errorf("%w: %w", ErrStore, err)
			}
		}
		data, err := json.Marshal(p.next)
		if err != nil {
			return 0, fmt.Errorf("marker: %w", err)
		}
		mark := msg(markSubject(ln.id, p.gateway), data)
		mark.Header[headerExpected] = []string{strconv.FormatUint(p.expect, 10)}
		mark.Header[headerRollup] = []string{"sub"}
		mark.Header[headerTTL] = []string{"never"}
		if i == len(group)-1 {
			mark.Header[headerCommit] = []string{"1"}
			return l.seal(mark)
		}
		if err := l.nc.PublishMsg(mark); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrStore, err)
		}
	}
	return 0, errors.New("commit of nothing")
}

// seal sends the committing message and waits for the server's answer.
func (l *Log) seal(msg *nats.Msg) (uint64, error) {
	reply, err := l.nc.RequestMsg(msg, commitTimeout)
	if err != nil {
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
	if ack.Error.ErrorCode == codeWrongLastSequence {
		return 0, errRaced
	}
	return 0, fmt.Errorf("%w: commit: %w", ErrStore, ack.Error)
}
