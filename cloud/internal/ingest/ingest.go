// Package ingest takes batches from gateways into the event log and answers
// each with an ack.
//
// It guarantees: an ack goes out only after the log made its range durable;
// gateway and division come from the authenticated subject and the registry,
// never from the batch; batches of one gateway and lane are taken in the order
// they came; hostile bytes cost bounded memory and one log line per minute;
// what finds the queues full is dropped without an ack, so that the gateway
// sends it again.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/cloud/internal/eventlog"
	"gatehouse/cloud/internal/storm"
	"gatehouse/protocol/wire"
)

// Log is where batches go.
type Log interface {
	// Append stores what is new and returns up to where the lane is complete.
	Append(ctx context.Context, o eventlog.Origin, b wire.Batch) (upTo uint64, err error)
}

// Fleet knows the gateways.
type Fleet interface {
	// Division returns a gateway's 12-digit division.
	Division(gateway string) (division string, ok bool)
	// Seen notes that the gateway was heard of now.
	Seen(gateway string)
}

// Options say what to take and where it goes.
type Options struct {
	Conn       *nats.Conn   // required
	Log        Log          // required
	Fleet      Fleet        // required
	Logger     *slog.Logger // required
	Registerer prometheus.Registerer
	Now        func() time.Time // time.Now if nil
}

const (
	// workersPerLane work in parallel; a gateway always meets the same one. They
	// mostly wait for the disk, together.
	workersPerLane = 32
	// queueLen and queueBytes bound what waits for one worker: a gateway that
	// sends too much fills its own queue, not the lane's.
	queueLen   = 32
	queueBytes = 4 * wire.MaxPayload
	// laneBytes bounds what waits in one lane.
	laneBytes = 32 << 20
)

// Ingest is running ingestion. Close ends it.
type Ingest struct {
	opt     Options
	dec     *zstd.Decoder
	gate    *storm.Gate
	metrics *metrics
	lanes   []*lane
	seed    maphash.Seed

	cancel context.CancelFunc
	work   sync.WaitGroup
}

// lane is one lane's subscription and queues; no lane can crowd out another.
type lane struct {
	id      wire.Lane
	sub     *nats.Subscription
	queues  [workersPerLane]queue
	waiting atomic.Int64 // bytes

	mu     sync.Mutex // guards closed and the sending ends of the queues
	closed bool
}

// queue is what waits for one worker.
type queue struct {
	messages chan *nats.Msg
	waiting  atomic.Int64 // bytes
}

// Start subscribes and begins to work.
func Start(ctx context.Context, o Options) (*Ingest, error) {
	if o.Conn == nil || o.Log == nil || o.Fleet == nil || o.Logger == nil {
		return nil, errors.New("ingest: Conn, Log, Fleet and Logger are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(wire.MaxInflated))
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	in := &Ingest{opt: o, dec: dec, gate: storm.NewGate(time.Minute), metrics: newMetrics(), seed: maphash.MakeSeed()}
	if err := in.metrics.register(o.Registerer); err != nil {
		return nil, err
	}
	ctx, in.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, id := range wire.Lanes {
		if err := in.open(ctx, id); err != nil {
			in.Close()
			return nil, err
		}
	}
	return in, nil
}

// open starts the workers of one lane and subscribes for them.
func (in *Ingest) open(ctx context.Context, id wire.Lane) error {
	ln := &lane{id: id}
	for i := range ln.queues {
		q := &ln.queues[i]
		q.messages = make(chan *nats.Msg, queueLen)
		in.work.Go(func() {
			for m := range q.messages {
				in.handle(ctx, ln.id, m)
				q.waiting.Add(-int64(len(m.Data)))
				ln.waiting.Add(-int64(len(m.Data)))
			}
		})
	}
	in.lanes = append(in.lanes, ln)
	sub, err := in.opt.Conn.Subscribe("gw.*.v1."+id.String(), func(m *nats.Msg) { in.enqueue(ln, m) })
	if err != nil {
		return fmt.Errorf("ingest: subscribe to lane %s: %w", id, err)
	}
	ln.sub = sub
	if err := sub.SetPendingLimits(1024, laneBytes); err != nil {
		return fmt.Errorf("ingest: lane %s: %w", id, err)
	}
	return nil
}

// enqueue hands a message to its gateway's worker, or drops it. It is called
// by one goroutine per lane.
func (in *Ingest) enqueue(ln *lane, m *nats.Msg) {
	q := &ln.queues[maphash.String(in.seed, m.Subject)%workersPerLane]
	size := int64(len(m.Data))
	if q.waiting.Load()+size <= queueBytes && ln.waiting.Load()+size <= laneBytes && ln.put(q, m) {
		return
	}
	in.metrics.batches.WithLabelValues(ln.id.String(), dropped).Inc()
	in.warn("ingest is overloaded, gateways will send again", "", errors.New("queue full"))
}

// put hands m to a worker if its queue is open and has a place.
func (ln *lane) put(q *queue, m *nats.Msg) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		return false
	}
	size := int64(len(m.Data))
	q.waiting.Add(size)
	ln.waiting.Add(size)
	select {
	case q.messages <- m:
		return true
	default:
		q.waiting.Add(-size)
		ln.waiting.Add(-size)
		return false
	}
}

