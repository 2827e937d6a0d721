package rule

import (
	"time"

	"gatehouse/protocol/point"
)

// noData fires while a point gives nothing that could be trusted: silent for
// too long, reported faulty, or implausible. A device that is warming up says
// nothing either way.
type noData struct {
	point point.ID
}

func (n noData) Points() []point.ID { return []point.ID{n.point} }

func (n noData) Eval(_ time.Time, at Lookup) Verdict {
	r, ok := at.Latest(n.point)
	if !ok {
		return Unknown
	}
	switch r.Quality {
	case point.Good:
		return Normal
	case point.Stale, point.Fault, point.Implausible:
		return Firing
	}
	return Unknown
}
