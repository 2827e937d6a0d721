package fleet

import (
	"context"
	"time"
)

// KeepSeen stores last-seen times now and then until ctx ends, and once more
// on the way out. Times are for people: one that is lost with the power is
// replaced by the next batch.
func (r *Registry) KeepSeen(ctx context.Context) {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.storeSeen(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			r.storeSeen(last)
			return
		}
	}
}

func (r *Registry) storeSeen(ctx context.Context) {
	for id, at := range r.unstored() {
		p, err := at.MarshalText()
		if err == nil {
			_, err = r.kv.Put(ctx, seenPrefix+id, p)
		}
		if err != nil {
			r.log.Warn("last-seen times not stored", "gateway", id, "err", err)
			return
		}
		r.mu.Lock()
		r.stored[id] = at
		r.mu.Unlock()
	}
}

// unstored returns the times the bucket does not have yet.
func (r *Registry) unstored() map[string]time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	late := map[string]time.Time{}
	for id, g := range r.gateways {
		if g.LastSeen.After(r.stored[id]) {
			late[id] = g.LastSeen
		}
	}
	return late
}
