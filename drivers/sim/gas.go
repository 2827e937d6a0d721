package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
)

// gasQuestion asks a 4-in-1 module for its values; byte 8 is the two's
// complement of the sum of the seven before it.
const gasQuestion = "\xFF\x01\x86\x00\x00\x00\x00\x00\x79"

// gasItem is a value of the module: its place in the answer, its steps to the unit.
type gasItem struct{ at, steps int }

// gasItems are the values by name.
var gasItems = map[string]gasItem{
	"co":  {2, 1},  // ppm
	"h2s": {4, 1},  // ppm
	"o2":  {6, 10}, // %vol
	"ch4": {8, 1},  // %LEL
}

// GasModule is a 4-in-1 module (CO, H2S, O2, CH4) with a line of its own. Its
// answer begins with FF 86, as the question does; numbers have the high byte
// first; the last byte makes up for the nine before it.
type GasModule struct {
	health
	mu       sync.Mutex
	measured [11]byte // the answer but for its last byte; mu guards it
}

// NewGasModule returns a module that measures clean air, or the values given.
func NewGasModule(values map[string]float64) (*GasModule, error) {
	g := &GasModule{measured: [11]byte{0xFF, 0x86}}
	errs := []error{g.Set("o2", 20.9)}
	for name, v := range values {
		errs = append(errs, g.Set(name, v))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, nil
}

// Set gives a value by its name: co, h2s, o2, ch4.
func (g *GasModule) Set(name string, v float64) error {
	item, ok := gasItems[name]
	if !ok {
		return fmt.Errorf("a gas module has no %q: want co, h2s, o2 or ch4", name)
	}
	raw := math.Round(v * float64(item.steps))
	if !(raw >= 0 && raw <= math.MaxUint16) {
		return fmt.Errorf("%s: %g does not fit", name, v)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	binary.BigEndian.PutUint16(g.measured[item.at:], uint16(raw))
	return nil
}

// Get returns a value by its name.
func (g *GasModule) Get(name string) (float64, error) {
	item, ok := gasItems[name]
	if !ok {
		return 0, fmt.Errorf("a gas module has no %q", name)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return float64(binary.BigEndian.Uint16(g.measured[item.at:])) / float64(item.steps), nil
}

func (g *GasModule) setValue(name string, v float64) error { return g.Set(name, v) }

func (g *GasModule) value(name string) (float64, error) { return g.Get(name) }

func (g *GasModule) join(s station) (station, error) {
	if s != nil {
		return s, errors.New("a gas module has no address: it must have the line for itself")
	}
	return g, nil
}

func (g *GasModule) split(rx []byte) int {
	n := min(len(rx), len(gasQuestion))
	switch {
	case !bytes.Equal(rx[:n], []byte(gasQuestion[:n])):
		return -1
	case n < len(gasQuestion):
		return 0
	}
	return n
}

func (g *GasModule) answer([]byte) []reply {
	f := g.asked()
	if f.Silent {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.measured
	out[10] = -sum8(out[1:10])
	return f.replies(out[:])
}
