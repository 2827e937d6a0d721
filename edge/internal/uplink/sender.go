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
	stuckRetry = time.Second // doubled up to maxResend
)

// Why an ack is not followed.
var (
	errStale      = errors.New("ack of a batch that is not under way any more") // harmless: a duplicate, or late
	errOther      = errors.New("ack for another gateway or epoch")
	errBeyond     = errors.New("ack beyond what was sent")
	errRolledBack = errors.New("the cloud has records under numbers that this gateway never gave")
)

// sender moves one lane.
type sender struct {
	u       *Uplink
	lane    wire.Lane
	box     Outbox
	wake    chan struct{} // an ack has changed what is below
	failed  int           // attempts since the lane got stuck; run alone uses it
	stuckAt uint64        // and where that was
	raw     []byte        // and room for a batch

	mu        sync.Mutex // guards all below
	epoch     string     // the store's, until it turns out to be rolled back
	limit     uint64     // highest number that an earlier life may have sent
	rolled    rollback
	met       bool    // the cloud has said where it stands
	flight    []batch // published and not acked, oldest first
	confirmed uint64  // the cloud has everything up to here
	next      uint64  // the last number read for sending
	sent      uint64  // the highest number ever published
	resend    time.Duration
	rewound   time.Time
	interrupt context.CancelFunc // ends a wait for new records; nil when there is none
}

// batch is one under way.
type batch struct {
	from, upTo uint64
	at         time.Time
}

// rollback is what became of a store that was set back to an older state.
type rollback struct {
	found, told bool
	cloud       uint64 // where the cloud stood
	ours        uint64 // the highest number of ours
}

// step is what to do next.
type step struct {
	full     bool // nothing: the window is full
	epoch    string
	after    uint64    // where to read on
	room     int       // for so many bytes
	deadline time.Time // of the next resend
}

// parcel is a batch made ready.
type parcel struct {
	from, upTo uint64
	payload    []byte
}

func newSender(u *Uplink, lane wire.Lane, box Outbox) *sender {
	s := &sender{u: u, lane: lane, box: box, epoch: box.Epoch(), wake: make(chan struct{}, 1), resend: u.opt.ResendAfter}
	s.confirmed, s.limit = box.Position()
	s.next = s.confirmed
	return s
}

// run sends until ctx ends or a publish fails. Each session begins at the first
// record the cloud has not confirmed. A record that cannot be read or encoded
// holds up its own lane only.
func (s *sender) run(ctx context.Context, client mqtt.Client) error {
	s.mu.Lock()
	s.rewind(s.confirmed)
	s.resend = s.u.opt.ResendAfter
	s.mu.Unlock()
	for ctx.Err() == nil {
		s.tellRollback()
		st := s.progress(time.Now())
		if st.full {
			s.sleep(ctx, st.deadline)
			continue
		}
		recs, err := s.box.Next(st.after, st.room)
		if err == nil && len(recs) == 0 {
			s.freed(st)
			s.wait(ctx, st.after, st.deadline)
			continue
		}
		var p parcel
		if err == nil {
			p, err = s.pack(st.epoch, recs)
		}
		if err != nil {
			s.stuck(ctx, st, err)
			continue
		}
		s.freed(st)
		if err := s.publish(ctx, client, st, p); err != nil {
			return err
		}
	}
	return nil
}

// progress rewinds when the oldest batch waits too long, and says what to do.
// The first batch of a life is a single record: its ack tells where the cloud
// stands before more numbers are used that it may know from before a rollback.
func (s *sender) progress(now time.Time) step {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.flight) > 0 && now.Sub(s.flight[0].at) >= s.resend {
		s.rewind(s.confirmed)
		s.resend = min(2*s.resend, maxResend)
	}
	st := step{epoch: s.epoch, after: s.next, room: s.u.opt.BatchBytes, full: len(s.flight) >= s.u.opt.Window}
	if !s.met {
		st.room, st.full = 1, len(s.flight) > 0
	}
	if len(s.flight) > 0 {
		st.deadline = s.flight[0].at.Add(s.resend)
	}
	return st
}

// stuck waits before the next attempt, longer each time. Batches that are under
// way are sent again meanwhile.
func (s *sender) stuck(ctx context.Context, st step, err error) {
	if s.failed++; s.failed == 1 {
		s.u.opt.Log.Error("records cannot be sent: their lane waits", "lane", s.lane.String(), "after", st.after, "err", err)
	}
	s.stuckAt = st.after
	retry := time.Now().Add(min(stuckRetry<<min(s.failed-1, 6), maxResend))
	if !st.deadline.IsZero() && st.deadline.Before(retry) {
		retry = st.deadline
	}
	s.sleep(ctx, retry)
}

