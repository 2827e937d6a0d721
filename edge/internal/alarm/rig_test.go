package alarm

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/edge/internal/rule"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

const gas point.ID = "det-1/gas"

// memory is a journal in memory that can be made to hang or fail.
type memory struct {
	mu      sync.Mutex
	state   map[string][]byte
	records []wire.Record
	commits int           // transactions
	slow    time.Duration // each takes
	lost    error         // Load says so at the end
	hang    chan struct{} // while not nil, Commit waits for it
	fail    error
}

func (m *memory) CommitAll(changes []Change) error {
	m.mu.Lock()
	hang, fail := m.hang, m.fail
	m.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if fail != nil {
		return fail
	}
	if m.slow > 0 {
		<-time.After(m.slow)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		if c.State == nil {
			delete(m.state, c.Key)
		} else {
			m.state[c.Key] = c.State
		}
		m.records = append(m.records, c.Records...)
	}
	m.commits++
	return nil
}

func (m *memory) Load(f func(string, []byte) error) error {
	for k, v := range m.state {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return m.lost
}

func (m *memory) kinds(t *testing.T) (kinds []string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if _, err := wire.DecodeAlarm(r.Body); err != nil {
			t.Error(err)
		}
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// table is a Lookup that the test writes.
type table map[point.ID]point.Reading

func (l table) Latest(p point.ID) (point.Reading, bool) {
	r, ok := l[p]
	return r, ok
}

// heard is an output that notes every step and when it came.
type heard struct {
	steps []Step
	at    []time.Time
}

func (h *heard) Step(s Step) { h.steps, h.at = append(h.steps, s), append(h.at, time.Now()) }

// rig is a manager on a journal in memory, driven by hand.
type rig struct {
	*Manager
	t       *testing.T
	journal *memory
	table   table
	out     *heard
}

func newRig(t *testing.T, journal *memory, defs ...rule.Def) *rig {
	t.Helper()
	info := &rule.PointInfo{ID: gas, Name: "厨房", Place: "3/2/501", Role: "gas", Unit: point.PercentLEL, Kind: point.Number}
	bound, errs := rule.Bind(defs, map[point.ID]*rule.PointInfo{gas: info})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	points, err := rule.NewCatalogue([]*rule.PointInfo{info})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, journal: journal, table: table{}, out: &heard{}}
	m, err := New(Options{
		Points: points, Rules: bound, Lookup: r.table, Journal: journal, Outputs: []Output{r.out}, Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Record: func(lane wire.Lane, kind string, body []byte) wire.Record {
			return wire.Record{ID: wire.NewEventID(), Lane: lane, Kind: kind, Time: time.Now(), Body: body}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Manager = m
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func (r *rig) read(v float64, q point.Quality) {
	reading := point.Reading{Point: gas, At: time.Now(), Value: point.Float(v), Quality: q}
	r.table[gas] = reading
	r.Observe([]point.Reading{reading}, []int32{0})
}

// pass lets time go by as the table does, tick by tick.
func (r *rig) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		<-time.After(250 * time.Millisecond)
		r.Tick(time.Now())
	}
	synctest.Wait()
}

func (r *rig) wantStatus(want ...Status) {
	r.t.Helper()
	var got []Status
	for _, a := range r.List() {
		got = append(got, a.Status())
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("open alarms are %v, want %v", got, want)
	}
}

func empty() *memory { return &memory{state: map[string][]byte{}} }

func high() rule.Def {
	return rule.Def{ID: "gas-high", Role: "gas", Unit: point.PercentLEL, When: "value >= 25", Clear: "value < 20", Priority: "P1", Title: "燃气浓度高"}
}
