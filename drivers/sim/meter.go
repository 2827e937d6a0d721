package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
)

// DL/T 645-2007: control codes, error bits and lengths.
const (
	meterStart    = 0x68
	meterEnd      = 0x16
	meterPreamble = 0xFE
	meterOffset   = 0x33 // added to every data byte
	meterHead     = 10   // 68, address, 68, control, length
	meterMax      = 200  // data bytes of a frame that reads

	meterRead      = 0x11
	meterFollowing = 0x12
	meterAddress   = 0x13
	meterReply     = 0x80
	meterError     = 0x40
	meterMore      = 0x20

	meterErrOther  = 0x01
	meterErrNoData = 0x02
)

// meterItem is a value that a meter can have: BCD of size bytes.
type meterItem struct {
	di       uint32
	size     int
	decimals int
	signed   bool // the top bit is the sign
}

// meterItems are the values by name.
var meterItems = map[string]meterItem{
	"energy":          {0x00000000, 4, 2, false}, // kWh
	"energy_forward":  {0x00010000, 4, 2, false},
	"energy_reverse":  {0x00020000, 4, 2, false},
	"voltage_a":       {0x02010100, 2, 1, false}, // V
	"voltage_b":       {0x02010200, 2, 1, false},
	"voltage_c":       {0x02010300, 2, 1, false},
	"current_a":       {0x02020100, 3, 3, true}, // A
	"current_b":       {0x02020200, 3, 3, true},
	"current_c":       {0x02020300, 3, 3, true},
	"power":           {0x02030000, 3, 4, true}, // kW
	"power_a":         {0x02030100, 3, 4, true},
	"power_b":         {0x02030200, 3, 4, true},
	"power_c":         {0x02030300, 3, 4, true},
	"reactive":        {0x02040000, 3, 4, true},  // kvar
	"apparent":        {0x02050000, 3, 4, false}, // kVA
	"power_factor":    {0x02060000, 2, 3, true},
	"neutral_current": {0x02800001, 3, 3, false}, // A
	"frequency":       {0x02800002, 2, 2, false}, // Hz
	"temperature":     {0x02800007, 2, 1, false}, // °C
}

// MeterOptions say what a meter is.
type MeterOptions struct {
	Address  string // 12 digits
	Preamble int    // FE bytes before each reply, 0 to 4
	Frame    int    // data bytes that one frame carries; more follow when asked for. 0: 200
	Values   map[string]float64
}

// Meter is a DL/T 645-2007 electricity meter.
type Meter struct {
	health
	opts    MeterOptions
	address [6]byte // as on the wire, low pair first

	mu     sync.Mutex
	values map[uint32][]byte // as on the wire, by data id; mu guards it
}

