// Package drivers declares what a driver is: the one way a device's bytes
// become readings. It holds no driver; each way of talking has its own folder
// and one line in drivers/all.
//
// A driver guarantees: it emits a reading only for bytes that answered its own
// request and passed every check; it starts no goroutine; it never touches a
// port but through its Link; a refusal by the device (an exception reply)
// is an error that wraps ErrRefused, or ErrBusy if it is to be asked again. The bus that calls it guarantees: one
// call at a time per link.
package drivers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatehouse/protocol/point"
)

// Errors a Link or a Driver returns. Branch with errors.Is.
var (
	// ErrNoReply occurs when the deadline passed without a frame that fits the request.
	ErrNoReply = errors.New("no reply")
	// ErrLinkDown occurs when the port or connection cannot be used at all.
	ErrLinkDown = errors.New("link down")
	// ErrRefused occurs when the device answered that it will not: it is alive.
	ErrRefused = errors.New("refused by the device")
	// ErrBusy occurs when the device answered that it has no answer yet: it is
	// alive, and worth asking again.
	ErrBusy = errors.New("device busy")
	// ErrForeign is what a Framer returns for bytes that cannot begin the expected reply.
	ErrForeign = errors.New("foreign frame")
	// ErrDamaged is what a Framer returns for bytes that fit in all but their
	// check value: the reply came, and the line spoilt it.
	ErrDamaged = fmt.Errorf("damaged frame: %w", ErrForeign)
	// ErrNotWritable occurs when a point is not an output.
	ErrNotWritable = errors.New("point cannot be written")
)

// Framer judges the bytes received so far, which begin where a reply may begin.
// need > 0: that many bytes are still missing at the least. need == 0: rx is the
// whole reply. need < 0: complete, and the last -need bytes do not belong to it.
// An error (ErrForeign) means no reply begins here; the bus then slides one
// byte and asks again, until the deadline.
type Framer func(rx []byte) (need int, err error)

// Link exchanges frames on one physical line. The bus implements it and owns
// the gap between frames, the timeout, draining, trace and byte counts. The
// bytes returned are exactly one reply and are valid until the next Exchange.
type Link interface {
	Exchange(ctx context.Context, tx []byte, f Framer) ([]byte, error)
}

// Job is one request (or an inseparable few) that a driver wants done
// periodically. TxBytes and RxBytes are its size on the line, for the budget.
type Job struct {
	Points   []point.ID
	Every    time.Duration
	Critical bool
	TxBytes  int
	RxBytes  int
}

// Driver polls one device. Jobs is constant after construction; Do runs one of
// them by its index and emits what it read; Probe asks the cheapest question
// that proves the device is there, and asks elsewhere the next time if parts of
// the device can be dead alone.
type Driver interface {
	Jobs() []Job
	Do(ctx context.Context, job int, emit func(point.Reading)) error
	Probe(ctx context.Context) error
	Close() error
}

// Source is a device that talks unasked. Run returns when ctx ends; whoever
// starts it waits for it.
type Source interface {
	Run(ctx context.Context, emit func(point.Reading)) error
}

// Writer is the optional power to command an output. The bus runs a write
// ahead of every poll.
type Writer interface {
	Write(ctx context.Context, p point.ID, v point.Value) error
}

// Deps is what a driver is given.
type Deps struct {
	Link Link
	Log  *slog.Logger
	Now  func() time.Time
}

// Factory builds a driver from a spec that a profile was compiled into. It
// reports every fault of the spec at once (errors.Join).
type Factory func(Spec, Deps) (Driver, error)

// Framing says how a frame is wrapped on the link.
type Framing string

// The framings of Modbus.
const (
	RTU Framing = "rtu" // address, PDU, CRC; on a serial line or through a transparent serial server
	TCP Framing = "tcp" // MBAP header, PDU
)

// Spec describes one device to its driver. Config compiles it from a profile
// and a device entry; a driver reads nothing else.
type Spec struct {
	Device  string
	Framing Framing
	Address int           // unit id, or what the protocol calls it
	Every   time.Duration // default period of a point
	Hole    int           // items nobody asked for that one request may span; 0: join only neighbours
	Points  []PointSpec
}

// PointSpec says where a point stands in the device and what its bytes mean.
type PointSpec struct {
	ID       point.ID
	Role     point.Role
	Unit     point.Unit
	Kind     point.Kind
	Every    time.Duration
	Critical bool // life safety: polled first

	At    Item
	Type  string // u16 s16 u32 s32 u64 s64 f32 f64 bit; "" means u16
	Order string // word order of multi-register values: "HL" (default) or "LH"
	// Bits picks bits of the raw unsigned value and packs them together, lowest
	// first (0 = all): 0x00C0FFFF turns bits 23..22,15..0 into an 18-bit number.
	Bits uint64

	Scale    float64 // value = raw*Scale + Offset; 0 means 1
	Offset   float64
	Decimals *Lookup // value also divided by 10^n, n read from the device
	UnitFrom *Lookup // factor to the declared unit, chosen by a code the device sends

	Invert    bool             // contact sense: a raw 0 is the active state (an nc contact)
	States    map[uint64]State // codes of a State point
	StatusOf  string           // name of the State point in the same device that vouches for this one
	Sentinels []uint64         // raw values (after Bits) that mean "no measurement"
	Min, Max  *float64         // plausible range, in the point's unit

	Write *Output // how the point is commanded; nil for inputs
}

// Item is a place in a device's data.
type Item struct {
	Space    string // coil, discrete, holding, input
	Address  uint32 // zero-based
	UnitPlus int    // added to Spec.Address, for a device that answers on several ids
}

// Lookup reads a small code beside the value and maps it to a number. A code
// that is not in Map makes the reading a Fault.
type Lookup struct {
	At   Item
	Bits uint64
	Map  map[uint64]float64 // nil: the code is the number itself
}

// Class says what a device state means to those who watch it.
type Class string

// The classes of state.
const (
	ClassNormal Class = "normal"
	ClassWarmup Class = "warmup" // not ready: quality Unknown
	ClassFault  Class = "fault"  // quality Fault
	ClassAlarm  Class = "alarm"  // the device's own alarm; the value stays Good
)

// State names one code.
type State struct {
	Name  string
	Class Class
}

// Output is how a point is commanded. A PulseFor above zero asks the module to
// time the pulse itself, so that a crash leaves nothing energised.
type Output struct {
	At       Item          // where a level is written
	PulseAt  *Item         // where a module-timed pulse is written; nil if the module has none
	PulseFor time.Duration // length of the pulse, a multiple of 100 ms
}
