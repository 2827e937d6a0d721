// Package dlt645 polls one electricity meter by DL/T 645-2007.
//
// It guarantees: nothing it sends can change the meter; a value is emitted only
// for a reply of this meter that carries the data id asked for and exactly as
// many bytes as the profile says; what is no decimal number is a Fault, never a
// value; points of one data id come from one reply; a refusal is a Fault of the
// points asked for and leaves the meter alive; a meter whose number nobody wrote
// down is asked for it at the start and whenever it was lost; a value comes in one
// frame and at most one that follows, so that no meter keeps the line from the
// others; steady-state polling does not allocate.
package dlt645

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/internal/meaning"
	"gatehouse/protocol/dlt645"
	"gatehouse/protocol/point"
)

// Driver is one meter.
type Driver struct {
	link   drivers.Link
	log    *slog.Logger
	now    func() time.Time
	jobs   []*job
	public []drivers.Job
	probe  *job // the one with the least data

	search  *request // asks for the address; nil if it was given
	address dlt645.Address
	known   bool   // address is that of the meter on the line
	buf     []byte // data of one reply
}

// job is one data id.
type job struct {
	read   *request
	next   *request
	size   int // of the data behind the id
	fields []field
	points *meaning.Set
	data   []byte
}

// field is what a point takes from the data.
type field struct {
	bits   uint64
	signed bool   // the top bit is the sign
	top    uint64 // that bit
	number bool   // decimal digits; else the bits are a code
}

