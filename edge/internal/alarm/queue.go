package alarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// ErrNotDurable occurs when a step has taken effect but could not be stored
// in time; it is still waiting to be.
var ErrNotDurable = errors.New("done, but not yet stored: the store does not answer")

const (
	retryCommit = time.Second // pause after a commit that failed
	maxTogether = 500         // steps in one transaction
)

// commit is one step on its way into the journal.
type commit struct {
	change Change
	done   chan struct{}
}

// queue carries steps to the journal in their order, all that wait in one
// transaction, however long that takes. Adding never waits.
type queue struct {
	journal Journal
	log     *slog.Logger
	wake    chan struct{}

	mu     sync.Mutex // guards all below
	steps  []*commit
	tried  time.Time // when the first of steps was first handed to the journal; zero: not yet
	failed error     // of the latest attempt with it
}

func newQueue(j Journal, log *slog.Logger) *queue {
	return &queue{journal: j, log: log, wake: make(chan struct{}, 1)}
}

func (q *queue) add(c *commit) {
	q.mu.Lock()
	q.steps = append(q.steps, c)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// waiting returns how many steps are not durable.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.steps)
}

// stalled returns an error once the journal has been busy with the same steps
// for StallAfter.
func (q *queue) stalled(now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.tried.IsZero() || now.Sub(q.tried) < StallAfter {
		return nil
	}
	if q.failed != nil {
		return fmt.Errorf("%d alarm steps are not stored: %w", len(q.steps), q.failed)
	}
	return fmt.Errorf("%d alarm steps are not stored: the store does not answer", len(q.steps))
}

// wait returns when c is durable, or ErrNotDurable after StallAfter.
func (q *queue) wait(c *commit) error {
	timer := time.NewTimer(StallAfter)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return ErrNotDurable
	}
}

// take returns the steps to store next.
func (q *queue) take() []*commit {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.steps), maxTogether)
	if n > 0 && q.tried.IsZero() {
		q.tried = time.Now()
	}
	return q.steps[:n:n]
}

// stored takes the first n steps off.
func (q *queue) stored(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.steps[:n] {
		close(c.done)
	}
	clear(q.steps[:n])
	q.steps, q.tried, q.failed = q.steps[n:], time.Time{}, nil
}

// run commits until ctx ends, then what still waits, giving up at the first
// failure.
func (q *queue) run(ctx context.Context) error {
	failing := false
	for {
		steps := q.take()
		if len(steps) == 0 {
			select {
			case <-q.wake:
				continue
			case <-ctx.Done():
				if q.waiting() == 0 {
					return nil
				}
				continue
			}
		}
		changes := make([]Change, len(steps))
		for i, c := range steps {
			changes[i] = c.change
		}
		err := q.journal.CommitAll(changes)
		switch {
		case err == nil:
			q.stored(len(steps))
			if failing {
				failing = false
				q.log.Info("alarm steps are being stored again")
			}
			continue
		case ctx.Err() != nil:
			return err
		case !failing:
			failing = true
			q.log.Error("alarm steps could not be stored and are being retried", "steps", len(steps), "err", err)
		}
		q.mu.Lock()
		q.failed = err
		q.mu.Unlock()
		select {
		case <-time.After(retryCommit):
		case <-ctx.Done():
		}
	}
}
