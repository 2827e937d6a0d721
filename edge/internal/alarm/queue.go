package alarm

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gatehouse/edge/internal/rule"
	"gatehouse/protocol/wire"
)

// ErrNotDurable occurs when a step has taken effect but could not be stored
// in time; it is still waiting to be.
var ErrNotDurable = errors.New("done, but not yet stored: the store does not answer")

// retryCommit is the pause after a commit that failed.
const retryCommit = time.Second

// stallRule is the id of the alarm about a store that does not answer.
const stallRule = "store-stalled"

// stallDef is that alarm. It is raised like any other: outputs first.
func stallDef() rule.Def {
	return rule.Def{ID: stallRule, Priority: "P2", Title: "存储无响应,报警记录未落盘", TitleEN: "Store stalled: alarm records are not durable"}
}

// commit is one step on its way into the journal.
type commit struct {
	key    string
	state  []byte
	record wire.Record
	at     time.Time // of adding, on the monotonic clock
	done   chan struct{}
}

// queue carries steps to the journal one by one, in their order, however long
// that takes. Adding never waits.
type queue struct {
	journal Journal
	log     *slog.Logger
	wake    chan struct{}

	mu    sync.Mutex // guards steps
	steps []*commit
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

// waiting returns how many steps are not durable and since when the first is.
func (q *queue) waiting() (n int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.steps) == 0 {
		return 0, time.Time{}
	}
	return len(q.steps), q.steps[0].at
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

func (q *queue) head() *commit {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.steps) == 0 {
		return nil
	}
	return q.steps[0]
}

func (q *queue) pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.steps[0] = nil
	q.steps = q.steps[1:]
}

// run commits until ctx ends, then what still waits, giving up at the first
// failure.
func (q *queue) run(ctx context.Context) error {
	failing := false
	for {
		c := q.head()
		if c == nil {
			select {
			case <-q.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		err := q.journal.Commit(c.key, c.state, c.record)
		if err == nil {
			q.pop()
			close(c.done)
			if failing {
				failing = false
				q.log.Info("alarm steps are being stored again")
			}
			continue
		}
		if ctx.Err() != nil {
			return err
		}
		if !failing {
			failing = true
			q.log.Error("an alarm step could not be stored and is being retried", "key", c.key, "err", err)
		}
		select {
		case <-time.After(retryCommit):
		case <-ctx.Done():
		}
	}
}

// Run stores steps until ctx ends; then it stores those still waiting and
// returns.
func (m *Manager) Run(ctx context.Context) error { return m.queue.run(ctx) }

// watchStall raises or clears the alarm about the store itself. That alarm's
// own record waits behind the others; its outputs do not.
func (m *Manager) watchStall(now time.Time) {
	n, since := m.queue.waiting()
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.open[key(stallRule, systemPoint)]
	active := a != nil && a.Active
	switch {
	case !active && n > 0 && now.Sub(since) >= StallAfter:
		m.system(stallDef(), true, "")
	case active && (n == 0 || now.Sub(since) < StallAfter):
		m.system(stallDef(), false, "")
	}
}
