package rule

import (
	"time"

	"gatehouse/protocol/point"
)

// compare is one comparison of a number with a limit.
type compare struct {
	op    string // < <= > >=
	limit float64
}

func (c compare) holds(v float64) bool {
	switch c.op {
	case "<":
		return v < c.limit
	case "<=":
		return v <= c.limit
	case ">":
		return v > c.limit
	}
	return v >= c.limit
}

// threshold fires on a number beyond a limit and returns to normal at a
// second one; between the two it holds.
type threshold struct {
	point point.ID
	when  compare
	clear compare
	apart bool // clear is a limit of its own
}

func (t threshold) Points() []point.ID { return []point.ID{t.point} }

func (t threshold) Eval(_ time.Time, at Lookup) Verdict {
	r, ok := at.Latest(t.point)
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
