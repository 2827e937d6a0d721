package app

import (
	"context"
	"log/slog"
	"time"
)

// stopPatience is how long one part may take to stop before the next is asked.
const stopPatience = 3 * time.Second

// tasks are the running parts of the daemon, stopped in the reverse order of
// their start.
type tasks struct {
	log  *slog.Logger
	list []task
}

type task struct {
	name string
	stop func()
	done <-chan struct{}
}

// run starts f in a goroutine of its own. It ends when stop says so, in its
// turn, and not already when ctx does: those behind it still have work for it.
func (t *tasks) run(ctx context.Context, name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			t.log.Error("a part of the gateway has ended", "part", name, "err", err)
		}
	}()
	t.list = append(t.list, task{name: name, stop: cancel, done: done})
}

// onStop adds a clean-up step.
func (t *tasks) onStop(name string, f func() error) {
	done := make(chan struct{})
	t.list = append(t.list, task{name: name, done: done, stop: func() {
		go func() {
			defer close(done)
			if err := f(); err != nil {
				t.log.Error("a part of the gateway did not stop cleanly", "part", name, "err", err)
			}
		}()
	}})
}

// stop ends everything, the latest first. A part that hangs (a store on a dying
// disk) is named and left behind.
func (t *tasks) stop() {
	for i := len(t.list) - 1; i >= 0; i-- {
		part := t.list[i]
		part.stop()
		select {
		case <-part.done:
		case <-time.After(stopPatience):
			t.log.Error("a part of the gateway does not stop and is left behind", "part", part.name)
		}
	}
	t.list = nil
}
