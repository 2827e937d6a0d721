// Package modbus polls one Modbus device, over RTU or TCP framing.
//
// It guarantees: every request frame is built once; the items of one device
// and unit id are read in the fewest requests that touch nothing nobody asked
// for (Spec.Hole relaxes that); a value is emitted only for a reply that fits
// its request; all points of a job come from the same replies; a point whose
// device, sentinel or status says "no measurement" is never Good; a life-safety
// point beyond its range on a side where danger is (point.RoleInfo) is, and is
// read a second time before it is emitted; steady-state polling does not
// allocate.
package modbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	gomodbus "github.com/goburrow/modbus"

	"gatehouse/drivers"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

// Driver is one device.
type Driver struct {
	link        drivers.Link
	log         *slog.Logger
	now         func() time.Time
	framing     drivers.Framing
	jobs        []*job
	public      []drivers.Job
	outputs     map[point.ID]*output
	probes      []*request // the shortest of each unit id
	asked       byte       // the unit id that was read last
	transaction uint16
}

// job is what is read together.
type job struct {
	requests []*request
	points   []reader
	ranged   bool // a life-safety point has an end to its range where danger is
}

// New builds the driver of one device. It reports every fault of the spec.
func New(spec drivers.Spec, deps drivers.Deps) (drivers.Driver, error) {
	if deps.Link == nil {
		return nil, fmt.Errorf("modbus device %s: no link", spec.Device)
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
	d := &Driver{
		link: deps.Link, log: deps.Log, now: deps.Now, framing: spec.Framing,
		outputs: make(map[point.ID]*output),
	}
	if err := d.plan(spec); err != nil {
		return nil, fmt.Errorf("modbus device %s: %w", spec.Device, err)
	}
	if err := d.planOutputs(spec); err != nil {
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
	j := d.jobs[index]
	if err := d.read(ctx, j); err != nil {
		if errors.Is(err, drivers.ErrRefused) {
			j.fault(d.now(), emit)
		}
		return err
	}
	at := d.now()
	if j.ranged && j.beyond() {
		// Doubt never hides danger: a spike is told from a leak by reading again,
		// and if that fails, what was seen stands.
		if err := d.read(ctx, j); err != nil {
			j.decode(at, emit)
			return err
		}
		at = d.now()
	}
	j.decode(at, emit)
	return nil
}

// Probe sends the shortest request of the unit id behind the one that was read
// last: one that is dead must not hide the others. That the device
// refuses or is busy is an answer.
func (d *Driver) Probe(ctx context.Context) error {
	last := slices.IndexFunc(d.probes, func(r *request) bool { return r.unit == d.asked })
	r := d.probes[(last+1)%len(d.probes)]
	d.asked = r.unit
	_, err := d.exchange(ctx, r)
	if errors.Is(err, drivers.ErrRefused) || errors.Is(err, drivers.ErrBusy) {
		return nil
	}
	return err
}

// read fills the data of all requests of a job, or leaves all as it was.
func (d *Driver) read(ctx context.Context, j *job) error {
	for _, r := range j.requests {
		d.asked = r.unit
		data, err := d.exchange(ctx, r)
		if err != nil {
			return err
		}
		copy(r.fresh, data)
	}
	for _, r := range j.requests {
		r.data, r.fresh = r.fresh, r.data
	}
	return nil
}

// exchange sends one request and returns the data part of its reply.
func (d *Driver) exchange(ctx context.Context, r *request) ([]byte, error) {
	if d.framing == drivers.TCP {
		d.transaction++
		modbus.SetTransaction(r.tx, d.transaction)
	}
	rx, err := d.link.Exchange(ctx, r.tx, r.framer)
	if err != nil {
		return nil, err
	}
	if err := r.packager.Verify(r.tx, rx); err != nil {
		return nil, fmt.Errorf("%w: %w", drivers.ErrForeign, err)
	}
	data, err := modbus.Data(r.pdu(rx))
	if err != nil {
		return nil, refusal(err)
	}
	return data, nil
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

// beyond reports whether a life-safety point is where danger may be, or a spike.
func (j *job) beyond() bool {
	for i := range j.points {
		if _, _, beyond := j.points[i].decode(); beyond {
			return true
		}
	}
	return false
}

// decode emits what the data says of each point.
func (j *job) decode(at time.Time, emit func(point.Reading)) {
	for i := range j.points {
		p := &j.points[i]
		value, quality, _ := p.decode()
		emit(point.Reading{Point: p.id, At: at, Value: value, Quality: quality})
	}
}

// fault emits that no point of the job was measured.
func (j *job) fault(at time.Time, emit func(point.Reading)) {
	for i := range j.points {
		emit(point.Reading{Point: j.points[i].id, At: at, Quality: point.Fault})
	}
}

// request is one frame, ready to be sent, and the data of the last
// replies to its job.
type request struct {
	unit     byte
	tx       []byte
	framer   drivers.Framer
	pdu      func(frame []byte) []byte
	packager gomodbus.Packager
	data     []byte
	fresh    []byte // data to be, until all requests of the job are answered
	rxBytes  int
}

// newRequest builds a frame with goburrow's packager. The PDU is our own:
// goburrow's client forbids coil values other than on and off, and modules time
// their pulses by them.
func newRequest(framing drivers.Framing, unit byte, function byte, data ...byte) (*request, error) {
	r := &request{unit: unit}
	var frame modbus.Framer
	switch framing {
	case drivers.RTU:
		h := gomodbus.NewRTUClientHandler("")
		h.SlaveId = unit
		r.packager, r.pdu = h, modbus.RTUPDU
	default:
		h := gomodbus.NewTCPClientHandler("")
		h.SlaveId = unit
		r.packager, r.pdu = h, modbus.TCPPDU
	}
	var err error
	if r.tx, err = r.packager.Encode(&gomodbus.ProtocolDataUnit{FunctionCode: function, Data: data}); err != nil {
		return nil, err
	}
	if framing == drivers.RTU {
		frame, err = modbus.RTU(r.tx)
	} else {
		frame, err = modbus.TCP(r.tx)
	}
	if err != nil {
		return nil, err
	}
	r.framer = adapt(frame)
	return r, nil
}

// adapt gives a framer the errors that the bus knows.
func adapt(frame modbus.Framer) drivers.Framer {
	return func(rx []byte) (int, error) {
		need, err := frame(rx)
		switch {
		case err == nil:
			return need, nil
		case errors.Is(err, modbus.ErrDamaged):
			return 0, drivers.ErrDamaged
		}
		return 0, drivers.ErrForeign
	}
}
