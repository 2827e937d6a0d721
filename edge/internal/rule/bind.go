package rule

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"gatehouse/protocol/point"
)

// DefError is one fault of a Def: Key names the field, Hint what to do.
type DefError struct {
	ID   string
	Key  string
	What string
	Hint string
}

// whenHint is what an author is told when a condition cannot be read.
const whenHint = "write one of: value >= 25, active, inactive, state in [high_alarm, low_alarm], alarm_state, no_data"

// Bind checks every def and joins it with each point it is meant for, in the
// order of defs, then of point ids. A def that fits no point binds to none.
func Bind(defs []Def, points map[point.ID]*PointInfo) ([]Bound, []DefError) {
	ids := make([]point.ID, 0, len(points))
	for id := range points {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })

	var bound []Bound
	var errs []DefError
	for i := range defs {
		def := &defs[i]
		priority, faults := def.check()
		if len(faults) > 0 {
			errs = append(errs, faults...)
			continue
		}
		guards := make(map[string]*Guard)
		for _, id := range ids {
			info := points[id]
			if !def.fits(info) {
				continue
			}
			if fault := def.suits(info); fault != nil {
				errs = append(errs, *fault)
				break
			}
			of := def.variant(info)
			if guards[of] == nil {
				guards[of] = &Guard{Rule: def.on(info), Def: def, Priority: priority}
			}
			bound = append(bound, Bound{Guard: guards[of], Point: info})
		}
	}
	return bound, errs
}

// Unguarded lists the safety points on which no rule but no_data is bound:
// something dangerous is measured and nobody would be told.
func Unguarded(bound []Bound, points map[point.ID]*PointInfo) []*PointInfo {
	guarded := make(map[point.ID]bool)
	for _, b := range bound {
		if b.Def.When != "no_data" {
			guarded[b.Point.ID] = true
		}
	}
	var open []*PointInfo
	for id, info := range points {
		if point.Roles[info.Role].Safety && !guarded[id] {
			open = append(open, info)
		}
	}
	sort.Slice(open, func(i, j int) bool { return open[i].ID < open[j].ID })
	return open
}

// check finds what is wrong with a def whatever points there are.
func (d *Def) check() (priority int, faults []DefError) {
	fault := func(key, hint, what string, args ...any) {
		faults = append(faults, DefError{ID: d.ID, Key: key, What: fmt.Sprintf(what, args...), Hint: hint})
	}
	if !point.ValidName(d.ID) {
		fault("id", "use letters, digits, '_', '.' and '-'", "%q is no rule id", d.ID)
	}
	info, known := point.Roles[d.Role]
	switch {
	case d.Safety && d.Role != "":
		fault("safety", "give role or safety, not both", "binds to a role and to every safety point")
	case !d.Safety && d.Role == "":
		fault("role", "name the role this rule guards", "is missing")
	case !d.Safety && !known:
		fault("role", "see the published list of roles", "unknown role %q", d.Role)
	case info.Output && d.When != "no_data":
		fault("role", "an output can be guarded by no_data only", "role %q is an output", d.Role)
	}
	priority, err := parsePriority(d.Priority)
	if err != nil {
		fault("priority", "P1 life, P2 urgent, P3 same day, P4 maintenance", "%v", err)
	}
	if d.Title == "" {
		fault("title", "say in a few words what a guard should read", "is missing")
	}
	if d.For < 0 {
		fault("for", "use a duration such as 30s", "is negative")
	}
	if d.Samples < 0 {
		fault("samples", "use 1 or more", "is negative")
	}
	d.checkConditions(info, fault)
	return priority, faults
}

func (d *Def) checkConditions(role point.RoleInfo, fault func(key, hint, what string, args ...any)) {
	when, err := parseCondition(d.When)
	if err != nil {
		fault("when", whenHint, "%v", err)
		return
	}
	if d.Safety && when.kind != point.None {
		fault("when", "a rule on every safety point can only be no_data; name a role instead", "%q does not fit every safety point", d.When)
	}
	if want := when.kind; want != point.None && role.Kind != point.None && want != role.Kind {
		fault("when", whenHint, "%q asks for a %s, but role %q is a %s", d.When, kindName(want), d.Role, kindName(role.Kind))
	}
	if d.Unit != point.NoUnit && role.Kind == point.Number && !slices.Contains(role.Units, d.Unit) {
		fault("unit", fmt.Sprintf("role %q has units %v", d.Role, role.Units), "unit %q does not fit", d.Unit)
	}
	if d.Clear == "" {
		return
	}
	clear, err := parseCondition(d.Clear)
	switch {
	case err != nil:
		fault("clear", whenHint, "%v", err)
	case clear.kind != when.kind || when.kind == point.None || when.kind == point.Bool:
		fault("clear", "leave it out: the rule clears when its condition no longer holds", "%q cannot clear %q", d.Clear, d.When)
	case when.kind == point.Number && !opposite(when.compare, clear.compare):
		fault("clear", "the clearing limit must lie on the safe side of the raising one, such as when: value >= 25, clear: value < 20",
			"%q does not clear %q", d.Clear, d.When)
	}
}

