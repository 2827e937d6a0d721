// Package bus owns physical links: one goroutine per serial port, serial
// server or Modbus TCP endpoint, in which every driver call on that link runs.
//
// It guarantees: at most one request is in flight on a link; timing, retries,
// back-off and fairness live here and nowhere else; jobs run earliest deadline
// first, life safety before the rest, and a slot that was missed is skipped,
// never made up in a burst; a device that does not answer is asked at most once
// per cycle, and never while a life-safety job is due; a port that is missing,
// refused or dropped is opened again for ever, with jittered back-off, and a
// storm of such failures is one log line; steady-state polling does not
// allocate.
//
// A reply that comes too late is never taken for the reply to another request.
// With Modbus TCP the transaction id sees to that. Elsewhere the line is
// drained before each request, and a device that let a request time out is left
// alone for another timeout (four, once it is demoted): only a reply later than
// that, of the same device, function and length, could not be told apart.
//
// When devices fall silent one after the other, each that follows has a short try
// first, so that those that live are found among the dead in little more than one
// timeout; whoever was tried in vain waits behind the others, but not for ever.
//
// An order (a write, a person's command) goes ahead of every poll. It is not sent
// once whoever gave it has given up; one that has begun tells its outcome; a
// command is never sent twice; and no reply that comes late confirms another.
//
// A device that talks unasked has its link for itself.
//
// A write is confirmed by a reply that repeats it, and some RS-485 adapters play
// back what is sent: a dead device would seem to obey. The first read on the
// line shows such an adapter, be its device dead or alive, and from then on the
// echo of a write is no confirmation; before the first write something is read.
package bus

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// idleCheck is how long a link may be silent before it is looked at again.
const idleCheck = 5 * time.Second

// Options describe one bus.
type Options struct {
	ID      string
	Link    string          // see ParseLink
	Framing drivers.Framing // default RTU on a serial line and from a DTU, TCP on a TCP link
	Timeout time.Duration   // until a reply is complete; default 1 s, 2 s below 4800 baud
	Gap     time.Duration   // silence before a request; default 3.5 characters
	Retries int             // further attempts before a poll has failed

	Log        *slog.Logger          // carries the id of the bus, if it should
	Registerer prometheus.Registerer // nil: metrics are kept, not published
	Acceptor   *Acceptor             // of a link that is dialled in to; shared by all buses
	Now        func() time.Time      // default time.Now

	// Emit takes one batch per finished job, in the bus goroutine; the slice is
	// used again after it returns.
	Emit func([]point.Reading)
	// Phase moves the grid on which periods begin. Buses of one phase wake
	// together, which is cheap; a few phases keep them from waking all at once.
	Phase time.Duration
	// Beat is called after every exchange or failed attempt, and at least every
	// two seconds while Emit and the port do not block: the sign that this bus
	// is not stuck.
	Beat func()
}

// Timing is how one device wants to be spoken to; zero means as the bus does.
type Timing struct {
	Timeout time.Duration
	Gap     time.Duration
	// Wake is sent before each request, and WakePause waited after it.
	Wake      []byte
	WakePause time.Duration
	// Mode is the device's own line setting, on a local port.
	Mode Mode
	// Reveal is how many bytes of a frame a trace may show; 0: all. It keeps card
	// numbers and keys out of it.
	Reveal int
}

// Bus is one physical link and the devices on it.
type Bus struct {
	opts    Options
	link    Link
	line    line
	metrics *metrics
	orders  chan order
	trace   trace
	ended   chan struct{} // closed when Run is about to return
	up      atomic.Bool

	// All below belongs to the goroutine of Run.
	linked    []*device // those that were given a link
	devices   []*device // those that are attached
	jobs      []*job
	source    drivers.Source // the one device that talks unasked, or nil
	heard     window         // what it said so far
	mode      Mode           // of the line now
	received  int            // bytes that came since the last request
	misses    int            // requests without a reply, in a row
	vain      time.Time      // when a job that had been tried in vain was tried again
	heardAt   time.Time      // when the last byte came, or the link was opened
	learned   bool           // whether the line plays back what is sent on it
	held      []order        // those that a late reply to an earlier one could confirm
	hurry     bool           // the device has only a short try
	batch     []point.Reading
	widest    int // points of the job that has most
	collect   func(point.Reading)
	rx        [rxSize]byte
	echo      bool      // the line plays back what is sent on it
	lastByte  time.Time // when the line was last busy
	timer     *time.Timer
	base      time.Time // the grid of periods starts here
	cycle     time.Duration
	nextProbe time.Time
	probed    int // index of the device probed last
	redial    redial
}

// Up reports whether the link could be opened at the last try.
func (b *Bus) Up() bool { return b.up.Load() }

// Address is the part of the link a person recognises it by.
func (b *Bus) Address() string { return b.link.String() }