// closeGrace is how long what was taken may still use to get into the log.
const closeGrace = 2 * time.Second

// Close stops taking, finishes what was taken, and waits for it.
func (in *Ingest) Close() {
	late := time.AfterFunc(closeGrace, in.cancel)
	defer late.Stop()
	for _, ln := range in.lanes {
		if ln.sub != nil {
			drain(ln.sub)
		}
		ln.close()
	}
	in.work.Wait()
	in.cancel()
	in.dec.Close()
}

// close ends the queues; a callback that drain gave up on finds them closed.
func (ln *lane) close() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.closed = true
	for i := range ln.queues {
		close(ln.queues[i].messages)
	}
}

// drain ends a subscription and waits, for a while, until its callback will
// not run again.
func drain(sub *nats.Subscription) {
	closed := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(closed) })
	if err := sub.Drain(); err != nil {
		return // the connection is closed, and with it the callback
	}
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
	}
}

// handle takes one batch and acks it.
func (in *Ingest) handle(ctx context.Context, id wire.Lane, m *nats.Msg) {
	start := time.Now()
	gateway := strings.Split(m.Subject, ".")[1]
	ack, records, result, err := in.take(ctx, id, gateway, m.Data)
	in.metrics.batches.WithLabelValues(id.String(), result).Inc()
	if err != nil {
		in.warn("batch "+result, gateway, err)
		return
	}
	if result == accepted {
		in.metrics.records.WithLabelValues(id.String()).Add(float64(records))
		in.metrics.seconds.WithLabelValues(id.String()).Observe(time.Since(start).Seconds())
	}
	in.opt.Fleet.Seen(gateway)
	p, err := ack.Encode()
	if err == nil {
		err = in.opt.Conn.Publish("gw."+gateway+".v1.ack", p)
	}
	if err != nil {
		in.warn("ack not sent", gateway, err)
	}
}

// take decodes and stores one payload.
func (in *Ingest) take(ctx context.Context, id wire.Lane, gateway string, p []byte) (wire.Ack, int, string, error) {
	division, ok := in.opt.Fleet.Division(gateway)
	if !ok {
		return wire.Ack{}, 0, refused, errors.New("gateway is not registered")
	}
	b, err := in.decode(p)
	if err != nil {
		return wire.Ack{}, 0, refused, err
	}
	if b.Gateway != gateway || b.Lane != id {
		return wire.Ack{}, 0, refused, fmt.Errorf("batch says gateway %q, lane %s; it came on lane %s", b.Gateway, b.Lane, id)
	}
	from, _, err := b.Span()
	if err != nil {
		return wire.Ack{}, 0, refused, err
	}
	upTo, err := in.opt.Log.Append(ctx, eventlog.Origin{Gateway: gateway, Division: division}, b)
	if errors.Is(err, eventlog.ErrTooBig) {
		return wire.Ack{}, 0, refused, err
	}
	if err != nil {
		return wire.Ack{}, 0, failed, err
	}
	result := accepted
	if upTo < from {
		result = hole
	}
	ack := wire.Ack{Gateway: gateway, Epoch: b.Epoch, Lane: id, From: from, UpTo: upTo, CloudTime: in.opt.Now()}
	return ack, len(b.Records), result, nil
}

// warn logs the first of its kind at once and then once a minute with a count.
func (in *Ingest) warn(what, gateway string, err error) {
	if held, ok := in.gate.Pass(what + "\x00" + gateway); ok {
		in.opt.Logger.Warn(what, "gateway", gateway, "err", err, "alike_before", held)
	}
}
