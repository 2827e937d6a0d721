package eventlog

import (
	"errors"
	"fmt"
	"time"
)

// trouble is what a lane's attempts to store met since it last worked.
type trouble struct {
	first, last time.Time // of the attempts that failed
	err         error     // of the last one; nil if all is well
}

// note keeps how an attempt at time at ended. A lost race is a working store.
func (ln *lane) note(err error, at time.Time) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	switch {
	case err == nil || errors.Is(err, errRaced):
		ln.trouble = trouble{}
	case ln.trouble.err == nil:
		ln.trouble = trouble{first: at, last: at, err: err}
	default:
		ln.trouble.last, ln.trouble.err = at, err
	}
}

func (ln *lane) troubled() trouble {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.trouble
}

// Err returns what the last attempt to store met in a lane, or nil if all lanes
// worked when they were last used.
func (l *Log) Err() error {
	for _, id := range laneOrder {
		if t := l.lanes[id].troubled(); t.err != nil {
			return fmt.Errorf("lane %s since %s: %w", id, t.first.Format(time.RFC3339), t.err)
		}
	}
	return nil
}

// Stuck returns for how long a lane has failed again and again, from the first
// attempt to the last, for no reason that passes by itself: a stream that met
// a write error stays closed to writing until the server is started again. A
// lane that is full, or that nobody tried since, is not stuck.
func (l *Log) Stuck() time.Duration {
	longest := time.Duration(0)
	for _, ln := range l.lanes {
		if t := ln.troubled(); t.err != nil && !errors.Is(t.err, ErrFull) {
			longest = max(longest, t.last.Sub(t.first))
		}
	}
	return longest
}