// New builds the driver of one meter. It reports every fault of the spec.
func New(spec drivers.Spec, deps drivers.Deps) (drivers.Driver, error) {
	if deps.Link == nil {
		return nil, fmt.Errorf("dlt645 device %s: no link", spec.Device)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if err := check(spec); err != nil {
		return nil, err
	}
	d := &Driver{link: deps.Link, log: deps.Log, now: deps.Now, buf: make([]byte, 0, dlt645.MaxData)}
	if spec.Meter == "" {
		d.search = newRequest(dlt645.NewReadAddress())
	} else if err := d.settle(spec.Meter); err != nil {
		return nil, fmt.Errorf("dlt645 device %s: %w", spec.Device, err)
	}
	d.plan(spec)
	return d, nil
}

// settle takes the address from the spec.
func (d *Driver) settle(meter string) (err error) {
	d.address, err = dlt645.ParseAddress(meter)
	d.known = true
	return err
}

// Jobs returns the poll plan.
func (d *Driver) Jobs() []drivers.Job { return d.public }

// Close has nothing to release: the bus owns the link.
func (d *Driver) Close() error { return nil }

// Do reads one data id and emits each of its points once. When the meter
// refuses, the points are emitted as Fault.
func (d *Driver) Do(ctx context.Context, index int, emit func(point.Reading)) error {
	if index < 0 || index >= len(d.jobs) {
		return fmt.Errorf("dlt645: no job %d", index)
	}
	j := d.jobs[index]
	if err := d.read(ctx, j); err != nil {
		if errors.Is(err, drivers.ErrRefused) {
			j.points.Fault(d.now(), emit)
		}
		return err
	}
	at := d.now()
	if j.points.Doubtful() {
		// Doubt never hides danger: a spike is told from the truth by reading again,
		// and if that fails, what was seen stands.
		if err := d.read(ctx, j); err != nil {
			j.points.Emit(at, emit)
			return err
		}
		j.points.Confirm()
		at = d.now()
	}
	j.points.Emit(at, emit)
	return nil
}

// Probe asks a meter of unknown number for it, and another for its shortest
// value. That it refuses is an answer.
func (d *Driver) Probe(ctx context.Context) error {
	var err error
	if d.search != nil {
		err = d.find(ctx)
	} else {
		_, err = d.exchange(ctx, d.probe.read)
	}
	if errors.Is(err, drivers.ErrRefused) {
		return nil
	}
	return err
}

// read fills the raw values of a job's points, or leaves all as it was.
func (d *Driver) read(ctx context.Context, j *job) error {
	if !d.known {
		if err := d.find(ctx); err != nil {
			return err
		}
	}
	if err := d.fetch(ctx, j); err != nil {
		if d.search != nil && errors.Is(err, drivers.ErrNoReply) && !errors.Is(err, drivers.ErrDamaged) {
			d.known = false // another meter may hang there by now
		}
		return err
	}
	j.take()
	return nil
}

// find asks the only meter on the line who it is.
func (d *Driver) find(ctx context.Context) error {
	reply, err := d.exchange(ctx, d.search)
	if err != nil {
		return fmt.Errorf("asking for the meter's address: %w", err)
	}
	if !reply.Address.Valid() {
		return fmt.Errorf("asking for the meter's address: %w: %s", drivers.ErrForeign, reply.Address)
	}
	if reply.Address != d.address {
		d.log.Info("meter found", "meter", reply.Address.String())
	}
	d.address, d.known = reply.Address, true
	for _, j := range d.jobs {
		j.read.SetAddress(d.address)
		j.next.SetAddress(d.address)
	}
	return nil
}

// fetch asks for the data of a job. A value of at most maxSize bytes fits into one
// frame; a meter may send one more behind it. One that wants to be asked again and
// again would hold up whoever else is on the line, and is refused.
func (d *Driver) fetch(ctx context.Context, j *job) error {
	reply, err := d.exchange(ctx, j.read)
	if err != nil {
		return err
	}
	j.data = append(j.data[:0], reply.Data[dlt645.IDSize:]...)
	if reply.Control&dlt645.MoreBit != 0 && len(j.data) < j.size {
		if reply, err = d.exchange(ctx, j.next); err != nil {
			return fmt.Errorf("following frame: %w", err)
		}
		j.data = append(j.data, reply.Data[dlt645.IDSize:len(reply.Data)-1]...)
	}
	switch more := reply.Control&dlt645.MoreBit != 0; {
	case more:
		return fmt.Errorf("%w: %d bytes of data and more to follow, the profile has %d", drivers.ErrRefused, len(j.data), j.size)
	case len(j.data) != j.size: // digits at the wrong place are worse than none
		return fmt.Errorf("%w: %d bytes of data, the profile has %d", drivers.ErrRefused, len(j.data), j.size)
	}
	return nil
}

// exchange sends one request. The reply's data is valid until the next.
func (d *Driver) exchange(ctx context.Context, r *request) (dlt645.Frame, error) {
	rx, err := d.link.Exchange(ctx, r.Bytes(), r.framer)
	if err != nil {
		return dlt645.Frame{}, err
	}
	reply, err := dlt645.Parse(rx, d.buf)
	if err != nil {
		return dlt645.Frame{}, fmt.Errorf("%w: %w", drivers.ErrForeign, err)
	}
	if reply.Control&dlt645.ErrorBit != 0 {
		return dlt645.Frame{}, fmt.Errorf("%w: %w", drivers.ErrRefused, dlt645.Refusal(reply.Data[0]))
	}
	return reply, nil
}

// take hands the data to the points.
func (j *job) take() {
	raw := dlt645.Raw(j.data)
	missing := true // all FF: some meters send it for what they do not measure
	for _, b := range j.data {
		missing = missing && b == 0xFF
	}
	for i := range j.fields {
		if missing {
			j.points.Put(i, meaning.Raw{})
			continue
		}
		j.points.Put(i, j.fields[i].raw(raw))
	}
}

// raw reads a field of the data.
func (f *field) raw(data uint64) meaning.Raw {
	r := meaning.Raw{OK: true, Code: meaning.Pick(data, f.bits)}
	if !f.number {
		return r
	}
	digits, negative := r.Code, false
	if f.signed {
		negative = digits&f.top != 0
		digits &^= f.top
	}
	n, ok := dlt645.Decimal(digits)
	r.Num, r.OK = float64(n), ok
	if negative {
		r.Num = -r.Num
	}
	return r
}

// request is one question with the framer that the bus wants.
type request struct {
	*dlt645.Request
	framer drivers.Framer
}

func newRequest(r *dlt645.Request) *request {
	return &request{Request: r, framer: func(rx []byte) (int, error) {
		need, err := r.Judge(rx)
		switch {
		case err == nil:
			return need, nil
		case errors.Is(err, dlt645.ErrDamaged):
			return 0, drivers.ErrDamaged
		}
		return 0, drivers.ErrForeign
	}}
}