// freed ends what stuck began, once the records it was stuck at move.
func (s *sender) freed(st step) {
	if s.failed == 0 || st.after < s.stuckAt {
		return
	}
	s.u.opt.Log.Info("records are sent again", "lane", s.lane.String(), "attempts_failed", s.failed)
	s.failed = 0
}

// pack makes a batch of recs, or of as many as there are before one that
// cannot be encoded.
func (s *sender) pack(epoch string, recs []wire.Record) (p parcel, err error) {
	b := wire.Batch{Version: wire.Version, Gateway: s.u.opt.Gateway, Epoch: epoch, Lane: s.lane, Records: recs}
	for {
		if p.from, p.upTo, err = b.Span(); err == nil {
			p.payload, err = s.u.encode(b, &s.raw)
		}
		switch n := len(b.Records); {
		case err == nil:
			return p, nil
		case n > 1:
			b.Records = b.Records[:n/2]
		default:
			s.u.metrics.poison.WithLabelValues(s.lane.String()).Inc()
			return parcel{}, fmt.Errorf("encode record %d: %w", recs[0].Seq, err)
		}
	}
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

// publish sends p, which was read at st. An ack may come before it returns.
func (s *sender) publish(ctx context.Context, client mqtt.Client, st step, p parcel) error {
	s.mu.Lock()
	if s.next != st.after || s.epoch != st.epoch { // sent back meanwhile
		s.mu.Unlock()
		return nil
	}
	s.flight = append(s.flight, batch{from: p.from, upTo: p.upTo, at: time.Now()})
	s.next, s.sent = p.upTo, max(s.sent, p.upTo)
	s.mu.Unlock()
	token := client.Publish(wire.Topic(s.u.opt.Gateway, s.lane), 0, false, p.payload)
	select {
	case <-token.Done():
	case <-ctx.Done():
		return nil
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	s.u.metrics.batches.WithLabelValues(s.lane.String()).Inc()
	s.u.metrics.bytes.WithLabelValues(s.lane.String()).Add(float64(len(p.payload)))
	return nil
}

// acked follows an ack, or says why it does not.
func (s *sender) acked(a wire.Ack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Gateway != s.u.opt.Gateway || a.Epoch != s.epoch {
		return errOther
	}
	beyond := a.From > s.sent || a.UpTo > max(s.sent, s.limit)
	switch known := s.find(a.From) >= 0; {
	case known && beyond && !s.rolled.found:
		s.leaveEpoch(a.UpTo)
		return errRolledBack
	case beyond:
		return errBeyond
	case !known:
		return errStale
	}
	s.met = true
	if a.UpTo < a.From {
		return s.refusedBatch(a.UpTo)
	}
	if err := s.box.Acked(a.From, a.UpTo); err != nil {
		return err
	}
	s.settle(a.UpTo)
	return nil
}

// leaveEpoch begins an epoch of this life's own, because in the store's the
// cloud has other records under our next numbers and would take ours for
// duplicates; mu is held. What it may have already it gets once more, under the
// same event ids. With the process the epoch is forgotten.
func (s *sender) leaveEpoch(cloud uint64) {
	s.rolled = rollback{found: true, cloud: cloud, ours: max(s.sent, s.limit)}
	id := wire.NewEventID()
	s.epoch = fmt.Sprintf("%.40s-%x", s.epoch, id[:8])
	s.limit, s.sent, s.met = 0, s.confirmed, true
	s.rewind(s.confirmed)
	s.stir()
	if s.interrupt != nil {
		s.interrupt()
	}
}

// tellRollback tells people of a rollback, once.
func (s *sender) tellRollback() {
	s.mu.Lock()
	r := s.rolled
	s.rolled.told = r.found
	s.mu.Unlock()
	if !r.found || r.told {
		return
	}
	s.u.metrics.rolledBack.Inc()
	s.u.opt.Log.Error("the store was rolled back, or this gateway has a twin: what the cloud does not have is sent under a new epoch",
		"lane", s.lane.String(), "cloud_seq", r.cloud, "own_seq", r.ours, "err", errRolledBack,
		"hint", "restored from a backup or a disk image? Then nothing needs to be done. If not, find the box that runs with a copy of this one's disk and enrol it anew")
	s.u.opt.OnRolledBack(s.lane)
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
