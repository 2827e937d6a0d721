// Package lineframe reads devices whose frames a description alone tells from
// noise: modules that answer one fixed request, and readers that talk unasked.
//
// It guarantees: a value is emitted only from a frame that is whole, as long as
// every point needs, and right by its check value; a device that talks unasked
// must have end bytes or a check value, so that a frame cut short and the one
// behind it are never taken for one; all points of a frame are emitted together; what is no number is a Fault, never a value; a card or a
// code leaves the driver only as a keyed hash, and is in no log and no error;
// nothing is sent but the profile's request; steady-state polling does not
// allocate.
package lineframe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/internal/meaning"
	"gatehouse/protocol/lineframe"
	"gatehouse/protocol/point"
)

// reader turns frames into readings.
type reader struct {
	device  string
	link    drivers.Link
	log     *slog.Logger
	now     func() time.Time
	hash    func(credential []byte) string
	codec   *lineframe.Codec
	framer  drivers.Framer
	fields  []field
	points  *meaning.Set
	secrets []secret
}

// New builds the driver of one device. It reports every fault of the spec. A
// device that talks unasked is a drivers.Source.
func New(spec drivers.Spec, deps drivers.Deps) (drivers.Driver, error) {
	if deps.Link == nil {
		return nil, fmt.Errorf("lineframe device %s: no link", spec.Device)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	codec, err := check(spec, deps)
	if err != nil {
		return nil, err
	}
	r := reader{
		device: spec.Device, link: deps.Link, log: deps.Log, now: deps.Now, hash: deps.Card,
		codec: codec, framer: adapt(codec),
	}
	var levels []*drivers.PointSpec
	for i := range spec.Points {
		p := &spec.Points[i]
		if credential(p) {
			r.secrets = append(r.secrets, newSecret(p))
			continue
		}
		levels = append(levels, p)
		r.fields = append(r.fields, newField(p))
	}
	r.points = meaning.New(levels)
	if len(spec.Frame.Request) == 0 {
		return &Listener{reader: r}, nil
	}
	return newPoller(spec, r), nil
}

// adapt gives a codec the errors that the bus knows.
func adapt(c *lineframe.Codec) drivers.Framer {
	return func(rx []byte) (int, error) {
		need, err := c.Judge(rx)
		switch {
		case err == nil:
			return need, nil
		case errors.Is(err, lineframe.ErrDamaged):
			return 0, drivers.ErrDamaged
		}
		return 0, drivers.ErrForeign
	}
}

// take hands a frame's fields to the points.
func (r *reader) take(frame []byte) {
	for i := range r.fields {
		f := &r.fields[i]
		r.points.Put(i, f.raw(r.codec.Field(frame, f.at, f.size)))
	}
}

// Poller is a device that answers one request.
type Poller struct {
	reader
	request []byte
	public  []drivers.Job
}

func newPoller(spec drivers.Spec, r reader) *Poller {
	job := drivers.Job{TxBytes: len(spec.Frame.Request), RxBytes: r.codec.Longest()}
	for i := range spec.Points {
		p := &spec.Points[i]
		if every := period(spec, p); i == 0 || every < job.Every {
			job.Every = every
		}
		job.Critical = job.Critical || p.Critical
		job.Points = append(job.Points, p.ID)
	}
	return &Poller{reader: r, request: spec.Frame.Request, public: []drivers.Job{job}}
}

// Jobs returns the one job.
func (d *Poller) Jobs() []drivers.Job { return d.public }

// Close has nothing to release: the bus owns the link.
func (d *Poller) Close() error { return nil }

// Do asks for a frame and emits each point once.
func (d *Poller) Do(ctx context.Context, index int, emit func(point.Reading)) error {
	if index != 0 {
		return fmt.Errorf("lineframe: no job %d", index)
	}
	if err := d.read(ctx); err != nil {
		return err
	}
	at := d.now()
	if d.points.Doubtful() {
		// Doubt never hides danger: a spike is told from a leak by reading again,
		// and if that fails, what was seen stands.
		if err := d.read(ctx); err != nil {
			d.points.Emit(at, emit)
			return err
		}
		d.points.Confirm()
		at = d.now()
	}
	d.points.Emit(at, emit)
	return nil
}

func (d *Poller) read(ctx context.Context) error {
	frame, err := d.link.Exchange(ctx, d.request, d.framer)
	if err != nil {
		return err
	}
	d.take(frame)
	return nil
}

// Probe asks for a frame: there is no shorter question.
func (d *Poller) Probe(ctx context.Context) error {
	_, err := d.link.Exchange(ctx, d.request, d.framer)
	return err
}

// Listener is a device that talks unasked. It implements drivers.Source.
type Listener struct{ reader }

// Jobs returns none.
func (d *Listener) Jobs() []drivers.Job { return nil }

// Do fails: there is no job.
func (d *Listener) Do(_ context.Context, index int, _ func(point.Reading)) error {
	return fmt.Errorf("lineframe: no job %d: the device talks unasked", index)
}

// Close has nothing to release: the bus owns the link.
func (d *Listener) Close() error { return nil }

// Probe waits for a frame, the only proof there is, and drops it.
func (d *Listener) Probe(ctx context.Context) error {
	_, err := d.link.Exchange(ctx, nil, d.framer)
	return err
}

// Run emits what each frame says, until ctx ends or the link fails. What is
// beyond its range where danger may be cannot be asked for again: it stands.
func (d *Listener) Run(ctx context.Context, emit func(point.Reading)) error {
	for {
		frame, err := d.link.Exchange(ctx, nil, d.framer)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, drivers.ErrNoReply):
			continue // nobody said anything; that is no news
		case err != nil:
			return err
		}
		at := d.now()
		d.take(frame)
		d.points.Emit(at, emit)
		for i := range d.secrets {
			d.occurred(&d.secrets[i], frame, at, emit)
		}
	}
}

// occurred emits a card or a code, or says once that what came is none.
func (d *Listener) occurred(s *secret, frame []byte, at time.Time, emit func(point.Reading)) {
	c, err := s.read(d.codec.Field(frame, s.at, s.size))
	if err != nil {
		if !s.failing {
			d.log.Warn("a reader sent what is no credential", "device", d.device, "point", s.id.Name(), "err", err,
				"hint", "check type and place of the point in the profile")
		}
		s.failing = true
		return
	}
	s.failing = false
	v := point.Value{Kind: point.Text, Text: d.hash(c)}
	c.Wipe()
	emit(point.Reading{Point: s.id, At: at, Value: v, Quality: point.Good, Kind: point.Event})
}
