package alarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/edge/internal/rule"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// Errors of Acknowledge.
var (
	// ErrNoAlarm occurs when no open alarm has the id.
	ErrNoAlarm = errors.New("no such open alarm")
	// ErrNoActor occurs when nobody is named, or by something that is no name.
	ErrNoActor = errors.New("an acknowledgement needs a name: 1 to 64 printable characters")
)

// Options is what a Manager needs.
type Options struct {
	// Points are those whose readings Observe is given, slot by slot.
	Points *rule.Catalogue
	// Rules that are bound to other points are never judged.
	Rules   []rule.Bound
	Lookup  rule.Lookup
	Journal Journal
	Outputs []Output
	Record  func(lane wire.Lane, kind string, body []byte) wire.Record
	// Now is the wall clock, for what people and records are told. Delays run on
	// the monotonic clock of readings and ticks.
	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Manager owns every alarm of the gateway. Observe and Tick belong to the
// table's goroutine; the other methods may be called from any.
type Manager struct {
	o     Options
	rules ruleSet
	queue *queue

	// The loop's own; rules are named by their number in the set.
	watching map[int32]*watch // those that fire and have not raised yet
	awake    []bool           // those that are watched or may have an open alarm
	seen     observed

	mu   sync.Mutex // guards open
	open map[string]*Alarm

	raised *prometheus.CounterVec
}

// watch is what the loop remembers of a rule that fires.
type watch struct {
	left    time.Duration // of the on-delay
	since   time.Time     // when left began to run; zero while it stands still
	samples int           // firing readings in a row
}

// New loads the open alarms from the journal and returns the manager. An open
// alarm whose rule or point is gone is cleared with a remark.
func New(o Options) (*Manager, error) {
	if o.Points == nil || o.Lookup == nil || o.Journal == nil || o.Record == nil || o.Now == nil || o.Log == nil {
		return nil, errors.New("alarm: Points, Lookup, Journal, Record, Now and Log are required")
	}
	m := &Manager{
		o: o, rules: newRuleSet(o.Points, o.Rules), queue: newQueue(o.Journal, o.Log),
		watching: make(map[int32]*watch), seen: observed{Lookup: o.Lookup}, open: make(map[string]*Alarm),
	}
	m.awake = make([]bool, m.rules.len())
	m.o.Rules = nil // packed into the set: the caller's need not stay in memory
	if err := m.register(); err != nil {
		return nil, err
	}
	m.load()
	return m, nil
}

func (m *Manager) register() error {
	m.raised = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_alarms_raised_total", Help: "Alarms raised, by priority."}, []string{"priority"})
	for p := 1; p <= 4; p++ {
		m.raised.WithLabelValues(priorityName(p))
	}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_alarms_open", Help: "Alarms that are active or not acknowledged."}, func() float64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		return float64(len(m.open))
	})
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_alarm_commits_waiting", Help: "Alarm steps that are not yet durable."}, func() float64 {
		return float64(m.queue.waiting())
	})
	if m.o.Registerer == nil {
		return nil
	}
	return errors.Join(m.o.Registerer.Register(m.raised), m.o.Registerer.Register(open), m.o.Registerer.Register(waiting))
}

func priorityName(p int) string { return fmt.Sprintf("P%d", p) }

// load takes up the alarms that were open. What cannot be read is an alarm of
// its own: living points raise theirs again, and somebody must know.
func (m *Manager) load() {
	var torn []error
	lost := m.o.Journal.Load(func(key string, state []byte) error {
		if !strings.HasPrefix(key, keyPrefix) {
			return nil
		}
		a, err := decode(state)
		if err != nil {
			torn = append(torn, fmt.Errorf("%s: %w", key, err))
			return nil
		}
		m.open[key] = &a
		return nil
	})
	unreadable := errors.Join(append(torn, lost)...)
	if unreadable != nil {
		m.o.Log.Error("not every open alarm could be read from the store", "err", unreadable)
	}
	m.adopt()
	m.system(unreadableDef(), systemPoint, unreadable)
}

// adopt joins the loaded alarms with the rules there are now. Those that no
// rule stands behind any more are cleared.
func (m *Manager) adopt() {
	if len(m.open) == 0 {
		return
	}
	bound := make(map[string]bool)
	for i := range int32(m.rules.len()) {
		k := m.key(i)
		if a := m.open[k]; a != nil {
			bound[k], m.awake[i] = true, true
			a.describe(m.rules.bound(i))
		}
	}
	for k, a := range m.open {
		if !bound[k] && a.Active && !a.own() {
			a.Remark = "the rule or point is no longer configured"
			m.clear(k, a)
		}
	}
}

func (m *Manager) key(i int32) string { return key(m.rules.guard(i).Def.ID, m.rules.point(i)) }

// Observe evaluates the rules that hang on the readings, in their order.
func (m *Manager) Observe(batch []point.Reading, slots []int32) {
	for n := range batch {
		rules := m.rules.on(slots[n])
		if len(rules) == 0 {
			continue
		}
		m.seen.reading = &batch[n]
		for _, i := range rules {
			m.judge(i, &m.seen, batch[n].At, true)
		}
	}
	m.seen.reading = nil
}

// Tick lets time pass: on-delays run out, a stalled commit shows.
func (m *Manager) Tick(now time.Time) {
	if len(m.watching) > 0 {
		for _, i := range slices.Sorted(maps.Keys(m.watching)) {
			m.judge(i, m.o.Lookup, now, false)
		}
	}
	m.watchStall(now)
}

// observed is the table as it stood when one reading arrived: a later reading
// of the same point that is already in the table does not hide it.
type observed struct {
	rule.Lookup
	reading *point.Reading
}