// New checks the options and parses the link; it does no I/O.
func New(opts Options) (*Bus, error) {
	link, err := ParseLink(opts.Link)
	if err != nil {
		return nil, fmt.Errorf("bus %s: %w", opts.ID, err)
	}
	if err := opts.complete(link); err != nil {
		return nil, fmt.Errorf("bus %q: %w", opts.ID, err)
	}
	line, err := newLine(link, opts.Acceptor)
	if err != nil {
		return nil, fmt.Errorf("bus %s: %w", opts.ID, err)
	}
	m, err := newMetrics(opts.Registerer, opts.ID)
	if err != nil {
		line.interrupt()
		return nil, fmt.Errorf("bus %s: %w", opts.ID, err)
	}
	b := &Bus{
		opts:    opts,
		link:    link,
		line:    line,
		metrics: m,
		orders:  make(chan order, 4),
		ended:   make(chan struct{}),
		mode:    link.Mode,
		cycle:   max(time.Second, 4*opts.Timeout),
	}
	b.collect = func(r point.Reading) { b.batch = append(b.batch, r) }
	return b, nil
}

// complete fills in defaults and reports every fault.
func (o *Options) complete(link Link) error {
	var errs []error
	if o.ID == "" {
		errs = append(errs, errors.New("no id"))
	}
	if o.Emit == nil {
		errs = append(errs, errors.New("nobody takes the readings (Emit)"))
	}
	if o.Timeout < 0 || o.Gap < 0 || o.Retries < 0 {
		errs = append(errs, errors.New("timeout, gap and retries cannot be negative"))
	}
	switch {
	case o.Framing == "" && (link.Serial || link.Listen):
		o.Framing = drivers.RTU
	case o.Framing == "":
		o.Framing = drivers.TCP
	case o.Framing == drivers.TCP && link.Serial:
		errs = append(errs, errors.New("framing tcp on a serial line: use rtu"))
	case o.Framing != drivers.RTU && o.Framing != drivers.TCP:
		errs = append(errs, fmt.Errorf("framing %q: want rtu or tcp", o.Framing))
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout(link, o.Framing)
	}
	if o.Gap == 0 && o.Framing == drivers.RTU {
		o.Gap = frameGap(link.Mode)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Beat == nil {
		o.Beat = func() {}
	}
	return errors.Join(errs...)
}

// Defaults of a bus that nobody said more about.
const (
	assumedBaud    = 9600                   // behind a serial server, as most are
	thinkTime      = 200 * time.Millisecond // what a serial slave may take before it begins to answer
	networkTimeout = time.Second
	longestFrame   = 256 // bytes of the longest Modbus RTU frame, MODBUS over Serial Line V1.02, 2.5.1.1
	fastBaud       = 19200
	fastGap        = 1750 * time.Microsecond
)

// defaultTimeout outlasts the longest reply.
func defaultTimeout(link Link, framing drivers.Framing) time.Duration {
	if framing == drivers.TCP {
		return networkTimeout
	}
	mode := link.Mode
	mode.Baud = cmp.Or(mode.Baud, assumedBaud)
	timeout := thinkTime + mode.charTime(longestFrame)
	if !link.Serial {
		timeout += networkTimeout
	}
	return timeout.Round(time.Millisecond)
}

// frameGap is the silence between RTU frames: 3.5 characters, and 1.75 ms above
// 19200 baud (MODBUS over Serial Line V1.02, 2.5.1.1).
func frameGap(mode Mode) time.Duration {
	mode.Baud = cmp.Or(mode.Baud, assumedBaud)
	if mode.Baud > fastBaud {
		return fastGap
	}
	return mode.charTime(7) / 2
}

// Link returns what the factory of one device's driver gets. It must not be
// called once Run was.
func (b *Bus) Link(id string, t Timing) drivers.Link {
	own := b.link
	if t.Mode != (Mode{}) && b.link.Serial {
		own.Mode = t.Mode
	}
	if t.Timeout == 0 {
		t.Timeout = b.opts.Timeout
		if own.Mode != b.link.Mode {
			t.Timeout = max(t.Timeout, defaultTimeout(own, b.opts.Framing))
		}
	}
	if t.Gap == 0 {
		t.Gap = b.opts.Gap
		if own.Mode != b.link.Mode {
			t.Gap = max(t.Gap, frameGap(own.Mode))
		}
	}
	t.Mode = own.Mode
	b.cycle = max(b.cycle, 4*t.Timeout)
	dev := &device{bus: b, id: id, timing: b.share(t)}
	b.linked = append(b.linked, dev)
	return dev
}

// share returns the one copy of a timing that most devices of a bus have.
func (b *Bus) share(t Timing) *Timing {
	for _, dev := range b.linked {
		if dev.timing.equal(t) {
			return dev.timing
		}
	}
	return &t
}

func (t *Timing) equal(other Timing) bool {
	return t.Timeout == other.Timeout && t.Gap == other.Gap && bytes.Equal(t.Wake, other.Wake) &&
		t.WakePause == other.WakePause && t.Mode == other.Mode && t.Reveal == other.Reveal
}

// find returns the device of that id, or nil.
func find(devices []*device, id string) *device {
	for _, dev := range devices {
		if dev.id == id {
			return dev
		}
	}
	return nil
}

// Attach puts a device on the bus. It must not be called once Run was.
func (b *Bus) Attach(id string, d drivers.Driver) error {
	dev := find(b.linked, id)
	switch {
	case dev == nil:
		return fmt.Errorf("bus %s: device %s was given no link", b.opts.ID, id)
	case dev.driver != nil:
		return fmt.Errorf("bus %s: device %s is attached twice", b.opts.ID, id)
	}
	source, talks := d.(drivers.Source)
	if (talks || b.source != nil) && len(b.devices) > 0 {
		return fmt.Errorf("bus %s: device %s talks unasked or shares the line with one that does: such a device needs a bus of its own", b.opts.ID, id)
	}
	var jobs []*job
	for i, spec := range d.Jobs() {
		if spec.Every <= 0 {
			return fmt.Errorf("bus %s: device %s: job %d has no period", b.opts.ID, id, i)
		}
		j := &job{dev: dev, index: i, every: spec.Every, critical: spec.Critical, size: spec.TxBytes + spec.RxBytes, requests: max(spec.Requests, 1)}
		jobs = append(jobs, j)
		b.widest = max(b.widest, len(spec.Points))
	}
	dev.driver, dev.metrics, b.source = d, b.metrics.device(id), source
	dev.writer, _ = d.(drivers.Writer)
	b.devices = append(b.devices, dev)
	dev.jobs = jobs
	b.jobs = append(b.jobs, jobs...)
	return nil
}

// Run polls until ctx ends; no fault of a port or device ends it. It closes
// the attached drivers before it returns what they had to say about that.
func (b *Bus) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, b.line.interrupt)
	defer stop()
	b.start()
	for ctx.Err() == nil {
		b.step(ctx)
	}
	b.timer.Stop()
	b.line.shut()
	close(b.ended)
	b.metrics.leave(b.opts.Registerer)
	var errs []error
	for _, dev := range b.devices {
		if err := dev.driver.Close(); err != nil {
			errs = append(errs, fmt.Errorf("closing device %s: %w", dev.id, err))
		}
	}
	return errors.Join(errs...)
}

