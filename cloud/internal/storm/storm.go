// Package storm turns a flood of like messages into one line and a count.
//
// It guarantees: the first of its kind passes at once; while the flood goes
// on, one passes per interval and says how many were held back; memory is
// bounded however many kinds there are.
package storm

import (
	"sync"
	"time"
)

// maxKeys bounds how many kinds are told apart; beyond it all are forgotten,
// which costs at worst a few extra lines.
const maxKeys = 4096

// Gate decides what is worth a line.
type Gate struct {
	every time.Duration
	now   func() time.Time

	mu   sync.Mutex // guards seen
	seen map[string]*flood
}

type flood struct {
	last time.Time
	held int
}

// NewGate returns a gate that lets one of a kind pass per interval.
func NewGate(every time.Duration) *Gate {
	return &Gate{every: every, now: time.Now, seen: map[string]*flood{}}
}

// Pass reports whether to say it now, and how many of its kind were held back
// since the last time.
func (g *Gate) Pass(key string) (held int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	f := g.seen[key]
	if f == nil {
		if len(g.seen) >= maxKeys {
			clear(g.seen)
		}
		g.seen[key] = &flood{last: now}
		return 0, true
	}
	if now.Sub(f.last) < g.every {
		f.held++
		return 0, false
	}
	held, f.held, f.last = f.held, 0, now
	return held, true
}
