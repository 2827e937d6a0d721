package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"gatehouse/protocol/wire"
)

const (
	// maxMessage is what one compressed run may weigh.
	maxMessage = wire.MaxPayload

	appendTimeout = 10 * time.Second
	maxAttempts   = 8
)

// marker is what the log knows of one gateway's lane: up to where it has all
// there was to have. Its JSON form is stored.
type marker struct {
	Epoch string `json:"epoch"`
	Last  uint64 `json:"last"`

	at uint64 // its own sequence in the stream; 0 if there is none
}

// message is one run of records of equal kind, ready to be stored.
type message struct {
	subject string
	kind    string
	data    []byte
	last    uint64 // sequence of its last record
}

// Append stores what is new in b and returns up to where the gateway's lane is
// now complete. A result below b's first sequence means that b would leave a
// hole and nothing of it was stored. With an error nothing is promised: send
// the batch again.
func (l *Log) Append(ctx context.Context, o Origin, b wire.Batch) (upTo uint64, err error) {
	ln := l.lanes[b.Lane]
	if ln == nil {
		return 0, fmt.Errorf("append: unknown lane %d", b.Lane)
	}
	from, last, err := b.Span()
	if err != nil {
		return 0, fmt.Errorf("append: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	for range maxAttempts {
		m, err := ln.marker(ctx, o.Gateway)
		if err != nil {
			return 0, err
		}
		if m.Epoch == b.Epoch && (last <= m.Last || from > m.Last+1) {
			if last <= m.Last {
				l.duplicates.WithLabelValues(b.Lane.String()).Add(float64(len(b.Records)))
			}
			return m.Last, nil
		}
		err = l.appendAfter(ctx, ln, o, b, from, m)
		if errors.Is(err, errRaced) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return last, nil
	}
	return 0, fmt.Errorf("append for %s: %w: lost %d races for its marker", o.Gateway, ErrStore, maxAttempts)
}

// appendAfter stores what b has beyond the marker.
func (l *Log) appendAfter(ctx context.Context, ln *lane, o Origin, b wire.Batch, from uint64, m marker) error {
	records := b.Records
	switch {
	case m.Epoch == b.Epoch:
		records = trim(b.Records, m.Last)
		l.duplicates.WithLabelValues(b.Lane.String()).Add(float64(len(b.Records) - len(records)))
	case from > 1:
		// No marker, or a new epoch: what came before cannot be had here.
		gap, err := gapRecord(b.Lane, 1, from-1, "unknown to the cloud")
		if err != nil {
			return err
		}
		records = append([]wire.Record{gap}, records...)
	}
	messages, err := l.cut(o, b, records)
	if err != nil {
		return err
	}
	for len(messages) > 0 {
		n := min(len(messages), maxMessages)
		next := marker{Epoch: b.Epoch, Last: messages[n-1].last}
		if m, err = l.commit(ctx, ln, part{gateway: o.Gateway, messages: messages[:n], expect: m.at, next: next}); err != nil {
			return err
		}
		l.announce(b.Lane, o.Division, messages[:n])
		messages = messages[n:]
	}
	return nil
}

// trim drops the records that end at or below last, and narrows a gap record
// that begins there to what is really missing.
func trim(records []wire.Record, last uint64) []wire.Record {
	for len(records) > 0 && records[0].Seq <= last {
		records = records[1:]
	}
	if len(records) == 0 || records[0].Kind != wire.KindGap {
		return records
	}
	gap, err := wire.DecodeGap(records[0].Body) // Span decoded it before
	if err != nil || gap.First > last {
		return records
	}
	gap.First = last + 1
	narrowed := append([]wire.Record(nil), records...)
	if body, err := gap.Encode(); err == nil {
		narrowed[0].Body = body
	}
	return narrowed
}

// gapRecord is the cloud's own declaration of what it does not have.
func gapRecord(lane wire.Lane, first, last uint64, reason string) (wire.Record, error) {
	body, err := wire.Gap{First: first, Last: last, Reason: reason}.Encode()
	if err != nil {
		return wire.Record{}, fmt.Errorf("gap record: %w", err)
	}
	return wire.Record{
		ID: wire.NewEventID(), Lane: lane, Seq: last, Kind: wire.KindGap,
		Time: time.Now(), Clock: wire.ClockCloud, Body: body,
	}, nil
}

// cut makes one message of each run of records of equal kind, so that the
// order in the stream is the order of the sequence.
func (l *Log) cut(o Origin, b wire.Batch, records []wire.Record) ([]message, error) {
	var out []message
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].Kind == records[0].Kind {
			n++
		}
		subject, err := eventSubject(b.Lane, o, records[0].Kind)
		if err != nil {
			return nil, fmt.Errorf("append: %w", err)
		}
		if out, err = l.pack(out, subject, o, b, records[:n]); err != nil {
			return nil, err
		}
		records = records[n:]
	}
	return out, nil
}

// pack compresses a run, in halves if it is too big for one message.
func (l *Log) pack(out []message, subject string, o Origin, b wire.Batch, run []wire.Record) ([]message, error) {
	p, err := wire.Batch{Version: wire.Version, Gateway: o.Gateway, Epoch: b.Epoch, Lane: b.Lane, Records: run}.Encode()
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	data := l.enc.EncodeAll(p, nil)
	if len(data) > maxMessage && len(run) > 1 {
		if out, err = l.pack(out, subject, o, b, run[:len(run)/2]); err != nil {
			return nil, err
		}
		return l.pack(out, subject, o, b, run[len(run)/2:])
	}
	return append(out, message{subject: subject, kind: run[0].Kind, data: data, last: run[len(run)-1].Seq}), nil
}

// marker returns what is known of a gateway's lane, from memory or the stream.
func (ln *lane) marker(ctx context.Context, gateway string) (marker, error) {
	ln.mu.Lock()
	m, ok := ln.markers[gateway]
	ln.mu.Unlock()
	if ok {
		return m, nil
	}
	msg, err := ln.stream.GetLastMsgForSubject(ctx, markSubject(ln.id, gateway))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return marker{}, fmt.Errorf("%w: marker of %s: %w", ErrStore, gateway, err)
	default:
		if err := json.Unmarshal(msg.Data, &m); err != nil {
			return marker{}, fmt.Errorf("%w: marker of %s: %w", ErrStore, gateway, err)
		}
		m.at = msg.Sequence
	}
	ln.learn(gateway, m)
	return m, nil
}

func (ln *lane) learn(gateway string, m marker) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.markers[gateway] = m
}

func (ln *lane) forget(gateway string) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	delete(ln.markers, gateway)
}
