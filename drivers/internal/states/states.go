// Package states says what the code of a State point means: for the point itself,
// and for those it vouches for. It is one rule for every driver.
//
// It guarantees:
//
//   - a code that nobody declared makes the State point itself a Fault, and so each
//     point it vouches for, but not one of life safety;
//   - such a one is judged by its own value: only what is declared to be a fault
//     may keep a dangerous value from raising an alarm;
//   - a declared fault or sentinel is a Fault and a declared warm-up is Unknown,
//     for all.
//
// Reading a code again does not allocate, declared or not.
package states

import (
	"slices"
	"strconv"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// Table is the declared codes of one State point. Its methods are for one
// goroutine at a time.
type Table struct {
	codes     map[uint64]drivers.State
	sentinels []uint64
	other     uint64 // the last undeclared code, and what it is called
	name      string
}

// New returns the table of a State point, or nil of any other.
func New(p *drivers.PointSpec) *Table {
	if p.States == nil {
		return nil
	}
	return &Table{codes: p.States, sentinels: p.Sentinels}
}

// Value returns what a code says of the State point itself. An undeclared one is
// called by its number, as in "code 13". A sentinel is the caller's to know, as of
// every kind of point.
func (t *Table) Value(code uint64) (point.Value, point.Quality) {
	v := point.Value{Kind: point.State, Num: float64(code)}
	if s, ok := t.codes[code]; ok {
		v.Text = s.Name
		return v, quality(s.Class)
	}
	if t.name == "" || t.other != code {
		t.other, t.name = code, "code "+strconv.FormatUint(code, 10)
	}
	v.Text = t.name
	return v, point.Fault
}

// Vouch returns what a code says about a point that this one vouches for.
func (t *Table) Vouch(code uint64, safety bool) point.Quality {
	if slices.Contains(t.sentinels, code) {
		return point.Fault
	}
	if s, ok := t.codes[code]; ok {
		return quality(s.Class)
	}
	return Undeclared(safety)
}

// Undeclared is what a state that nobody declared says about a point that it
// vouches for.
func Undeclared(safety bool) point.Quality {
	if safety {
		return point.Good
	}
	return point.Fault
}

func quality(c drivers.Class) point.Quality {
	switch c {
	case drivers.ClassFault:
		return point.Fault
	case drivers.ClassWarmup:
		return point.Unknown
	}
	return point.Good
}
