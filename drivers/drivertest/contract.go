// Package drivertest holds what tests of drivers share: the contract every
// driver keeps, a scripted Link, terminals and servers that play a device, and
// the independent peers they are checked against. Only tests import it.
package drivertest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// Contract is one device to hold a driver's promises against. What the device
// answers stands in Healthy, or is played by Play.
type Contract struct {
	New  drivers.Factory
	Spec drivers.Spec
	// Deps is asked for each driver's own; the suite adds the link, and the clock
	// if there is none. It may be nil.
	Deps func() drivers.Deps
	// Healthy says what the device answers to each request of its jobs.
	Healthy []Step
	// Play makes a fresh device that remembers what it was asked (sequence numbers,
	// a session): request in, reply out, nil for silence. Each driver gets its
	// own. Once warm it must not allocate, as the poll it is part of must not.
	Play func() func(request []byte) []byte
	// Rounds is how often each job runs until a healthy device has given every
	// value. 0: each job gives all of its own at its first run. Else points may have
	// other values before, and events come in any round.
	Rounds int
	// Want is what must be read from it, of every polled point: what stands at the
	// end, or of an event what happened.
	Want map[point.ID]point.Value
	// Events are the points of Want that are occurrences, not levels.
	Events []point.ID
	// Refuse turns a request into the device's refusal; nil where the protocol has
	// none that outlasts its state.
	Refuse func(request []byte) []byte
	// Checked says that the framing has a check value: any changed byte shows.
	Checked bool
}

// Run runs the suite.
func (c Contract) Run(t *testing.T) {
	t.Run("jobs cover every polled point once and never change", c.jobs)
	t.Run("a healthy device gives every value", c.healthy)
	t.Run("silence emits nothing", c.silence)
	t.Run("a truncated reply emits nothing", c.truncated)
	if c.Checked {
		t.Run("a damaged reply emits nothing", c.damaged)
	}
	if c.Refuse != nil {
		t.Run("a refusal is an error and a fault", c.refusal)
	}
	t.Run("a dead link is reported as such", c.linkDown)
	t.Run("an ended context emits nothing", c.ended)
	t.Run("a probe asks and needs an answer", c.probe)
	t.Run("a steady poll does not allocate", c.allocations)
	t.Run("close can be called twice", c.close)
}

// build makes a driver over a script.
func (c Contract) build(t testing.TB, script *Script) drivers.Driver {
	t.Helper()
	script.Framing = c.Spec.Framing
	var deps drivers.Deps
	if c.Deps != nil {
		deps = c.Deps()
	}
	deps.Link = script
	if deps.Now == nil {
		deps.Now = time.Now
	}
	d, err := c.New(c.Spec, deps)
	if err != nil {
		t.Fatalf("building the driver: %v", err)
	}
	return d
}

// device is a script that answers as the healthy device does.
func (c Contract) device() *Script {
	if c.Play != nil {
		return &Script{Otherwise: c.Play()}
	}
	return &Script{Steps: c.Healthy}
}

// rounds is how often each job runs until all is known.
func (c Contract) rounds() int { return max(c.Rounds, 1) }

// collect runs one job and returns what it emitted.
func collect(ctx context.Context, d drivers.Driver, job int) (got []point.Reading, err error) {
	err = d.Do(ctx, job, func(r point.Reading) { got = append(got, r) })
	return got, err
}

