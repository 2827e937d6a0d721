package rule

import (
	"slices"
	"time"

	"gatehouse/protocol/point"
)

// contact fires while a Bool point is in one of its two states.
type contact struct {
	own
	active bool
}

func (c contact) Eval(_ time.Time, p point.ID, at Lookup) Verdict {
	r, ok := at.Latest(p)
	switch {
	case !ok || r.Quality != point.Good || r.Value.Kind != point.Bool:
		return Unknown
	case r.Value.On() == c.active:
		return Firing
	}
	return Normal
}

// state fires while a State point is in one of the named states, and returns
// to normal when it is in none of them, or in one of the clearing states if
// those are named.
type state struct {
	own
	firing []string
	normal []string // nil: every other state
}

func (s state) Eval(_ time.Time, p point.ID, at Lookup) Verdict {
	r, ok := at.Latest(p)
	switch {
	case !ok || r.Quality != point.Good || r.Value.Kind != point.State:
		return Unknown
	case slices.Contains(s.firing, r.Value.Text):
		return Firing
	case s.normal != nil && !slices.Contains(s.normal, r.Value.Text):
		return Hold
	}
	return Normal
}
