package profiles

import (
	"math"
	"time"
)

// way is what the profiles of one driver can say: where its points stand, and
// what their bytes may be.
type way struct {
	name      string
	spaces    []string
	types     []string      // of values; none: the space says what a value is
	addresses span          // on its line, set on the device
	items     span          // of a point within its space
	registers bool          // counts in registers of 16 bits: holes, lookups, commands, several addresses
	slowest   time.Duration // poll that keeps a session alive; 0: none is kept
}

// span is a range of addresses; the zero span means that there are none.
type span struct{ first, last int64 }

func (s span) has(n int64) bool { return n >= s.first && n <= s.last }

// ways are the drivers, and what each can say.
var ways = []way{
	{
		name:      "modbus",
		spaces:    []string{"coil", "discrete", "holding", "input"},
		types:     []string{"u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "bit"},
		addresses: span{1, 247}, // MODBUS over serial line V1.02, 2.2
		items:     span{0, math.MaxUint16},
		registers: true,
	},
	{
		name:      "osdp",
		spaces:    []string{"card", "keypad", "tamper", "power", "secure", "secure_lost", "input", "output", "led", "buzzer"},
		addresses: span{0, 126}, // OSDP v2.2, 5.5: 127 is everyone
		items:     span{0, math.MaxUint8},
		slowest:   offlineOSDP / 2, // leaves room for a lost reply
	},
	{
		name:   "dlt645",
		spaces: []string{"di"},
		types:  []string{"bcd", "sbcd"},
		items:  span{0, math.MaxUint32},
	},
	{
		name:   "lineframe",
		spaces: []string{"frame"},
		types:  []string{"u8", "s8", "u16", "s16", "u32", "s32", "f32", "bcd", "text", "hex", "decimal"},
		items:  span{0, maxFrame - 1},
	},
}

// maxFrame is the longest frame a line-frame device may send: what a bus holds.
const maxFrame = 256

// wayOf returns what the profiles of a driver can say. An unknown driver is
// taken for Modbus, so that the rest of its file is checked all the same.
func wayOf(driver string) way {
	for _, w := range ways {
		if w.name == driver {
			return w
		}
	}
	return ways[0]
}

func driverNames() []string {
	names := make([]string, len(ways))
	for i, w := range ways {
		names[i] = w.name
	}
	return names
}

// form is how a type of value stands in bytes: u unsigned, s signed, f floating
// point, b bit, d decimal digits, t text. Size is in bytes; 0 if each point
// states its own.
type form struct {
	class byte
	size  int
}

var forms = map[string]form{
	"bit": {'b', 0},
	"u8":  {'u', 1}, "u16": {'u', 2}, "u32": {'u', 4}, "u64": {'u', 8},
	"s8": {'s', 1}, "s16": {'s', 2}, "s32": {'s', 4}, "s64": {'s', 8},
	"f32": {'f', 4}, "f64": {'f', 8},
	"bcd": {'d', 0}, "sbcd": {'d', 0}, "decimal": {'d', 0},
	"text": {'t', 0}, "hex": {'t', 0},
}

// sized reports whether points of a type state their size.
func (f form) sized() bool { return f.class == 'd' || f.class == 't' }

// width is how many addresses a value takes: registers, or bytes of a frame.
func (w way) width(p *Point) int {
	switch f := forms[p.Type]; {
	case w.name == "lineframe" && f.sized():
		return max(p.Size, 1)
	case w.name == "lineframe":
		return max(f.size, 1)
	case w.registers:
		return max(f.size/2, 1)
	}
	return 1
}
