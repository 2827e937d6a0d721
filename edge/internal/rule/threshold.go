package rule

import (
	"time"

	"gatehouse/protocol/point"
)

// operator is how a comparison looks at its limit.
type operator uint8

const (
	below operator = iota
	notAbove
	above
	notBelow
)

// String returns the operator as it is written in a rule.
func (o operator) String() string { return [...]string{"<", "<=", ">", ">="}[o] }

// up reports whether larger values satisfy it.
func (o operator) up() bool { return o >= above }

// compare is one comparison of a number with a limit.
type compare struct {
	op    operator
	limit float64
}

func (c compare) holds(v float64) bool {
	switch c.op {
	case below:
		return v < c.limit
	case notAbove:
		return v <= c.limit
	case above:
		return v > c.limit
	}
	return v >= c.limit
}

// threshold fires on a number beyond a limit and returns to normal at a
// second one; between the two it holds.
type threshold struct {
	own
	when  compare
	clear compare
	apart bool // clear is a limit of its own
}

func (t *threshold) Eval(_ time.Time, p point.ID, at Lookup) Verdict {
	r, ok := at.Latest(p)
	if !ok || r.Quality != point.Good || r.Value.Kind != point.Number {
		return Unknown
	}
	switch {
	case t.when.holds(r.Value.Num):
		return Firing
	case t.apart && !t.clear.holds(r.Value.Num):
		return Hold
	}
	return Normal
}
