package sim

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Cells are values at addresses, as a scenario writes them:
//
//	{0: 1, 2-7: 0, 8: [1, 2, 3], 20: {f32: 230.1}, 22: {u32: 70000}}
//
// A key is an address or a range, which its one value fills. A value is a
// number of one register (−32768..65535), a list of such, or a 32-bit number
// over two registers, high word first.
type Cells []Cell

// Cell is one value at one address.
type Cell struct {
	Address uint16
	Value   uint16
}

// flat returns the cells as a table.
func (c Cells) flat() map[uint16]uint16 {
	m := make(map[uint16]uint16, len(c))
	for _, cell := range c {
		m[cell.Address] = cell.Value
	}
	return m
}

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (c *Cells) UnmarshalYAML(node ast.Node) error {
	m, ok := node.(ast.MapNode)
	if !ok {
		return syntax(node, "want a mapping of addresses to values")
	}
	seen := make(map[uint16]bool)
	for it := m.MapRange(); it.Next(); {
		first, last, err := addresses(it.Key())
		if err != nil {
			return err
		}
		words, err := wordsOf(it.Value())
		if err != nil {
			return err
		}
		if last > first && len(words) != 1 {
			return syntax(it.Value(), "a range takes one register value")
		}
		if last == first {
			last += len(words) - 1
		}
		if last > math.MaxUint16 {
			return syntax(it.Key(), fmt.Sprintf("address %d is above 65535", last))
		}
		for a := first; a <= last; a++ {
			if seen[uint16(a)] {
				return syntax(it.Key(), fmt.Sprintf("address %d is given twice", a))
			}
			seen[uint16(a)] = true
			*c = append(*c, Cell{Address: uint16(a), Value: words[(a-first)%len(words)]})
		}
	}
	return nil
}

// addresses reads a key: 7, 0x10 or 2-5.
func addresses(key ast.Node) (first, last int, err error) {
	from, to, isRange := strings.Cut(key.GetToken().Value, "-")
	a, err := strconv.ParseUint(from, 0, 16)
	if err != nil {
		return 0, 0, syntax(key, fmt.Sprintf("address %q: want a number of 0 to 65535, or a range such as 2-5", key.GetToken().Value))
	}
	if !isRange {
		return int(a), int(a), nil
	}
	b, err := strconv.ParseUint(to, 0, 16)
	if err != nil || b < a {
		return 0, 0, syntax(key, fmt.Sprintf("range %q: want first-last", key.GetToken().Value))
	}
	return int(a), int(b), nil
}

// wordsOf reads a value as the registers it fills.
func wordsOf(node ast.Node) ([]uint16, error) {
	switch n := node.(type) {
	case *ast.SequenceNode:
		var words []uint16
		for _, v := range n.Values {
			w, err := wordOf(v)
			if err != nil {
				return nil, err
			}
			words = append(words, w)
		}
		if len(words) == 0 {
			return nil, syntax(node, "an empty list sets nothing")
		}
		return words, nil
	case ast.MapNode:
		return wideOf(node)
	}
	w, err := wordOf(node)
	return []uint16{w}, err
}

func wordOf(node ast.Node) (uint16, error) {
	var n int
	if err := yaml.NodeToValue(node, &n); err != nil || n < math.MinInt16 || n > math.MaxUint16 {
		return 0, syntax(node, fmt.Sprintf("value %q: want a number of one register, -32768 to 65535", node.GetToken().Value))
	}
	return uint16(n), nil
}

// wideOf reads {f32: x} or {u32: n}.
func wideOf(node ast.Node) ([]uint16, error) {
	var wide struct {
		F32 *float32 `yaml:"f32"`
		U32 *uint32  `yaml:"u32"`
	}
	if err := yaml.NodeToValue(node, &wide, yaml.Strict()); err != nil {
		return nil, err
	}
	switch {
	case wide.F32 != nil && wide.U32 == nil:
		return float32Words(*wide.F32), nil
	case wide.U32 != nil && wide.F32 == nil:
		return []uint16{uint16(*wide.U32 >> 16), uint16(*wide.U32)}, nil
	}
	return nil, syntax(node, "want {f32: number} or {u32: number}")
}

// float32Words is the IEEE 754 form in two registers, high word first.
func float32Words(v float32) []uint16 {
	b := math.Float32bits(v)
	return []uint16{uint16(b >> 16), uint16(b)}
}

func syntax(node ast.Node, what string) error {
	return &yaml.SyntaxError{Message: what, Token: node.GetToken()}
}
