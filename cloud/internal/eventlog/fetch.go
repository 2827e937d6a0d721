package eventlog

import (
	"cmp"
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

// fetch returns messages from sequence seq on, in stream order, and how far
// they go: what the subjects select up to horizon is all there. It asks for up
// to n messages per subject and never beyond last, because the stream grows
// between one subject's answer and the next.
func (l *Log) fetch(ctx context.Context, ln *lane, subjects []string, seq, last uint64, n int) (out []stored, horizon uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	horizon = last
	for _, subject := range subjects {
		part, more, err := l.get(ctx, ln, request{Seq: seq, NextFor: subject, Batch: n, MaxBytes: fetchBytes})
		if err != nil {
			return nil, 0, err
		}
		if more && len(part) > 0 {
			horizon = min(horizon, part[len(part)-1].seq)
		}
		out = append(out, part...)
	}
	slices.SortFunc(out, func(a, b stored) int { return cmp.Compare(a.seq, b.seq) })
	for len(out) > 0 && out[len(out)-1].seq > horizon {
		out = out[:len(out)-1]
	}
	return out, horizon, nil
}

// oldest returns the sequence of the first event the lane still has, or the
// one after last if it has none. The stream's own first sequence would not do:
// the marker of a silent gateway outlives everything around it.
func (l *Log) oldest(ctx context.Context, ln *lane, last uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	first, _, err := l.get(ctx, ln, request{Seq: 1, NextFor: "ev." + ln.id.String() + ".>", Batch: 1})
	if err != nil {
		return 0, err
	}
	if len(first) == 0 {
		return last + 1, nil
	}
	return min(first[0].seq, last+1), nil
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
