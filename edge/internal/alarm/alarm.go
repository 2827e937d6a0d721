// Package alarm turns verdicts into alarms and carries each through its life:
// raised, acknowledged, cleared.
//
// It guarantees: at most one open alarm per rule and point; every step is one
// record, committed together with the state it leads to, in the order the
// steps happened; local outputs are commanded in the same call that saw the
// danger, before and whatever becomes of the commit; a commit that does not
// return within StallAfter raises an alarm of its own and holds up nothing;
// an alarm that was open before a restart is open after it. A verdict of
// Unknown raises nothing and clears nothing: it stops the on-delay where it
// stands. An on-delay that was running at a restart starts anew.
//
// An alarm is open until it has been both acknowledged and cleared. One that
// is raised again while it waits for its acknowledgement stays the same alarm
// with one occurrence more.
package alarm

import (
	"encoding/json"
	"fmt"
	"time"

	"gatehouse/edge/internal/rule"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// StallAfter is how long a step may wait for its commit before that is an
// alarm of its own.
const StallAfter = 2 * time.Second

// Change is one step for the journal: the state a key is left with (nil
// deletes it) and the records that tell of it.
type Change = struct {
	Key     string
	State   []byte
	Records []wire.Record
}

// Journal keeps alarm state across restarts. CommitAll stores all changes, in
// their order, in one transaction and returns when they are durable. Load
// delivers every state that can be read and then says in its error which cannot.
type Journal interface {
	CommitAll([]Change) error
	Load(func(key string, state []byte) error) error
}

// Output is a local output: a siren, a lamp, a line on a page. Step is called
// for every step, at once, with the alarm loop waiting: it must not block.
type Output interface {
	Step(Step)
}

// Step is one transition of one alarm. Kind is a record kind of package wire.
type Step struct {
	Kind  string
	Alarm Alarm
}

// Status is where an alarm stands.
type Status string

// The statuses of an open alarm.
const (
	Raised       Status = "raised"       // active, nobody has answered
	Acknowledged Status = "acknowledged" // active, somebody has
	Cleared      Status = "cleared"      // no longer active, nobody has answered
)

// Alarm is one open alarm.
type Alarm struct {
	ID         wire.EventID
	Rule       string
	Point      point.ID
	Name       string // the point's name for people
	Place      string
	Zone       string
	Role       point.Role
	Unit       point.Unit
	Priority   int
	Title      string
	TitleEN    string
	Value      point.Value // at the latest step
	Active     bool
	Occurrence int
	Raised     time.Time // latest raise
	Cleared    time.Time // latest clear, zero while active
	Acked      time.Time // zero until acknowledged
	AckedBy    string
	Remark     string
}

// Status returns where a stands.
func (a Alarm) Status() Status {
	switch {
	case !a.Active:
		return Cleared
	case a.Acked.IsZero():
		return Raised
	}
	return Acknowledged
}

// open reports whether a still concerns anybody.
func (a Alarm) open() bool { return a.Active || a.Acked.IsZero() }

// keyPrefix is the part of the journal's key space that belongs to alarms.
const keyPrefix = "alarm/"

func key(ruleID string, p point.ID) string { return keyPrefix + ruleID + "/" + string(p) }

// stored is the journal's form of an Alarm. Version 1; fields are only added.
type stored struct {
	Version    int         `json:"v"`
	ID         string      `json:"id"`
	Rule       string      `json:"rule"`
	Point      point.ID    `json:"point"`
	Name       string      `json:"name,omitempty"`
	Place      string      `json:"place,omitempty"`
	Zone       string      `json:"zone,omitempty"`
	Role       point.Role  `json:"role,omitempty"`
	Unit       point.Unit  `json:"unit,omitempty"`
	Priority   int         `json:"priority"`
	Title      string      `json:"title"`
	TitleEN    string      `json:"title_en,omitempty"`
	Value      point.Value `json:"value"`
	Active     bool        `json:"active"`
	Occurrence int         `json:"occurrence"`
	Raised     time.Time   `json:"raised"`
	Cleared    time.Time   `json:"cleared,omitzero"`
	Acked      time.Time   `json:"acked,omitzero"`
	AckedBy    string      `json:"acked_by,omitempty"`
	Remark     string      `json:"remark,omitempty"`
}

const storedVersion = 1

func (a Alarm) encode() ([]byte, error) {
	return json.Marshal(stored{
		Version: storedVersion, ID: a.ID.String(), Rule: a.Rule, Point: a.Point, Name: a.Name, Place: a.Place, Zone: a.Zone,
		Role: a.Role, Unit: a.Unit, Priority: a.Priority, Title: a.Title, TitleEN: a.TitleEN, Value: a.Value, Active: a.Active,
		Occurrence: a.Occurrence, Raised: a.Raised, Cleared: a.Cleared, Acked: a.Acked, AckedBy: a.AckedBy, Remark: a.Remark,
	})
}

func decode(state []byte) (Alarm, error) {
	var s stored
	if err := json.Unmarshal(state, &s); err != nil {
		return Alarm{}, fmt.Errorf("alarm state: %w", err)
	}
	if s.Version > storedVersion {
		return Alarm{}, fmt.Errorf("alarm state: version %d is newer than this release", s.Version)
	}
	id, err := wire.ParseEventID(s.ID)
	if err != nil {
		return Alarm{}, fmt.Errorf("alarm state: %w", err)
	}
	return Alarm{
		ID: id, Rule: s.Rule, Point: s.Point, Name: s.Name, Place: s.Place, Zone: s.Zone, Role: s.Role, Unit: s.Unit,
		Priority: s.Priority, Title: s.Title, TitleEN: s.TitleEN, Value: s.Value, Active: s.Active, Occurrence: s.Occurrence,
		Raised: s.Raised, Cleared: s.Cleared, Acked: s.Acked, AckedBy: s.AckedBy, Remark: s.Remark,
	}, nil
}

// body is what a step tells the cloud.
func (a Alarm) body() wire.Alarm {
	return wire.Alarm{
		Alarm: a.ID, Rule: a.Rule, Point: a.Point, Place: a.Place, Zone: a.Zone, Role: a.Role, Value: a.Value, Unit: a.Unit,
		Priority: a.Priority, Title: a.Title, Occurrence: a.Occurrence, Actor: a.AckedBy, Raised: a.Raised, Remark: a.Remark,
	}
}

// fresh returns a new alarm of b that has not been raised yet.
func fresh(b rule.Bound) *Alarm {
	a := &Alarm{ID: wire.NewEventID(), Rule: b.Def.ID, Point: b.Point.ID}
	a.describe(b)
	return a
}

// describe says what a is about as it is configured now: a rule may have
// become more urgent, or a detector may have moved, since it was raised.
func (a *Alarm) describe(b rule.Bound) {
	a.Name, a.Place, a.Zone, a.Role, a.Unit = b.Point.Name, b.Point.Place, b.Point.Zone, b.Point.Role, b.Point.Unit
	a.Priority, a.Title, a.TitleEN, a.Remark = b.Priority, b.Def.Title, b.Def.TitleEN, ""
}
