package sim

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// OSDP v2.2 commands and replies that a reader knows.
const (
	cmdPoll   = 0x60
	cmdID     = 0x61
	cmdCap    = 0x62
	cmdLStat  = 0x64
	cmdIStat  = 0x65
	cmdOStat  = 0x66
	cmdOut    = 0x68
	cmdLED    = 0x69
	cmdBuz    = 0x6A
	cmdKeySet = 0x75
	cmdChlng  = 0x76
	cmdSCrypt = 0x77

	repAck     = 0x40
	repNak     = 0x41
	repID      = 0x45
	repCap     = 0x46
	repLStat   = 0x48
	repIStat   = 0x49
	repOStat   = 0x4A
	repRaw     = 0x50
	repKeypad  = 0x53
	repCCrypt  = 0x76
	repRMAC    = 0x78
	repBusy    = 0x79
	keyTypeOwn = 0x01 // SCBK, in KEYSET

	nakCheck       = 1
	nakLength      = 2
	nakUnknown     = 3
	nakSequence    = 4
	nakUnsupported = 5
	nakCondition   = 6
)

// queueMax is how many events a reader keeps; older ones are forgotten.
const queueMax = 64

// ReaderOptions say what a reader is.
type ReaderOptions struct {
	Address  uint8
	Serial   uint32
	Inputs   int
	Outputs  int
	Key      []byte // its SCBK; nil: it was never given one
	Install  bool   // takes SCBK-D, until a key is set
	Secure   bool   // obeys and reports cards only in a secure session
	Plain    bool   // has no secure channel
	Checksum bool   // has no CRC
}

// Reader is an OSDP reader (PD). A card or key waits until it is polled for.
type Reader struct {
	health
	opts ReaderOptions

	mu       sync.Mutex // guards all below
	session  *session   // nil: none
	last     int        // sequence number of the last command; -1 before the first
	stored   []byte     // its reply
	queue    []event
	tamper   bool
	power    bool
	inputs   []bool
	outputs  []output
	commands map[byte][]byte // payload of the last command, by code
}

// event is a reply that a poll will find.
type event struct {
	code    byte
	payload []byte
	secret  bool // a card or a key
}

// output is switched for good, and for a while over that.
type output struct {
	on, timed bool
	until     time.Time
}

func (o output) is(now time.Time) bool {
	if now.Before(o.until) {
		return o.timed
	}
	return o.on
}

// NewReader returns a reader that has just been switched on.
func NewReader(opts ReaderOptions) (*Reader, error) {
	var errs []error
	if opts.Address >= osdpBroadcast {
		errs = append(errs, fmt.Errorf("address %d: want 0 to 126", opts.Address))
	}
	if opts.Key != nil && len(opts.Key) != 16 {
		errs = append(errs, fmt.Errorf("key of %d bytes: want 16", len(opts.Key)))
	}
	if opts.Plain && (opts.Secure || opts.Install || opts.Key != nil) {
		errs = append(errs, errors.New("plain: a reader without a secure channel has neither key, install nor secure"))
	}
	if opts.Inputs < 0 || opts.Inputs > 32 || opts.Outputs < 0 || opts.Outputs > 32 {
		errs = append(errs, errors.New("inputs and outputs: want 0 to 32"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Reader{
		opts: opts, last: -1, commands: make(map[byte][]byte),
		inputs: make([]bool, opts.Inputs), outputs: make([]output, opts.Outputs),
	}, nil
}

// Present shows a card to the reader.
func (r *Reader) Present(c Card) {
	format := byte(0)
	if c.Wiegand {
		format = 1
	}
	r.enqueue(event{repRaw, append([]byte{0, format, byte(c.Bits), byte(c.Bits >> 8)}, c.Raw...), true})
}

// Type presses keys: digits, * and #. What * and # are on the wire no source
// confirms; 7F and 0D are what readers are said to send.
func (r *Reader) Type(keys string) {
	p := []byte{0, byte(len(keys))}
	for _, k := range []byte(keys) {
		switch k {
		case '*':
			k = 0x7F
		case '#':
			k = 0x0D
		}
		p = append(p, k)
	}
	r.enqueue(event{repKeypad, p, true})
}

// SetTamper opens or closes the housing.
func (r *Reader) SetTamper(on bool) { r.setLocal(&r.tamper, on) }

// SetPowerFault says whether the reader's supply fails.
func (r *Reader) SetPowerFault(on bool) { r.setLocal(&r.power, on) }

func (r *Reader) setLocal(at *bool, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *at != on {
		*at = on
		r.push(event{repLStat, flags(r.tamper, r.power), false})
	}
}

// SetInput sets an input; one that does not exist is ignored.
func (r *Reader) SetInput(i int, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i >= 0 && i < len(r.inputs) && r.inputs[i] != on {
		r.inputs[i] = on
		r.push(event{repIStat, flags(r.inputs...), false})
	}
}

// Output reports whether an output is on.
func (r *Reader) Output(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return i >= 0 && i < len(r.outputs) && r.outputs[i].is(time.Now())
}

// Commanded returns the payload of the last command of that code that the
// reader obeyed (0x69 LED, 0x6A BUZ, 0x68 OUT), nil if there was none.
func (r *Reader) Commanded(code byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.commands[code])
}

// SetInstall lets the reader take SCBK-D, or not.
func (r *Reader) SetInstall(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opts.Install = on
}

// Key returns the key that the reader holds, nil if none.
func (r *Reader) Key() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.opts.Key)
}

