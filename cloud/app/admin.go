package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"gatehouse/cloud/internal/broker"
	"gatehouse/cloud/internal/control"
	"gatehouse/cloud/internal/fleet"
)

// lockPatience is how long a command waits for another one, or for a service
// that is starting or stopping.
const lockPatience = 10 * time.Second

// OpenAdmin returns the fleet of a data directory: of the running service if
// there is one, else by opening the directory itself. The caller calls done.
func OpenAdmin(ctx context.Context, data string, log *slog.Logger) (admin control.Admin, done func(), err error) {
	deadline := time.NewTimer(lockPatience)
	defer deadline.Stop()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		if c, err := control.Dial(ctx, filepath.Join(data, control.SocketName)); err == nil {
			return c, func() {}, nil
		}
		admin, done, err = openDirectory(ctx, data, log)
		if !errors.Is(err, broker.ErrLocked) {
			return admin, done, err
		}
		select {
		case <-retry.C:
		case <-deadline.C:
			return nil, nil, fmt.Errorf("%w (hint: the service runs but its control socket does not answer; run this as the service's user, or restart it)", err)
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// openDirectory starts the broker without listeners, just for the registry.
func openDirectory(ctx context.Context, data string, log *slog.Logger) (control.Admin, func(), error) {
	b, err := broker.Start(ctx, broker.Options{Dir: data, Log: log})
	if err != nil {
		return nil, nil, err
	}
	nc, err := b.Connect("fleet")
	if err != nil {
		b.Close()
		return nil, nil, err
	}
	registry, err := fleet.Open(ctx, fleet.Options{Conn: nc, Log: log})
	if err != nil {
		nc.Close()
		b.Close()
		return nil, nil, err
	}
	return registry, func() { nc.Close(); b.Close() }, nil
}
