package rule

import (
	"time"

	"gatehouse/protocol/point"
)

// noData fires while a point gives nothing that could be trusted: silent for
// too long, reported faulty, or implausible. A device that is warming up says
// nothing either way.
type noData struct{ own }

func (noData) Eval(_ time.Time, p point.ID, at Lookup) Verdict {
	r, ok := at.Latest(p)
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