// start lays the grid of periods and says so if the plan does not fit the line.
func (b *Bus) start() {
	now := b.opts.Now()
	// Whole minutes of the wall clock: buses started at different moments still
	// wake together. The monotonic reading stays, so a clock step moves nothing.
	b.base = now.Add(b.opts.Phase - time.Duration(now.UnixNano()%int64(time.Minute)))
	if b.base.After(now) {
		b.base = b.base.Add(-time.Minute)
	}
	for _, j := range b.jobs {
		j.due = b.gridBefore(now, j.every)
	}
	b.timer = time.NewTimer(0)
	b.batch = make([]point.Reading, 0, b.widest)
	b.metrics.budget.Store(math.Float64bits(b.Budget().Ratio))
	if what, hint := b.Warning(); what != "" {
		b.opts.Log.Warn(what, "link", b.link.String(), "hint", hint)
	}
}

// step does the one most urgent thing.
func (b *Bus) step(ctx context.Context) {
	select {
	case o := <-b.orders:
		b.obey(ctx, o)
		return
	default:
	}
	now := b.opts.Now()
	if o, ok := b.release(now); ok {
		b.obey(ctx, o)
		return
	}
	if !b.line.isOpen() {
		if wait := b.redial.at; now.Before(wait) {
			b.wait(ctx, now, wait)
			return
		}
		b.connect(ctx)
		return
	}
	if b.source != nil {
		b.listen(ctx)
		return
	}
	task, wake := b.pick(now)
	if task != (nextTask{}) && !b.alive(now) {
		return
	}
	switch {
	case task.job != nil:
		b.poll(ctx, task.job, now)
	case task.probe != nil:
		b.probe(ctx, task.probe, now)
	default:
		b.wait(ctx, now, wake)
	}
}

// alive looks, after a long silence, whether the other end is still there: many
// devices close a connection they find idle, and that is no failed poll.
func (b *Bus) alive(now time.Time) bool {
	if now.Sub(b.lastByte) < idleCheck {
		return true
	}
	n, err := b.line.discard()
	b.foreign(n)
	if err != nil {
		b.line.shut()
		return false
	}
	return true
}

// wait sleeps until a moment, a write, or the next beat.
func (b *Bus) wait(ctx context.Context, now, until time.Time) {
	for _, o := range b.held {
		if ready := o.dev.settled; ready.Before(until) {
			until = ready
		}
	}
	b.timer.Reset(min(until.Sub(now), patience))
	select {
	case <-ctx.Done():
	case o := <-b.orders:
		b.obey(ctx, o)
	case <-b.timer.C:
	}
	b.opts.Beat()
}
