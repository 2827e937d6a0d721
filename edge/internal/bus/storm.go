package bus

import (
	"sync"
	"time"
)

// Bounds of what is remembered of repeated complaints.
const (
	stormPause   = time.Hour // between two lines about the same thing
	stormThings  = 256
	stormTheRest = "others" // what is counted together once there are that many
)

// storm makes one line of a log out of many: the first complaint about a thing is
// told, and then one an hour, with the count since.
type storm struct {
	mu   sync.Mutex // guards seen
	seen map[string]*complaint
}

type complaint struct {
	told  time.Time
	count int // since told
}

// tell counts a complaint and reports whether it is time to write it down,
// and how many it stands for.
func (s *storm) tell(thing string, now time.Time) (count int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = make(map[string]*complaint)
	}
	c := s.seen[thing]
	if c == nil {
		if len(s.seen) >= stormThings {
			s.forget(now)
		}
		if len(s.seen) >= stormThings {
			thing = stormTheRest
		}
		if c = s.seen[thing]; c == nil {
			c = &complaint{told: now.Add(-stormPause)}
			s.seen[thing] = c
		}
	}
	c.count++
	if now.Sub(c.told) < stormPause {
		return 0, false
	}
	count = c.count
	c.told, c.count = now, 0
	return count, true
}

// forget drops what has been quiet for long.
func (s *storm) forget(now time.Time) {
	for thing, c := range s.seen {
		if now.Sub(c.told) >= stormPause {
			delete(s.seen, thing)
		}
	}
}
