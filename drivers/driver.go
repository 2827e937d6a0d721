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
	// ErrUnderway is how a Commander says that an order was taken and goes on by
	// itself; what becomes of it shows elsewhere, and the error says where.
	ErrUnderway = errors.New("under way")
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
// An empty tx sends nothing, drops nothing that has arrived, and waits for the
// next frame: so a Source listens.
type Link interface {
	Exchange(ctx context.Context, tx []byte, f Framer) ([]byte, error)
}

// Job is one request (or an inseparable few) that a driver wants done
// periodically. TxBytes and RxBytes are its size on the line, and Requests how many
// exchanges that are (0: one), for the budget.
type Job struct {
	Points   []point.ID
	Every    time.Duration
	Critical bool
	TxBytes  int
	RxBytes  int
	Requests int
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

// Source is a Driver without jobs whose device talks unasked and owns its link.
// Run listens until ctx ends or the link fails; that nothing was said for a
// while (ErrNoReply) ends nothing. Whoever starts it waits for it.
type Source interface {
	Run(ctx context.Context, emit func(point.Reading)) error
}

// Writer is the optional power to command an output. The bus runs a write
// ahead of every poll.
type Writer interface {
	Write(ctx context.Context, p point.ID, v point.Value) error
}

// Commander is the optional power to do what is no point: to close a breaker, to
// install a door reader. The bus runs a command ahead of every poll. Nothing
// but a named person's order runs one, and each is put on record.
type Commander interface {
	Commands() []string // by name; constant
	Command(ctx context.Context, name string) error
}

// Deps is what a driver is given.
type Deps struct {
	Link Link
	Log  *slog.Logger
	Now  func() time.Time
	// Card turns a credential (a card's number, a code typed at a door) into the
	// only form in which it may leave a driver: a keyed hash. It is nil where no
	// point of the device reads one.
	Card func(credential []byte) string
	// Key keeps the secret that the device shares with the gateway; nil where
	// the protocol has none.
	Key Key
}

// Key keeps the secret that one device shares with the gateway.
type Key interface {
	// Candidates returns the keys worth trying, the newest first; none before the
	// device was installed. An error means that there may be keys and they cannot be
	// read: such a device was installed.
	Candidates() ([][]byte, error)
	// Propose makes a new key durable beside those before it. It comes before the
	// key is sent: whatever happens then, the gateway holds the device's key.
	Propose(key []byte) error
	// Withdraw forgets a proposed key that the device has refused to take.
	Withdraw(key []byte) error
	// Settle forgets every key but the one the device has proven to hold.
	Settle(key []byte) error
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
	Device   string
	Framing  Framing
	Address  int           // unit id, or what the protocol calls it
	Meter    string        // 12 digits of a DL/T 645 meter; "" asks the only one on the line for them
	Every    time.Duration // default period of a point
	Hole     int           // items nobody asked for that one request may span; 0: join only neighbours
	Frame    *Frame        // what a line-frame device sends
	Points   []PointSpec
	Commands []Command
	// AllowClear lets a door reader without a secure channel report cards. Off by
	// default: whoever cuts the wire outside could read and forge them.
	AllowClear bool
}

// Command is the writes that a person may order of a device, by one name.
type Command struct {
	Name  string
	Steps []Step
}

// Step is one write of a Command; Pause is waited after it.
type Step struct {
	At       Item
	Value    uint16
	Multiple bool // write by the function for many items (15, 16), for devices that know no other
	Pause    time.Duration
}

// Frame describes the frames of a line-frame device wholly. The size of a frame
// is fixed, stands in it, or follows from its end bytes.
type Frame struct {
	Request []byte // what asks for a frame; empty: the device talks unasked
	Start   []byte // the first bytes of a frame
	End     []byte // the last bytes of a frame
	Size    int    // of the whole frame, if it is fixed
	Max     int    // of the longest frame, if it is not
	Length  *Length
	Check   Check
}

// Length is where a frame says how long it is: its size is the number at At, of
// Size bytes, plus Add.
type Length struct {
	At     int
	Size   int  // 1 or 2
	Little bool // low byte first
	Add    int
}

// Check is the check value of a frame: Kind over the bytes from From up to, not
// including, Until; At is where it stands. Negative places count from the end
// of the frame.
type Check struct {
	Kind  string // "" none, sum8, neg8 (two's complement of sum8), xor8, crc16-modbus (low byte first), crc16-ccitt (high byte first)
	From  int
	Until int
	At    int
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
	Type  string // u16 s16 u32 s32 u64 s64 f32 f64 bit; "" means u16. DL/T 645: bcd sbcd. Frames: u8 s8 bcd text hex decimal too
	Size  int    // bytes of a bcd, sbcd, text, hex or decimal value; 0: up to the end of the frame
	Order string // order of words (Modbus), bytes (frames, card numbers): "HL" (default) or "LH"
	Swap  bool   // the two bytes of each register are swapped
	// Bits picks bits of the raw unsigned value and packs them together, lowest
	// first (0 = all): 0x00C0FFFF turns bits 23..22,15..0 into an 18-bit number.
	Bits uint64

	Scale    float64 // value = raw*Scale + Offset; 0 means 1
	Offset   float64
	Decimals *Lookup // value also divided by 10^n, n read from the device
	UnitFrom *Lookup // factor to the declared unit, chosen by a code the device sends

	// A Bool is active if its raw value is Active, inactive if it is Inactive, and
	// any other code is a Fault. If only one of them is given, any other code is
	// its opposite. Without them: inactive at 0, else active.
	Active, Inactive *uint64
	Invert           bool // contact sense: an nc contact is active when it is open

	States    map[uint64]State // codes of a State point
	StatusOf  string           // name of the State point in the same device that vouches for this one
	Sentinels []uint64         // raw values (after Bits) that mean "no measurement"
	Min, Max  *float64         // plausible range, in the point's unit
	MaxStep   *float64         // between two readings; more is read twice before it is believed

	Write *Output // how the point is commanded; nil for inputs
}

// Item is a place in a device's data. What spaces there are, and what Address
// counts, is the protocol's: Modbus has coil, discrete, holding and input;
// DL/T 645 has di, with the data id as the address; a line frame has frame, with
// the offset of the first byte; OSDP has card, keypad, tamper, power, secure,
// secure_lost, input, output, led (the reader in the high byte) and buzzer.
type Item struct {
	Space    string
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
	On, Off  *uint16       // what is written for active and inactive; nil: the protocol's own values
	Multiple bool          // write by the function for many items (15, 16)
	PulseAt  *Item         // where a module-timed pulse is written; nil if the module has none
	PulseFor time.Duration // length of the pulse, a multiple of 100 ms
}
