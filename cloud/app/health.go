package app

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"gatehouse/cloud/internal/broker"
	"gatehouse/cloud/internal/eventlog"
)

const (
	healthEvery = 5 * time.Second
	// maxFailing is how long the log may fail, try after try, with room on the
	// disk, before the service ends to be started anew.
	maxFailing = 30 * time.Second
	// enoughRoom tells a full disk, which a restart does not cure.
	enoughRoom = 64 << 20
)

// errStuck occurs when the event log stopped storing for no reason that could
// pass by itself.
var errStuck = errors.New("the event log stopped storing though the disk has room")

// health answers whether the service can do its work.
type health struct {
	data   string
	broker *broker.Broker
	events *eventlog.Log
}

// ready returns what keeps the service from its work, or nil.
func (h health) ready() error {
	if !h.broker.Ready() {
		return errors.New("broker is down")
	}
	return h.events.Err()
}

// watch reports to stuck, once, when only a restart can help: a stream that
// met a write error refuses writes until the server opens it again.
func (h health) watch(ctx context.Context, stuck chan<- error) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if h.events.Stuck() >= maxFailing && freeBytes(h.data) >= enoughRoom {
			stuck <- fmt.Errorf("%w (hint: it ends now so that its supervisor starts it again; see the log for a write error)", errStuck)
			return
		}
	}
}

// freeBytes returns what an unprivileged process can still write in dir.
func freeBytes(dir string) uint64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize)
}