func (c Contract) jobs(t *testing.T) {
	d := c.build(t, c.device())
	seen := make(map[point.ID]int)
	for i, j := range d.Jobs() {
		if j.Every <= 0 || j.TxBytes <= 0 || j.RxBytes <= 0 || len(j.Points) == 0 {
			t.Errorf("job %d: %+v: want a period, sizes and points", i, j)
		}
		for _, p := range j.Points {
			seen[p]++
		}
	}
	for p := range c.Want {
		if seen[p] != 1 {
			t.Errorf("point %s is in %d jobs, want 1", p, seen[p])
		}
	}
	if len(seen) != len(c.Want) {
		t.Errorf("jobs have %d points, want %d", len(seen), len(c.Want))
	}
	for i := range d.Jobs() {
		if _, err := collect(t.Context(), d, i); err != nil {
			t.Fatal(err)
		}
	}
	after := make(map[point.ID]int)
	for _, j := range d.Jobs() {
		for _, p := range j.Points {
			after[p]++
		}
	}
	if !maps.Equal(seen, after) {
		t.Errorf("the jobs changed with use: %v, then %v", seen, after)
	}
}

func (c Contract) healthy(t *testing.T) {
	d := c.build(t, c.device())
	ownClock := c.Deps != nil && c.Deps().Now != nil
	before := time.Now()
	last := make(map[point.ID]point.Reading)
	for range c.rounds() {
		for i, j := range d.Jobs() {
			got, err := collect(t.Context(), d, i)
			if err != nil {
				t.Fatalf("job %d: %v", i, err)
			}
			var ids []point.ID
			for _, r := range got {
				ids = append(ids, r.Point)
				last[r.Point] = r
				if !slices.Contains(j.Points, r.Point) {
					t.Errorf("job %d emitted %s, which is not its own", i, r.Point)
				}
				if !ownClock && (r.At.Before(before) || r.At.After(time.Now())) {
					t.Errorf("%s at %v: not when it was read", r.Point, r.At)
				}
			}
			if want := slices.Clone(j.Points); c.Rounds == 0 && !slices.Equal(sorted(ids), sorted(want)) {
				t.Errorf("job %d emitted %v, want each of %v once", i, ids, want)
			}
		}
	}
	for p, want := range c.Want {
		r, ok := last[p]
		if !ok {
			t.Errorf("%s was never emitted", p)
			continue
		}
		kind := point.Level
		if slices.Contains(c.Events, p) {
			kind = point.Event
		}
		if r.Value != want || r.Quality != point.Good || r.Kind != kind {
			t.Errorf("%s = %v (%v, kind %d), want %v (good, kind %d)", p, r.Value, r.Quality, r.Kind, want, kind)
		}
	}
}

func sorted(ids []point.ID) []point.ID {
	slices.Sort(ids)
	return ids
}

func (c Contract) silence(t *testing.T) {
	d := c.build(t, &Script{})
	for i := range d.Jobs() {
		got, err := collect(t.Context(), d, i)
		if !errors.Is(err, drivers.ErrNoReply) || len(got) > 0 {
			t.Errorf("job %d: emitted %v, err %v; want nothing and ErrNoReply", i, got, err)
		}
	}
}

func (c Contract) truncated(t *testing.T) {
	c.spoil(t, func(reply []byte, try func([]byte)) {
		for n := range reply {
			try(reply[:n])
		}
	})
}

func (c Contract) damaged(t *testing.T) {
	c.spoil(t, func(reply []byte, try func([]byte)) {
		for i := range reply {
			for bit := range 8 {
				bad := slices.Clone(reply)
				bad[i] ^= 1 << bit
				try(bad)
			}
		}
	})
}

// spoil feeds every job variants of each of its replies, one at a time.
func (c Contract) spoil(t *testing.T, vary func(reply []byte, try func([]byte))) {
	if c.Play != nil {
		c.spoilPlayed(t, vary)
		return
	}
	for n, step := range c.Healthy {
		vary(step.Reply, func(bad []byte) {
			steps := slices.Clone(c.Healthy)
			steps[n].Reply = bad
			d := c.build(t, &Script{Steps: steps})
			failed := false
			for i := range d.Jobs() {
				got, err := collect(t.Context(), d, i)
				if err == nil {
					continue
				}
				failed = true
				if len(got) > 0 {
					t.Errorf("reply % x: job %d emitted %v with %v", bad, i, got, err)
				}
			}
			if !failed {
				t.Errorf("reply % x was taken for % x", bad, step.Reply)
			}
		})
	}
}

