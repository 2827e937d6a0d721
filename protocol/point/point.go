// Package point is the vocabulary every other package speaks: what a point is
// called, what it measures and how far a reading of it may be trusted.
//
// It guarantees: a Reading carries its value without an interface and without
// an allocation; the zero Quality is Unknown, so a reading nobody vouched for
// is never taken for a good one; Units and Roles are closed, published lists.
package point

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ID names one point as "device/point". Both halves match [A-Za-z0-9_.-]+.
type ID string

// MakeID joins a device id and a point name.
func MakeID(device, name string) ID { return ID(device + "/" + name) }

// ParseID checks the form of s and returns it as an ID.
func ParseID(s string) (ID, error) {
	device, name, ok := strings.Cut(s, "/")
	if !ok || !ValidName(device) || !ValidName(name) {
		return "", fmt.Errorf("point id %q: want device/point, each of letters, digits, '_', '.' or '-'", s)
	}
	return ID(s), nil
}

// Device returns the half before the slash.
func (id ID) Device() string {
	device, _, _ := strings.Cut(string(id), "/")
	return device
}

// Name returns the half after the slash.
func (id ID) Name() string {
	_, name, _ := strings.Cut(string(id), "/")
	return name
}

// ValidName reports whether s can be one half of an ID.
func ValidName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.':
		default:
			return false
		}
	}
	return true
}

// Kind says which fields of a Value are meant.
type Kind uint8

// The kinds of value.
const (
	None   Kind = iota // no value is known
	Number             // Num, in the point's unit
	Bool               // Num is 0 or 1; 1 is the active (alarming, open, pressed) state
	State              // Text is the state's name, Num its code on the wire
	Text               // Text
)

// Value is what was measured.
type Value struct {
	Kind Kind
	Num  float64
	Text string
}

// Float returns a Number.
func Float(v float64) Value { return Value{Kind: Number, Num: v} }

// Truth returns a Bool.
func Truth(on bool) Value {
	if on {
		return Value{Kind: Bool, Num: 1}
	}
	return Value{Kind: Bool}
}

// On reports whether v is an active Bool.
func (v Value) On() bool { return v.Kind == Bool && v.Num != 0 }

// String prints v as a person reads it: 12.5, true, high_alarm; "-" for None.
func (v Value) String() string {
	switch v.Kind {
	case Number:
		return strconv.FormatFloat(v.Num, 'f', -1, 64)
	case Bool:
		return strconv.FormatBool(v.Num != 0)
	case State, Text:
		return v.Text
	}
	return "-"
}

// Quality says how far a reading may be trusted. Only Good is evidence that
// all is well; everything else makes a rule's verdict Unknown, never Normal.
type Quality uint8

// The qualities, worst knowledge first.
const (
	Unknown     Quality = iota // nothing was ever read, or the device is not ready (warming up)
	Good                       // read, decoded and plausible
	Stale                      // the last good reading is older than the point allows
	Fault                      // the device says so: fault bit, sentinel, refusal
	Implausible                // decoded, but outside what the point can be
)

var qualityNames = [...]string{"unknown", "good", "stale", "fault", "implausible"}

// String returns the published name: unknown, good, stale, fault, implausible.
func (q Quality) String() string {
	if int(q) < len(qualityNames) {
		return qualityNames[q]
	}
	return "quality(" + strconv.Itoa(int(q)) + ")"
}

// ReadingKind separates what is true until changed from what happened once.
type ReadingKind uint8

// The kinds of reading.
const (
	Level ReadingKind = iota // a state of the world; a later one replaces it
	Event                    // an occurrence (a card, a key press); never coalesced
)

// Reading is the one type that travels from driver to rule. At is the moment
// the answer was complete on the gateway; it carries the monotonic clock.
type Reading struct {
	Point   ID
	At      time.Time
	Value   Value
	Quality Quality
	Kind    ReadingKind
}