// opposite reports whether clear looks the other way than when and leaves no
// value for which both hold.
func opposite(when, clear compare) bool {
	if when.op.up() {
		return !clear.op.up() && clear.limit <= when.limit && !when.holdsAt(clear)
	}
	return clear.op.up() && clear.limit >= when.limit && !when.holdsAt(clear)
}

func (c compare) holdsAt(o compare) bool { return c.holds(o.limit) && o.holds(o.limit) }

// fits reports whether a checked def is meant for this point.
func (d *Def) fits(p *PointInfo) bool {
	role := point.Roles[p.Role]
	if d.Safety {
		return role.Safety
	}
	return p.Role == d.Role && (d.Unit == point.NoUnit || d.Unit == p.Unit)
}

// suits reports a fault if the def says too little for a point that it fits.
func (d *Def) suits(p *PointInfo) *DefError {
	when, _ := parseCondition(d.When)
	if when.word == "value" && p.Unit != point.NoUnit && d.Unit == point.NoUnit && len(point.Roles[d.Role].Units) > 1 && d.Role != "measurement" {
		return &DefError{ID: d.ID, Key: "unit", What: fmt.Sprintf("is missing: role %q comes in several units, %s is in %q", d.Role, p.ID, p.Unit),
			Hint: fmt.Sprintf("add unit: %q", p.Unit)}
	}
	return nil
}

// variant is what the rule of one point may differ in from that of another.
func (d *Def) variant(p *PointInfo) string {
	if strings.TrimSpace(d.When) == "alarm_state" {
		return strings.Join(p.AlarmStates, ",")
	}
	return ""
}

// on builds the rule for one point, and for all of that variant.
func (d *Def) on(p *PointInfo) Rule {
	when, _ := parseCondition(d.When)
	clear, _ := parseCondition(d.Clear)
	switch when.word {
	case "no_data":
		return noData{}
	case "active", "inactive":
		return contact{active: when.word == "active"}
	case "alarm_state":
		return state{firing: p.AlarmStates}
	case "state":
		return state{firing: when.states, normal: clear.states}
	}
	return &threshold{when: when.compare, clear: clear.compare, apart: d.Clear != ""}
}

// condition is a parsed When or Clear.
type condition struct {
	word    string     // value, state, active, inactive, alarm_state, no_data
	kind    point.Kind // of the points it can judge; None: any
	compare compare
	states  []string
}

// parseCondition reads one condition; the forms are those of whenHint.
func parseCondition(s string) (condition, error) {
	s = strings.TrimSpace(s)
	switch s {
	case "":
		return condition{}, fmt.Errorf("is empty")
	case "active", "inactive":
		return condition{word: s, kind: point.Bool}, nil
	case "alarm_state":
		return condition{word: s, kind: point.State}, nil
	case "no_data":
		return condition{word: s}, nil
	}
	if rest, ok := strings.CutPrefix(s, "value"); ok {
		return parseCompare(strings.TrimSpace(rest))
	}
	if rest, ok := strings.CutPrefix(s, "state in"); ok {
		return parseStates(strings.TrimSpace(rest))
	}
	return condition{}, fmt.Errorf("%q is no condition", s)
}

func parseCompare(s string) (condition, error) {
	for _, op := range []operator{notAbove, notBelow, below, above} { // the longer ones first
		rest, ok := strings.CutPrefix(s, op.String())
		if !ok {
			continue
		}
		limit, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
		if err != nil || limit != limit || limit-limit != 0 {
			return condition{}, fmt.Errorf("%q is no number", strings.TrimSpace(rest))
		}
		return condition{word: "value", kind: point.Number, compare: compare{op: op, limit: limit}}, nil
	}
	return condition{}, fmt.Errorf("%q begins with no comparison (<, <=, >, >=)", s)
}

func parseStates(s string) (condition, error) {
	inner, ok := strings.CutPrefix(s, "[")
	inner, ok2 := strings.CutSuffix(inner, "]")
	if !ok || !ok2 {
		return condition{}, fmt.Errorf("%q is no list of states", s)
	}
	c := condition{word: "state", kind: point.State}
	for name := range strings.SplitSeq(inner, ",") {
		name = strings.TrimSpace(name)
		if !point.ValidName(name) {
			return condition{}, fmt.Errorf("%q is no state name", name)
		}
		c.states = append(c.states, name)
	}
	return c, nil
}

func parsePriority(s string) (int, error) {
	if len(s) == 2 && s[0] == 'P' && s[1] >= '1' && s[1] <= '4' {
		return int(s[1] - '0'), nil
	}
	return 0, fmt.Errorf("%q is no priority", s)
}

func kindName(k point.Kind) string {
	return [...]string{"value of any kind", "number", "contact", "state", "text"}[k]
}