// NewMeter returns a meter that has the values given and no others.
func NewMeter(opts MeterOptions) (*Meter, error) {
	m := &Meter{opts: opts, values: make(map[uint32][]byte)}
	var errs []error
	if len(opts.Address) != 12 || strings.Trim(opts.Address, "0123456789") != "" || opts.Address == "999999999999" {
		errs = append(errs, fmt.Errorf("address %q: want 12 digits", opts.Address))
	} else {
		for i := range m.address {
			pair := opts.Address[10-2*i:]
			m.address[i] = (pair[0]-'0')<<4 | (pair[1] - '0')
		}
	}
	if opts.Preamble < 0 || opts.Preamble > 4 {
		errs = append(errs, fmt.Errorf("preamble %d: want 0 to 4", opts.Preamble))
	}
	if opts.Frame == 0 {
		m.opts.Frame = meterMax
	} else if opts.Frame < 8 || opts.Frame > meterMax {
		errs = append(errs, fmt.Errorf("frame %d: want 8 to %d data bytes", opts.Frame, meterMax))
	}
	for _, name := range slices.Sorted(maps.Keys(opts.Values)) {
		errs = append(errs, m.Set(name, opts.Values[name]))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

// Set gives the meter a value by its name; NaN is all FF, not available.
func (m *Meter) Set(name string, v float64) error {
	item, ok := meterItems[name]
	if !ok {
		return fmt.Errorf("a meter has no %q: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(meterItems)), ", "))
	}
	b, err := item.encode(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	m.SetRaw(item.di, b)
	return nil
}

// Get returns a value by its name.
func (m *Meter) Get(name string) (float64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	item, ok := meterItems[name]
	if b, there := m.values[item.di]; ok && there {
		return item.decode(b), nil
	}
	return 0, fmt.Errorf("the meter has no %q", name)
}

// SetRaw puts bytes behind a data id, low byte first; nil takes it away.
func (m *Meter) SetRaw(di uint32, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b == nil {
		delete(m.values, di)
	} else {
		m.values[di] = slices.Clone(b)
	}
}

func (m *Meter) setValue(name string, v float64) error { return m.Set(name, v) }

func (m *Meter) value(name string) (float64, error) { return m.Get(name) }

// encode is v in BCD, low pair first.
func (it meterItem) encode(v float64) ([]byte, error) {
	b := make([]byte, it.size)
	if math.IsNaN(v) {
		for i := range b {
			b[i] = 0xFF
		}
		return b, nil
	}
	top := math.Pow10(2 * it.size)
	if it.signed {
		top *= 0.8 // the top digit has three bits
	}
	n := math.Round(math.Abs(v) * math.Pow10(it.decimals))
	if n >= top || v < 0 && !it.signed {
		return nil, fmt.Errorf("%g does not fit %d BCD bytes with %d decimals", v, it.size, it.decimals)
	}
	for i, rest := 0, uint64(n); i < len(b); i, rest = i+1, rest/100 {
		b[i] = byte(rest/10%10<<4 | rest%10)
	}
	if v < 0 {
		b[len(b)-1] |= 0x80
	}
	return b, nil
}

func (it meterItem) decode(b []byte) float64 {
	v, sign := 0.0, 1.0
	for i := len(b) - 1; i >= 0; i-- {
		c := b[i]
		switch {
		case c == 0xFF:
			return math.NaN()
		case it.signed && i == len(b)-1 && c&0x80 != 0:
			sign, c = -1, c&0x7F
		}
		v = v*100 + float64(c>>4*10+c&0x0F)
	}
	return sign * v / math.Pow10(it.decimals)
}

// meters are the meters on one line, by address.
type meters map[[6]byte]*Meter

func (m *Meter) join(s station) (station, error) {
	line, ok := s.(meters)
	if s == nil {
		line, ok = make(meters), true
	}
	switch {
	case !ok:
		return s, fmt.Errorf("meter %s: the line carries devices of another kind", m.opts.Address)
	case line[m.address] != nil:
		return s, fmt.Errorf("meter %s: the address is taken", m.opts.Address)
	}
	line[m.address] = m
	return line, nil
}

// split finds a frame with a good sum; FE before it is skipped with all else.
func (ms meters) split(rx []byte) int {
	switch {
	case rx[0] != meterStart:
		return -1
	case len(rx) > 7 && rx[7] != meterStart:
		return -1
	case len(rx) < meterHead:
		return 0
	}
	n := meterHead + int(rx[9]) + 2
	if rx[9] > meterMax {
		return -1
	}
	if len(rx) < n {
		return 0
	}
	if sum8(rx[:n-2]) != rx[n-2] || rx[n-1] != meterEnd {
		return -1
	}
	return n
}

// answer obeys a frame. The question for any address (AA) is answered only by a
// meter alone on its line: the answers of several would collide.
func (ms meters) answer(frame []byte) []reply {
	to, control := [6]byte(frame[1:7]), frame[8]
	m := ms[to]
	if to == [6]byte{0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA} && control == meterAddress && len(ms) == 1 {
		for _, only := range ms {
			m = only
		}
	}
	if m == nil || control&meterReply != 0 {
		return nil
	}
	f := m.asked()
	if f.Silent {
		return nil
	}
	data := slices.Clone(frame[meterHead : len(frame)-2])
	for i := range data {
		data[i] -= meterOffset
	}
	flags, out := m.obey(control, data)
	if f.Refuse != 0 {
		flags, out = meterError, []byte{f.Refuse}
	}
	return f.replies(m.frame(f, control|meterReply|flags, out))
}

// obey returns what is added to the control code of the reply, and its data.
func (m *Meter) obey(control byte, data []byte) (flags byte, out []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := func(why byte) (byte, []byte) { return meterError, []byte{why} }
	part := 0
	switch {
	case control == meterAddress && len(data) == 0:
		return 0, m.address[:]
	case control == meterFollowing && len(data) == 5 && data[4] > 0:
		part = int(data[4])
	case control != meterRead || len(data) != 4:
		return fail(meterErrOther)
	}
	all := m.read(binary.LittleEndian.Uint32(data))
	room := m.opts.Frame - 5 // beside data id and, in a following frame, its number
	if len(all) <= part*room {
		return fail(meterErrNoData)
	}
	all = all[part*room:]
	if len(all) > room {
		flags, all = meterMore, all[:room]
	}
	out = slices.Concat(data[:4], all)
	if part > 0 {
		out = append(out, byte(part))
	}
	return flags, out
}

// read returns the value of a data id, or of the phases the meter has of a
// block; called with mu held.
func (m *Meter) read(di uint32) []byte {
	if di != 0x0201FF00 && di != 0x0202FF00 {
		return m.values[di]
	}
	var out []byte
	for phase := range uint32(3) {
		out = append(out, m.values[di&^0xFF00|(phase+1)<<8]...)
	}
	return out
}

// frame wraps data for the line.
func (m *Meter) frame(f Fault, control byte, data []byte) []byte {
	out := slices.Concat([]byte{meterStart}, m.address[:], []byte{meterStart, control, byte(len(data))})
	out[1] = f.name(out[1])
	for _, b := range data {
		out = append(out, b+meterOffset)
	}
	out = append(out, sum8(out), meterEnd)
	return append(slices.Repeat([]byte{meterPreamble}, m.opts.Preamble), out...)
}
