package eventlog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// fetchMessages and fetchBytes bound one request to a stream.
	fetchMessages = 256
	fetchBytes    = 1 << 20

	fetchTimeout = 10 * time.Second
)

// stored is one message as the stream gives it back.
type stored struct {
	subject string
	seq     uint64
	at      time.Time
	data    []byte
}

// fetch returns up to n messages per subject from sequence seq on, in stream
// order, and whether there are more. With several subjects only what precedes
// the end of each one's answer is returned, so that none is overtaken.
func (l *Log) fetch(ctx context.Context, ln *lane, subjects []string, seq uint64, n int) (out []stored, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	horizon := ^uint64(0)
	for _, subject := range subjects {
		part, rest, err := l.get(ctx, ln, request{Seq: seq, NextFor: subject, Batch: n, MaxBytes: fetchBytes})
		if err != nil {
			return nil, false, err
		}
		if rest && len(part) > 0 {
			more = true
			horizon = min(horizon, part[len(part)-1].seq)
		}
		out = append(out, part...)
	}
	if len(subjects) > 1 {
		slices.SortFunc(out, func(a, b stored) int { return int(int64(a.seq) - int64(b.seq)) })
		for len(out) > 0 && out[len(out)-1].seq > horizon {
			out = out[:len(out)-1]
		}
	}
	return out, more, nil
}

// request is the body of a batched direct get, ADR-31.
type request struct {
	Seq       uint64     `json:"seq,omitempty"`
	NextFor   string     `json:"next_by_subj"`
	Batch     int        `json:"batch"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// get runs one batched direct get and reports whether more would match.
func (l *Log) get(ctx context.Context, ln *lane, req request) (out []stored, more bool, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, false, err
	}
	inbox := l.nc.NewRespInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, false, fmt.Errorf("read stream: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := l.nc.PublishRequest("$JS.API.DIRECT.GET."+ln.name, inbox, body); err != nil {
		return nil, false, fmt.Errorf("read stream %s: %w", ln.name, err)
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, false, fmt.Errorf("read stream %s: %w", ln.name, err)
		}
		switch status := msg.Header.Get("Status"); status {
		case "":
			m, err := parseStored(msg)
			if err != nil {
				return nil, false, fmt.Errorf("read stream %s: %w", ln.name, err)
			}
			out = append(out, m)
		case "204": // the end of the answer
			return out, msg.Header.Get("Nats-Num-Pending") != "0", nil
		case "404": // nothing matches
			return out, false, nil
		default:
			return nil, false, fmt.Errorf("read stream %s: status %s %s", ln.name, status, msg.Header.Get("Description"))
		}
	}
}

func parseStored(msg *nats.Msg) (stored, error) {
	seq, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return stored{}, fmt.Errorf("sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, msg.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return stored{}, fmt.Errorf("timestamp: %w", err)
	}
	return stored{subject: msg.Header.Get(jetstream.SubjectHeader), seq: seq, at: at, data: msg.Data}, nil
}
