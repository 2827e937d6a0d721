package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gatehouse/protocol/wire"
)

const (
	maxResend  = time.Minute
	rewindRest = time.Second // one hole is reported once per batch behind it
	readRetry  = time.Second
)

// Why an ack is not followed.
var (
	errStale  = errors.New("ack of a batch that is not under way any more") // harmless: a duplicate, or late
	errOther  = errors.New("ack for another gateway or epoch")
	errBeyond = errors.New("ack beyond what was sent")
)

// sender moves one lane.
type sender struct {
	u     *Uplink
	lane  wire.Lane
	box   Outbox
	wake  chan struct{} // an ack has changed what is below
	limit uint64        // highest number that an earlier life may have sent

	mu        sync.Mutex // guards all below
	flight    []batch    // published and not acked, oldest first
	confirmed uint64     // the cloud has everything up to here
	next      uint64     // the last number read for sending
	sent      uint64     // the highest number ever published
	resend    time.Duration
	rewound   time.Time
	interrupt context.CancelFunc // ends a wait for new records; nil when there is none
}

// batch is one under way.
type batch struct {
	from, upTo uint64
	at         time.Time
}

func newSender(u *Uplink, lane wire.Lane, box Outbox) *sender {
	s := &sender{u: u, lane: lane, box: box, wake: make(chan struct{}, 1), resend: u.opt.ResendAfter}
	s.confirmed, s.limit = box.Position()
	s.next = s.confirmed
	return s
}

// run sends until ctx ends or a publish fails. Each session begins at the first
// record the cloud has not confirmed.
func (s *sender) run(ctx context.Context, client mqtt.Client) error {
	s.mu.Lock()
	s.rewind(s.confirmed)
	s.resend = s.u.opt.ResendAfter
	s.mu.Unlock()
	for ctx.Err() == nil {
		full, next, deadline := s.progress(time.Now())
		if full {
			s.sleep(ctx, deadline)
			continue
		}
		recs, err := s.box.Next(next, s.u.opt.BatchBytes)
		if err != nil {
			s.u.opt.Log.Error("records cannot be read for sending", "lane", s.lane.String(), "after", next, "err", err)
			pause(ctx, readRetry)
			continue
		}
		if len(recs) == 0 {
			s.wait(ctx, next, deadline)
			continue
		}
		if err := s.publish(ctx, client, next, recs); err != nil {
			return err
		}
	}
	return nil
}

// progress rewinds when the oldest batch waits too long, and says whether the
// window is full, where to read on and when the next resend is due.
func (s *sender) progress(now time.Time) (full bool, next uint64, deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.flight) > 0 && now.Sub(s.flight[0].at) >= s.resend {
		s.rewind(s.confirmed)
		s.resend = min(2*s.resend, maxResend)
	}
	if len(s.flight) > 0 {
		deadline = s.flight[0].at.Add(s.resend)
	}
	return len(s.flight) >= s.u.opt.Window, s.next, deadline
}

// rewind forgets what is under way; mu is held.
func (s *sender) rewind(to uint64) {
	s.flight, s.next = s.flight[:0], to
}

// sleep waits for an ack or the deadline.
func (s *sender) sleep(ctx context.Context, deadline time.Time) {
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case <-s.wake:
	case <-t.C:
	case <-ctx.Done():
	}
}

// wait waits for records beyond next, for the deadline (or a minute), or for an
// ack that sends us back.
func (s *sender) wait(ctx context.Context, next uint64, deadline time.Time) {
	if deadline.IsZero() {
		deadline = time.Now().Add(maxResend)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	s.mu.Lock()
	if s.next != next { // sent back meanwhile
		s.mu.Unlock()
		return
	}
	s.interrupt = cancel
	s.mu.Unlock()
	err := s.box.Wait(ctx, next)
	s.mu.Lock()
	s.interrupt = nil
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil { // the store is closed: nothing will come
		<-ctx.Done()
	}
}

// publish sends recs, which follow after. An ack may come before it returns.
func (s *sender) publish(ctx context.Context, client mqtt.Client, after uint64, recs []wire.Record) error {
	b := wire.Batch{Version: wire.Version, Gateway: s.u.opt.Gateway, Epoch: s.box.Epoch(), Lane: s.lane, Records: recs}
	from, upTo, err := b.Span()
	if err != nil {
		return fmt.Errorf("lane %v: %w", s.lane, err)
	}
	payload, err := s.u.encode(b)
	if err != nil {
		return fmt.Errorf("lane %v, records %d..%d: %w", s.lane, from, upTo, err)
	}
	s.mu.Lock()
	if s.next != after { // sent back meanwhile
		s.mu.Unlock()
		return nil
	}
	s.flight = append(s.flight, batch{from: from, upTo: upTo, at: time.Now()})
	s.next, s.sent = upTo, max(s.sent, upTo)
	s.mu.Unlock()
	token := client.Publish(wire.Topic(s.u.opt.Gateway, s.lane), 0, false, payload)
	select {
	case <-token.Done():
	case <-ctx.Done():
		return nil
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	s.u.metrics.batches.WithLabelValues(s.lane.String()).Inc()
	s.u.metrics.bytes.WithLabelValues(s.lane.String()).Add(float64(len(payload)))
	return nil
}

// acked follows an ack, or says why it does not.
func (s *sender) acked(a wire.Ack) error {
	if a.Gateway != s.u.opt.Gateway || a.Epoch != s.box.Epoch() {
		return errOther
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.From > s.sent || a.UpTo > max(s.sent, s.limit) {
		return errBeyond
	}
	i := s.find(a.From)
	if i < 0 {
		return errStale
	}
	if a.UpTo < a.From {
		return s.refusedBatch(a.UpTo)
	}
	if err := s.box.Acked(a.From, a.UpTo); err != nil {
		return err
	}
	s.settle(a.UpTo)
	return nil
}

func (s *sender) find(from uint64) int {
	for i, b := range s.flight {
		if b.from == from {
			return i
		}
	}
	return -1
}

// settle takes everything up to upTo off the window; mu is held. The cloud may
// have more than this life has sent: then that is where to go on.
func (s *sender) settle(upTo uint64) {
	s.confirmed = upTo
	s.resend = s.u.opt.ResendAfter
	n := 0
	for n < len(s.flight) && s.flight[n].upTo <= upTo {
		n++
	}
	s.flight = append(s.flight[:0], s.flight[n:]...)
	if len(s.flight) > 0 && s.flight[0].from <= upTo || s.next < upTo {
		s.rewind(upTo) // it took part of a batch, or more than we are at
	}
	s.stir()
}

// refusedBatch goes back to where the cloud stands; mu is held. Behind one lost
// batch every later one is refused too: the first such ack is followed.
func (s *sender) refusedBatch(stands uint64) error {
	now := time.Now()
	if stands == s.confirmed && now.Sub(s.rewound) < rewindRest {
		return errStale
	}
	s.confirmed, s.rewound = stands, now
	s.rewind(stands)
	s.stir()
	return nil
}

// stir wakes the sender; mu is held.
func (s *sender) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
	if s.interrupt != nil && s.next < s.sent {
		s.interrupt()
	}
}
