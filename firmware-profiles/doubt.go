package profiles

import (
	"fmt"

	"gatehouse/protocol/point"
)

// Doubt is what may be right and is more often a slip: Key is the field of the
// point.
type Doubt struct {
	Key, What, Hint string
}

// Doubts says what of a point that plays a safety role would silence an alarm.
// It expects a point that was checked.
func (p Profile) Doubts(pt Point, role point.Role) (doubts []Doubt) {
	info := point.Roles[role]
	switch {
	case !info.Safety:
	case info.Kind == point.State:
		set := p.States[pt.States]
		for _, s := range set {
			if s.Class == "alarm" {
				return nil
			}
		}
		if len(set) > 0 {
			doubts = append(doubts, Doubt{"states", "no code is of class alarm: the detector can never raise one", "name the codes of its alarms, or use role state"})
		}
	case info.Kind == point.Number && !info.Low:
		if pt.Min != nil && *pt.Min > 0 {
			doubts = append(doubts, Doubt{"min", fmt.Sprintf("clean air is below %v and would be called implausible", *pt.Min), "use 0 or less, or leave it out"})
		}
		for _, code := range pt.Sentinels {
			if pt.measures(code) {
				doubts = append(doubts, Doubt{"sentinels", fmt.Sprintf("%#x is a value that the device can measure: %v would be called no measurement", code, pt.value(code)),
					"name only codes that its manual calls no measurement"})
			}
		}
	}
	return doubts
}

// measures reports whether a raw code is rather a measurement above zero than
// one of the marks at the ends of its type by which devices say that they have none.
func (p *Point) measures(code uint64) bool {
	x := p.value(code)
	switch width := p.rawWidth(); {
	case x <= 0:
		return false
	case p.Max != nil:
		return x <= *p.Max
	case (p.Unit == point.PercentLEL || p.Unit == point.PercentVol) && p.Decimals == nil && p.UnitFrom == nil:
		return x <= 100
	case forms[p.Type].class == 'd' || forms[p.Type].class == 't':
		return false // no marks are known of digits
	case width >= 16 && width <= 64:
		top := uint64(1)<<(width-1) - 1 // of a signed value
		margin := uint64(1) << (width - 8)
		return code < top-margin
	}
	return false
}

// value is what a raw code measures, but for what is read beside it.
func (p *Point) value(code uint64) float64 {
	x := float64(code)
	if width := p.rawWidth(); forms[p.Type].class == 's' && width < 64 && code>>(width-1) != 0 {
		x -= float64(uint64(1) << width)
	}
	return x*p.Scale + p.Offset
}