// spoilPlayed does the same to a device that remembers. Its replies are not
// known before, so a variant is found again by its place among the variants.
func (c Contract) spoilPlayed(t *testing.T, vary func(reply []byte, try func([]byte))) {
	for exchange := 0; ; exchange++ {
		for variant := 0; ; variant++ {
			var reply, bad []byte
			play, n := c.Play(), -1
			spoiler := func(request []byte) []byte {
				answer := play(request)
				if n++; n != exchange {
					return answer
				}
				reply = slices.Clone(answer)
				v := -1
				vary(reply, func(b []byte) {
					if v++; v == variant {
						bad = slices.Clone(b)
					}
				})
				return bad
			}
			d := c.build(t, &Script{Otherwise: spoiler})
			var got []point.Reading
			var err error
		run:
			for range c.rounds() {
				for i := range d.Jobs() {
					if got, err = collect(t.Context(), d, i); n >= exchange {
						break run
					}
				}
			}
			if n < exchange {
				return // a healthy device was asked no more than that
			}
			if bad == nil && variant > 0 {
				break // all variants of this reply were tried
			}
			if err == nil {
				t.Errorf("exchange %d: reply % x was taken for % x", exchange, bad, reply)
			} else if len(got) > 0 {
				t.Errorf("exchange %d: reply % x: emitted %v with %v", exchange, bad, got, err)
			}
		}
	}
}

func (c Contract) refusal(t *testing.T) {
	d := c.build(t, &Script{Otherwise: c.Refuse})
	for i, j := range d.Jobs() {
		got, err := collect(t.Context(), d, i)
		if !errors.Is(err, drivers.ErrRefused) {
			t.Errorf("job %d: err %v, want ErrRefused", i, err)
		}
		if len(got) != len(j.Points) {
			t.Errorf("job %d emitted %d readings, want %d", i, len(got), len(j.Points))
		}
		for _, r := range got {
			if r.Quality != point.Fault {
				t.Errorf("%s is %v after a refusal, want fault", r.Point, r.Quality)
			}
		}
	}
	if err := d.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v; a refusal is an answer", err)
	}
}

func (c Contract) linkDown(t *testing.T) {
	d := c.build(t, &Script{Err: drivers.ErrLinkDown})
	for i := range d.Jobs() {
		if got, err := collect(t.Context(), d, i); !errors.Is(err, drivers.ErrLinkDown) || len(got) > 0 {
			t.Errorf("job %d: emitted %v, err %v; want nothing and ErrLinkDown", i, got, err)
		}
	}
}

func (c Contract) ended(t *testing.T) {
	d := c.build(t, c.device())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range d.Jobs() {
		if got, err := collect(ctx, d, i); err == nil || len(got) > 0 {
			t.Errorf("job %d: emitted %v, err %v; want nothing and an error", i, got, err)
		}
	}
}

func (c Contract) probe(t *testing.T) {
	if err := c.build(t, c.device()).Probe(t.Context()); err != nil {
		t.Errorf("probe of a healthy device: %v", err)
	}
	if err := c.build(t, &Script{}).Probe(t.Context()); !errors.Is(err, drivers.ErrNoReply) {
		t.Errorf("probe of a silent device: %v, want ErrNoReply", err)
	}
}

func (c Contract) allocations(t *testing.T) {
	d := c.build(t, c.device())
	emit := func(point.Reading) {}
	ctx := t.Context()
	for range c.rounds() {
		for i := range d.Jobs() {
			if err := d.Do(ctx, i, emit); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range d.Jobs() {
		if n := testing.AllocsPerRun(100, func() {
			if err := d.Do(ctx, i, emit); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("job %d allocates %v times a poll", i, n)
		}
	}
}

func (c Contract) close(t *testing.T) {
	d := c.build(t, c.device())
	for range 2 {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
