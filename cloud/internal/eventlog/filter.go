package eventlog

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"gatehouse/protocol/wire"
)

// Drill says what to do with exercises.
type Drill uint8

// The choices.
const (
	DrillAny  Drill = iota // both
	DrillOnly              // exercises only
	DrillNone              // no exercises
)

// Filter selects entries. The zero Filter selects all.
type Filter struct {
	Scope string   // division prefix of 2, 4, 6, 9 or 12 digits; empty for all
	Kinds []string // kinds or prefixes of kinds; empty for all
	Drill Drill
}

// hash tells filters apart in a cursor.
func (f Filter) hash() uint64 {
	kinds := slices.Clone(f.Kinds)
	slices.Sort(kinds)
	sum := sha256.Sum256([]byte(f.Scope + "|" + strings.Join(slices.Compact(kinds), ",") + "|" + string('0'+rune(f.Drill))))
	return binary.BigEndian.Uint64(sum[:8])
}

// laneOf names the lane whose gaps concern whoever follows kind: a reader of
// alarms must hear of lost alarms though it never asked for gaps.
func laneOf(kind string) (wire.Lane, bool) {
	family, _, _ := strings.Cut(kind, ".")
	if family == "gateway" {
		return wire.LaneEvent, true
	}
	lane, err := wire.ParseLane(family)
	return lane, err == nil
}

// kindsIn returns the kinds to select in one lane; nil for all.
func (f Filter) kindsIn(lane wire.Lane) []string {
	if len(f.Kinds) == 0 {
		return nil
	}
	kinds := slices.Clone(f.Kinds)
	for _, k := range f.Kinds {
		if home, ok := laneOf(k); ok && home == lane {
			kinds = append(kinds, wire.KindGap)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// subjects returns the stream's subjects to read, no two of which overlap.
func (f Filter) subjects(lane wire.Lane) []string {
	base := "ev." + lane.String() + "." + divisionTokens(f.Scope) + ".*."
	kinds := f.kindsIn(lane)
	if kinds == nil {
		return []string{base + ">"}
	}
	var subjects []string
	for _, k := range kinds {
		if !slices.ContainsFunc(kinds, func(other string) bool { return strings.HasPrefix(k, other+".") }) {
			subjects = append(subjects, base+k, base+k+".>")
		}
	}
	return subjects
}

// concernsGaps reports whether a loss in the lane is news to f's reader.
func (f Filter) concernsGaps(lane wire.Lane) bool {
	return len(f.Kinds) == 0 || slices.Contains(f.kindsIn(lane), wire.KindGap)
}

// match reports whether an entry of this division and kind may be selected.
func (f Filter) match(lane wire.Lane, division, kind string) bool {
	if !strings.HasPrefix(division, f.Scope) {
		return false
	}
	kinds := f.kindsIn(lane)
	return kinds == nil || slices.ContainsFunc(kinds, func(k string) bool {
		return k == kind || strings.HasPrefix(kind, k+".")
	})
}

// wants is the part of the filter that only the record's body can answer.
func (f Filter) wants(r *wire.Record) bool {
	if f.Drill == DrillAny || r.Kind == wire.KindGap {
		return true
	}
	drill := false
	if strings.HasPrefix(r.Kind, "alarm.") {
		if a, err := wire.DecodeAlarm(r.Body); err == nil {
			drill = a.Drill
		}
	}
	return drill == (f.Drill == DrillOnly)
}
