// Package rule decides, from readings alone, whether a condition holds.
//
// It guarantees: rules are pure (no clock, no I/O, no goroutine: time comes in
// as an argument); a verdict on a reading that is not Good is never Normal; a
// rule asks only for the points it lists. Delays, latching and everything a
// person does belong to package alarm.
package rule

import (
	"time"

	"gatehouse/protocol/point"
)

// Verdict is what a rule says of the present.
type Verdict uint8

// The verdicts. Hold means: between the raising and the clearing condition,
// whatever was true before still is.
const (
	Unknown Verdict = iota
	Normal
	Firing
	Hold
)

var verdictNames = [...]string{"unknown", "normal", "firing", "hold"}

// String returns the verdict's name.
func (v Verdict) String() string { return verdictNames[v] }

// Lookup gives the latest reading of a point; ok is false if there never was one.
type Lookup interface {
	Latest(p point.ID) (r point.Reading, ok bool)
}

// Rule is one condition. It names no point, so that one serves every point it
// is bound to.
type Rule interface {
	// Points are those that it asks for when it judges p.
	Points(p point.ID) []point.ID
	Eval(now time.Time, p point.ID, at Lookup) Verdict
}

// PointInfo is what is known of a point besides its readings.
type PointInfo struct {
	ID    point.ID
	Name  string // for people: 501厨房燃气报警器
	Place string
	Zone  string
	Label string
	Role  point.Role
	Unit  point.Unit
	Kind  point.Kind
	Every time.Duration // poll period
	// AlarmStates names the states of a State point that are the device's own alarm.
	AlarmStates []string
}

// Def is one rule as a pack or a site writes it.
type Def struct {
	ID       string        `yaml:"id"`
	Role     point.Role    `yaml:"role"`   // binds to every point of this role
	Safety   bool          `yaml:"safety"` // instead of role: binds to every point of a safety role
	Unit     point.Unit    `yaml:"unit"`   // of the numbers in When and Clear; default: the point's own
	When     string        `yaml:"when"`   // value >= 25 | active | inactive | state in [a, b] | alarm_state | no_data
	Clear    string        `yaml:"clear"`  // default: When no longer holds
	For      time.Duration `yaml:"for"`    // on-delay
	Samples  int           `yaml:"samples"`
	Priority string        `yaml:"priority"` // P1..P4
	Title    string        `yaml:"title"`
	TitleEN  string        `yaml:"title_en"`
	Source   string        `yaml:"source"` // standard, edition, or "own default"
}

// Guard is a rule with the definition that it stands for.
type Guard struct {
	Rule     Rule
	Def      *Def
	Priority int // 1..4
}

// Bound is a guard on one point. Points share their guards: there may be tens
// of thousands of the one and a dozen of the other.
type Bound struct {
	*Guard
	Point *PointInfo
}

// own is the part of a rule that asks for nothing but the point it judges.
type own struct{}

func (own) Points(p point.ID) []point.ID { return []point.ID{p} }
