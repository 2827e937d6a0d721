package sim

import (
	"sync"
	"sync/atomic"
	"time"
)

// Fault is how a device misbehaves; the zero value is a device in order.
type Fault struct {
	Silent bool          `yaml:"silent"` // hangs: takes requests and does nothing
	Lost   bool          `yaml:"lost"`   // does what was asked, and its reply is lost
	Late   time.Duration `yaml:"late"`   // answers that much later
	Twice  bool          `yaml:"twice"`  // answers two times
	// As is the id in whose name it answers: a Modbus id, an OSDP address, or the
	// last pair of digits of a DL/T 645 address.
	As *uint8 `yaml:"as"`
	// Refuse answers every request with this error: a Modbus exception code, an
	// OSDP NAK code, DL/T 645 error bits. 0: none.
	Refuse uint8 `yaml:"refuse"`
	// Busy makes a device that is asked again later: OSDP BUSY, Modbus exception 6.
	Busy bool `yaml:"busy"`
	// Clear makes an OSDP reader answer in clear once it is in a secure session,
	// as an attacker in its place would.
	Clear bool `yaml:"clear"`
	// Requests is how many of them it lasts; 0: until it is set anew.
	Requests int `yaml:"requests"`
}

// name is the id that stands in a reply of the device that has this id.
func (f Fault) name(id uint8) uint8 {
	if f.As != nil {
		return *f.As
	}
	return id
}

// reply is bytes to send, and how long after the request.
type reply struct {
	after time.Duration
	bytes []byte
}

// replies is what reaches the line of an answer.
func (f Fault) replies(answer []byte) []reply {
	if answer == nil || f.Lost {
		return nil
	}
	out := []reply{{f.Late, answer}}
	if f.Twice {
		out = append(out, reply{f.Late, answer})
	}
	return out
}

// health counts the requests of a device and says how it misbehaves.
type health struct {
	requests atomic.Uint64
	quiet    atomic.Bool

	mu    sync.Mutex // guards the two below
	fault Fault
	left  int // requests the fault still lasts
}

// SetFault makes the device misbehave from its next request on.
func (h *health) SetFault(f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault, h.left = f, f.Requests
}

// SetSilent makes the device swallow every request, or answer again.
func (h *health) SetSilent(silent bool) { h.quiet.Store(silent) }

// Requests counts the requests the device has received, answered or not.
func (h *health) Requests() uint64 { return h.requests.Load() }

// asked counts one request and returns how it is to be met.
func (h *health) asked() Fault {
	h.requests.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.fault
	if h.left > 0 {
		if h.left--; h.left == 0 {
			h.fault = Fault{}
		}
	}
	f.Silent = f.Silent || h.quiet.Load()
	return f
}