func (o *observed) Latest(p point.ID) (point.Reading, bool) {
	if p == o.reading.Point {
		return *o.reading, true
	}
	return o.Lookup.Latest(p)
}

// judge moves one rule by one verdict; sample says whether a new reading
// stands behind it.
func (m *Manager) judge(i int32, at rule.Lookup, now time.Time, sample bool) {
	verdict := m.rules.guard(i).Rule.Eval(now, m.rules.point(i), at)
	if verdict != rule.Firing && !m.awake[i] {
		return // nearly always
	}
	switch verdict {
	case rule.Firing:
		m.firing(i, at, now, sample)
	case rule.Hold:
		if m.watching[i] != nil {
			m.firing(i, at, now, false)
		}
	case rule.Normal:
		m.normal(i, at)
	case rule.Unknown:
		if w := m.watching[i]; w != nil && !w.since.IsZero() {
			w.left -= now.Sub(w.since)
			w.since = time.Time{}
		}
	}
}

// normal ends the on-delay and the activity of an alarm.
func (m *Manager) normal(i int32, at rule.Lookup) {
	delete(m.watching, i)
	m.awake[i] = false
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.key(i)
	if a := m.open[k]; a != nil && a.Active {
		a.Value = value(at, a.Point)
		m.clear(k, a)
	}
}

// firing starts or continues the on-delay, and raises when it is over.
func (m *Manager) firing(i int32, at rule.Lookup, now time.Time, sample bool) {
	m.awake[i] = true
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.key(i)
	if a := m.open[k]; a != nil && a.Active {
		return
	}
	def := m.rules.guard(i).Def
	w := m.watching[i]
	if w == nil {
		w = &watch{left: def.For, since: now}
		m.watching[i] = w
	}
	if w.since.IsZero() {
		w.since = now
	}
	if sample {
		w.samples++
	}
	if now.Sub(w.since) < w.left || w.samples < def.Samples {
		return
	}
	delete(m.watching, i)
	m.raise(k, m.rules.bound(i), value(at, m.rules.point(i)), "")
}

func value(at rule.Lookup, p point.ID) point.Value {
	r, _ := at.Latest(p)
	return r.Value
}

// raise opens an alarm of b or, if one still waits for its acknowledgement,
// raises that one again. m.mu is held.
func (m *Manager) raise(key string, b rule.Bound, v point.Value, remark string) {
	a := m.open[key]
	if a == nil {
		a = fresh(b)
		m.open[key] = a
	} else {
		a.describe(b)
	}
	a.Active, a.Cleared, a.Raised, a.Value, a.Remark = true, time.Time{}, m.o.Now(), v, remark
	a.Occurrence++
	m.raised.WithLabelValues(priorityName(a.Priority)).Inc()
	m.step(key, wire.KindAlarmRaised, a)
}

// clear ends the activity of a. m.mu is held.
func (m *Manager) clear(key string, a *Alarm) {
	a.Active, a.Cleared = false, m.o.Now()
	m.step(key, wire.KindAlarmCleared, a)
}

// step commands the outputs, then hands the new state and its record to the
// commit queue. m.mu is held, so steps keep their order.
func (m *Manager) step(key, kind string, a *Alarm) *commit {
	for _, out := range m.o.Outputs {
		out.Step(Step{Kind: kind, Alarm: *a})
	}
	c := &commit{change: Change{Key: key}, done: make(chan struct{})}
	var err error
	if a.open() {
		c.change.State, err = a.encode()
	} else {
		delete(m.open, key)
	}
	body, bodyErr := a.body().Encode()
	if err := errors.Join(err, bodyErr); err != nil {
		m.o.Log.Error("an alarm step cannot be written down", "key", key, "kind", kind, "err", err)
		close(c.done)
		return c
	}
	c.change.Records = []wire.Record{m.o.Record(wire.LaneAlarm, kind, body)}
	m.queue.add(c)
	return c
}

// Acknowledge records that actor has taken note of an open alarm and returns
// it when that is durable. A second acknowledgement changes nothing.
func (m *Manager) Acknowledge(id wire.EventID, actor string) (Alarm, error) {
	if actor = strings.TrimSpace(actor); !ValidName(actor) {
		return Alarm{}, ErrNoActor
	}
	m.mu.Lock()
	key, a := m.find(id)
	if a == nil {
		m.mu.Unlock()
		return Alarm{}, fmt.Errorf("%w: %s", ErrNoAlarm, id)
	}
	if !a.Acked.IsZero() {
		defer m.mu.Unlock()
		return *a, nil
	}
	a.Acked, a.AckedBy = m.o.Now(), actor
	c := m.step(key, wire.KindAlarmAcknowledged, a)
	after := *a
	m.mu.Unlock()
	return after, m.queue.wait(c)
}

// ValidName reports whether s can name a person; it keeps what would garble a screen or a record out of both.
func ValidName(s string) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= 64 &&
		strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func (m *Manager) find(id wire.EventID) (string, *Alarm) {
	for k, a := range m.open {
		if a.ID == id {
			return k, a
		}
	}
	return "", nil
}

// List returns the open alarms: highest priority first, then the latest raise.
func (m *Manager) List() []Alarm {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Alarm, 0, len(m.open))
	for _, a := range m.open {
		all = append(all, *a)
	}
	slices.SortFunc(all, func(a, b Alarm) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), b.Raised.Compare(a.Raised), cmp.Compare(a.Point, b.Point))
	})
	return all
}

// Run stores steps until ctx ends; then it stores those still waiting and
// returns.
func (m *Manager) Run(ctx context.Context) error { return m.queue.run(ctx) }
