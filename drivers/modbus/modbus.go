// Package modbus polls one Modbus device, over RTU or TCP framing.
//
// It guarantees: every request frame is built once; the items of one device
// and unit id are read in the fewest requests that touch nothing nobody asked
// for (Spec.Hole relaxes that); a value is emitted only for a reply that fits
// its request; all that a reading depends on comes from the same replies; a
// point whose device, sentinel or status says "no measurement" is never Good;
// steady-state polling does not allocate.
//
// A reading that package look finds doubtful is read a second time, with all of
// its job, before anything is emitted.
//
// An output is confirmed by the device's echo. A command sends its steps in
// order, none of them twice, and stops at the first that is not confirmed.
package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

// Driver is one device. There may be thousands of them: what a job needs only
// while it runs, all jobs share.
type Driver struct {
	link     drivers.Link
	now      func() time.Time
	judge    drivers.Framer // of the reply that is expected
	jobs     []job
	public   []drivers.Job
	outputs  map[point.ID]output // nil: none
	commands []command
	probes   []*request // the shortest of each unit id

	data     []byte // what the device said to the job that runs
	again    []byte // what it said at a second look
	expected modbus.Reply

	transaction uint16
	asked       byte // the unit id that was read last
	tcp         bool
}

// job is what is read together.
type job struct {
	requests []request
	runs     []run // of points, in the order of drivers.Job.Points
	watched  bool  // a point of it may need a second look
}

// request is one frame that reads, ready to be sent.
type request struct {
	tx   []byte
	size int // bytes of data that answer it
}

// New builds the driver of one device. It reports every fault of the spec.
func New(spec drivers.Spec, deps drivers.Deps) (drivers.Driver, error) {
	if deps.Link == nil {
		return nil, fmt.Errorf("modbus device %s: no link", spec.Device)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if err := check(spec); err != nil {
		return nil, err
	}
	d := &Driver{link: deps.Link, now: deps.Now, tcp: spec.Framing == drivers.TCP}
	d.judge = d.frame
	p := planner{spec: spec, encode: newEncoder(spec.Framing), d: d, coded: make(map[codes]*special)}
	if err := errors.Join(p.polls(), p.outputs(), p.commands()); err != nil {
		return nil, fmt.Errorf("modbus device %s: %w", spec.Device, err)
	}
	return d, nil
}

// Jobs returns the poll plan.
func (d *Driver) Jobs() []drivers.Job { return d.public }

// Close has nothing to release: the bus owns the link.
func (d *Driver) Close() error { return nil }

// Do reads one job and emits each of its points once. When the device refuses,
// the points are emitted as Fault.
func (d *Driver) Do(ctx context.Context, index int, emit func(point.Reading)) error {
	if index < 0 || index >= len(d.jobs) {
		return fmt.Errorf("modbus: no job %d", index)
	}
	j, ids := &d.jobs[index], d.public[index].Points
	if err := d.read(ctx, j, d.data); err != nil {
		if errors.Is(err, drivers.ErrRefused) {
			j.fault(ids, d.now(), emit)
		}
		return err
	}
	at, seen := d.now(), looks{first: d.data}
	if !j.watched || !j.doubtful(d.data) {
		j.emit(ids, at, seen, emit)
		return nil
	}
	err := d.read(ctx, j, d.again)
	if err != nil {
		seen.failed = true
	} else {
		at, seen.second = d.now(), d.again
	}
	j.emit(ids, at, seen, emit)
	return err
}

// Probe sends the shortest request of the unit id behind the one that was read
// last: one that is dead must not hide the others. That the device
// refuses or is busy is an answer.
func (d *Driver) Probe(ctx context.Context) error {
	last := slices.IndexFunc(d.probes, func(r *request) bool { return d.unit(r.tx) == d.asked })
	r := d.probes[(last+1)%len(d.probes)]
	d.asked = d.unit(r.tx)
	_, err := d.exchange(ctx, r.tx)
	if errors.Is(err, drivers.ErrRefused) || errors.Is(err, drivers.ErrBusy) {
		return nil
	}
	return err
}

// unit is the unit id of a frame.
func (d *Driver) unit(tx []byte) byte {
	if d.tcp {
		return modbus.TCPUnit(tx)
	}
	return modbus.RTUUnit(tx)
}

// read fills data with the answers to all requests of a job.
func (d *Driver) read(ctx context.Context, j *job, data []byte) error {
	for i := range j.requests {
		r := &j.requests[i]
		d.asked = d.unit(r.tx)
		got, err := d.exchange(ctx, r.tx)
		if err != nil {
			return err
		}
		if len(got) != r.size {
			return fmt.Errorf("%w: %d bytes of data, want %d", drivers.ErrForeign, len(got), r.size)
		}
		data = data[copy(data, got):]
	}
	return nil
}

// exchange sends one request and returns the data part of its reply.
func (d *Driver) exchange(ctx context.Context, tx []byte) ([]byte, error) {
	var err error
	if d.tcp {
		d.transaction++
		modbus.SetTransaction(tx, d.transaction)
		d.expected, err = modbus.ReplyTCP(tx)
	} else {
		d.expected, err = modbus.ReplyRTU(tx)
	}
	if err != nil {
		return nil, err
	}
	rx, err := d.link.Exchange(ctx, tx, d.judge)
	if err != nil {
		return nil, err
	}
	pdu := modbus.RTUPDU
	if d.tcp {
		pdu = modbus.TCPPDU
	}
	data, err := modbus.Data(pdu(rx))
	if err != nil {
		return nil, refusal(err)
	}
	return data, nil
}

// frame gives the framer of the expected reply the errors that the bus knows.
func (d *Driver) frame(rx []byte) (int, error) {
	need, err := d.expected.Judge(rx)
	switch {
	case err == nil:
		return need, nil
	case errors.Is(err, modbus.ErrDamaged):
		return 0, drivers.ErrDamaged
	}
	return 0, drivers.ErrForeign
}

// refusal sorts exceptions: a device that refuses or is busy is alive, one that
// a gateway answers for is not.
func refusal(err error) error {
	kind := drivers.ErrRefused
	var e modbus.Exception
	if errors.As(err, &e) {
		switch {
		case e.FromGateway():
			kind = drivers.ErrNoReply
		case e.Passing():
			kind = drivers.ErrBusy
		}
	}
	return fmt.Errorf("%w: %w", kind, err)
}
