package eventlog

import "gatehouse/protocol/wire"

// waiter is one reader that wants to hear of news.
type waiter struct {
	filter Filter
	news   chan struct{}
}

// Watch returns a channel that gets a value when an entry that f may select
// was stored after the call. Watch first, then Read: so no news is missed. The
// caller ends it with stop.
func (l *Log) Watch(f Filter) (news <-chan struct{}, stop func()) {
	w := &waiter{filter: f, news: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiters[w] = struct{}{}
	return w.news, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiters, w)
	}
}

// announce wakes the readers concerned by what was just stored.
func (l *Log) announce(lane wire.Lane, division string, messages []message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.waiters {
		for _, m := range messages {
			if !w.filter.match(lane, division, m.kind) {
				continue
			}
			select {
			case w.news <- struct{}{}:
			default: // it has not looked at the last news yet
			}
			break
		}
	}
}
