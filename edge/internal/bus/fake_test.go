package bus

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// fakeLine is a line in a synctest bubble: reply says what comes back to a
// request, and after how long; nil is silence.
type fakeLine struct {
	mu      sync.Mutex // guards the next four, which tests change on the way
	reply   func(tx []byte) ([]byte, time.Duration)
	openErr error
	opens   int
	gone    bool // the other end closed it

	isUp    bool
	stop    chan struct{}
	pending []byte
	at      time.Time
}

func (l *fakeLine) configure(Mode) error { return nil }
func (l *fakeLine) rest(d time.Duration) { time.Sleep(d) }

func (l *fakeLine) open(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opens++
	if l.openErr != nil {
		return l.openErr
	}
	l.isUp, l.pending, l.gone = true, nil, false
	return nil
}
func (l *fakeLine) isOpen() bool { return l.isUp }
func (l *fakeLine) shut()        { l.isUp = false }
func (l *fakeLine) interrupt()   { close(l.stop) }
func (l *fakeLine) send(tx []byte) error {
	l.mu.Lock()
	reply, after := l.reply(tx)
	l.mu.Unlock()
	l.pending, l.at = reply, time.Now().Add(after)
	return nil
}

func (l *fakeLine) discard() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return 0, errTest
	}
	if len(l.pending) > 0 && !l.at.After(time.Now()) {
		n := len(l.pending)
		l.pending = nil
		return n, nil
	}
	return 0, nil
}

func (l *fakeLine) receive(buf []byte, until time.Time) (int, error) {
	if end := time.Now().Add(patience); until.After(end) {
		until = end
	}
	ready := len(l.pending) > 0 && !l.at.After(until)
	if ready {
		until = l.at
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.stop:
		return 0, context.Canceled
	}
	if !ready {
		return 0, nil
	}
	n := copy(buf, l.pending)
	l.pending = nil
	return n, nil
}

// fakeDriver asks one request per job: its device number and the job's.
type fakeDriver struct {
	number byte
	jobs   []drivers.Job
	link   drivers.Link
	asked  []time.Time // by polls, not probes
	probes []time.Time
	wrote  []point.Value
	refuse bool
	closed bool
}

func (d *fakeDriver) Jobs() []drivers.Job { return d.jobs }
func (d *fakeDriver) Close() error        { d.closed = true; return nil }

func (d *fakeDriver) ask(ctx context.Context, job byte) error {
	tx := []byte{d.number, job}
	_, err := d.link.Exchange(ctx, tx, func(rx []byte) (int, error) {
		if len(rx) > 0 && rx[0] != d.number {
			return 0, drivers.ErrForeign
		}
		if len(rx) > 1 && rx[1] != job {
			return 0, drivers.ErrForeign
		}
		return 2 - len(rx), nil
	})
	return err
}

func (d *fakeDriver) Do(ctx context.Context, job int, emit func(point.Reading)) error {
	d.asked = append(d.asked, time.Now())
	if err := d.ask(ctx, byte(job)); err != nil {
		return err
	}
	if d.refuse {
		return drivers.ErrRefused
	}
	for _, p := range d.jobs[job].Points {
		emit(point.Reading{Point: p, At: time.Now(), Value: point.Float(1), Quality: point.Good})
	}
	return nil
}

func (d *fakeDriver) Probe(ctx context.Context) error {
	d.probes = append(d.probes, time.Now())
	return d.ask(ctx, 0xEE)
}

func (d *fakeDriver) Write(ctx context.Context, _ point.ID, v point.Value) error {
	d.wrote = append(d.wrote, v)
	return d.ask(ctx, 0xDD)
}

// rig is a bus over a fake line.
type rig struct {
	*Bus
	line  *fakeLine
	log   *logBuffer
	seen  map[point.ID][]time.Time
	beats []time.Time
	stop  func()
}

// newRig makes a bus whose devices all answer after 2 ms unless told otherwise.
func newRig(t *testing.T, opts Options) *rig {
	t.Helper()
	r := &rig{log: &logBuffer{}, seen: make(map[point.ID][]time.Time)}
	opts.ID, opts.Link = "b", "serial:/dev/fake"
	opts.Log = slog.New(slog.NewTextHandler(r.log, nil))
	opts.Emit = func(batch []point.Reading) {
		for _, reading := range batch {
			r.seen[reading.Point] = append(r.seen[reading.Point], time.Now())
		}
	}
	opts.Beat = func() { r.beats = append(r.beats, time.Now()) }
	b, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	r.Bus = b
	r.line = &fakeLine{stop: make(chan struct{}), reply: func(tx []byte) ([]byte, time.Duration) {
		return bytes.Clone(tx), 2 * time.Millisecond
	}}
	b.line = r.line
	return r
}

// device attaches a device with one job per period; a negative one is critical.
func (r *rig) device(t *testing.T, number byte, periods ...time.Duration) *fakeDriver {
	t.Helper()
	id := string(rune('a' + number))
	d := &fakeDriver{number: number, link: r.Link(id, Timing{})}
	for i, every := range periods {
		j := drivers.Job{Every: max(every, -every), Critical: every < 0, TxBytes: 8, RxBytes: 8}
		j.Points = []point.ID{point.MakeID(id, string(rune('0'+i)))}
		d.jobs = append(d.jobs, j)
	}
	if err := r.Attach(id, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// run starts the bus in the bubble; stop ends it and waits.
func (r *rig) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	r.stop = func() {
		cancel()
		wg.Wait()
	}
}

// silent makes some devices mute.
func (r *rig) silent(numbers ...byte) {
	r.line.mu.Lock()
	defer r.line.mu.Unlock()
	r.line.reply = func(tx []byte) ([]byte, time.Duration) {
		if bytes.IndexByte(numbers, tx[0]) >= 0 {
			return nil, 0
		}
		return bytes.Clone(tx), 2 * time.Millisecond
	}
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

var errTest = errors.New("of the test")
