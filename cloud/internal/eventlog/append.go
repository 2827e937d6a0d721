package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/protocol/wire"
)

const (
	// maxMessage is what one compressed run may weigh, and maxRun how many
	// records it may have: a page that begins in the middle of a run opens all
	// of it. maxSingle is for a record that cannot be halved; it has what the
	// broker grants the service beyond a gateway's payload, less the headers.
	maxMessage = wire.MaxPayload
	maxRun     = 1000
	maxSingle  = wire.MaxPayload + 32<<10

	appendTimeout = 10 * time.Second
	maxAttempts   = 8
)

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
// the batch again, unless it is ErrTooBig.
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
		if known, ok := m.lastOf(b.Epoch); ok && (last <= known || from > known+1) {
			if last <= known {
				l.duplicates.WithLabelValues(b.Lane.String()).Add(float64(len(b.Records)))
			}
			return known, nil
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
	known, ok := m.lastOf(b.Epoch)
	switch {
	case ok:
		records = trim(b.Records, known)
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
		next := m.moved(b.Epoch, messages[n-1].last)
		if m, err = l.commit(ctx, ln, part{origin: o, messages: messages[:n], expect: m.at, next: next}); err != nil {
			return err
		}
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
	if len(run) > maxRun {
		return l.packHalves(out, subject, o, b, run)
	}
	p, err := wire.Batch{Version: wire.Version, Gateway: o.Gateway, Epoch: b.Epoch, Lane: b.Lane, Records: run}.Encode()
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	data := l.enc.EncodeAll(p, nil)
	switch {
	case len(run) > 1 && len(data) > maxMessage:
		return l.packHalves(out, subject, o, b, run)
	case len(data) > maxSingle:
		return nil, fmt.Errorf("append: %w: record %d takes %d bytes compressed", ErrTooBig, run[0].Seq, len(data))
	}
	return append(out, message{subject: subject, kind: run[0].Kind, data: data, last: run[len(run)-1].Seq}), nil
}

func (l *Log) packHalves(out []message, subject string, o Origin, b wire.Batch, run []wire.Record) ([]message, error) {
	half := len(run) / 2
	out, err := l.pack(out, subject, o, b, run[:half])
	if err != nil {
		return nil, err
	}
	return l.pack(out, subject, o, b, run[half:])
}