// SetKey gives the reader another key behind the panel's back.
func (r *Reader) SetKey(key [16]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opts.Key = key[:]
}

// Secure reports whether a secure session is open.
func (r *Reader) Secure() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session != nil && r.session.open
}

// Waiting counts the events that no poll has found yet.
func (r *Reader) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// Restart switches the reader off and on: sequence, session and events are gone.
func (r *Reader) Restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.stored, r.session, r.queue = -1, nil, nil, nil
}

func (r *Reader) enqueue(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.push(e)
}

func (r *Reader) push(e event) {
	if len(r.queue) == queueMax {
		r.queue = r.queue[1:]
	}
	r.queue = append(r.queue, e)
}

// next takes the first event that may be told now.
func (r *Reader) next() (byte, []byte) {
	for i, e := range r.queue {
		if !e.secret || !r.opts.Secure || r.session != nil && r.session.open {
			r.queue = slices.Delete(r.queue, i, i+1)
			return e.code, e.payload
		}
	}
	return repAck, nil
}

func (r *Reader) setValue(name string, v float64) error {
	on := v != 0
	var input int
	switch {
	case name == "tamper":
		r.SetTamper(on)
	case name == "power_fault":
		r.SetPowerFault(on)
	case indexed(name, "input", len(r.inputs), &input):
		r.SetInput(input, on)
	default:
		return fmt.Errorf("a reader has no %q: want tamper, power_fault or input0 up to its last", name)
	}
	return nil
}

func (r *Reader) value(name string) (float64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var i int
	switch {
	case name == "tamper":
		return number(r.tamper), nil
	case name == "power_fault":
		return number(r.power), nil
	case indexed(name, "input", len(r.inputs), &i):
		return number(r.inputs[i]), nil
	case indexed(name, "output", len(r.outputs), &i):
		return number(r.outputs[i].is(time.Now())), nil
	}
	return 0, fmt.Errorf("a reader has no %q", name)
}

// indexed reads names such as input3.
func indexed(name, prefix string, count int, at *int) bool {
	for i := range count {
		if name == fmt.Sprintf("%s%d", prefix, i) {
			*at = i
			return true
		}
	}
	return false
}

func number(on bool) float64 { return float64(bit(on)) }

// flags is one byte for each state.
func flags(states ...bool) []byte {
	out := make([]byte, len(states))
	for i, on := range states {
		out[i] = byte(bit(on))
	}
	return out
}
