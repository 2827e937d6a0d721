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

// Contract is one device to hold a driver's promises against.
type Contract struct {
	New  drivers.Factory
	Spec drivers.Spec
	// Healthy says what the device answers to each request of its jobs.
	Healthy []Step
	// Want is what must be read from it, of every polled point.
	Want map[point.ID]point.Value
	// Refuse turns a request into the device's refusal.
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
	t.Run("a refusal is an error and a fault", c.refusal)
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
	d, err := c.New(c.Spec, drivers.Deps{Link: script, Now: time.Now})
	if err != nil {
		t.Fatalf("building the driver: %v", err)
	}
	return d
}

// collect runs one job and returns what it emitted.
func collect(ctx context.Context, d drivers.Driver, job int) (got []point.Reading, err error) {
	err = d.Do(ctx, job, func(r point.Reading) { got = append(got, r) })
	return got, err
}

func (c Contract) jobs(t *testing.T) {
	d := c.build(t, &Script{Steps: c.Healthy})
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
	d := c.build(t, &Script{Steps: c.Healthy})
	before := time.Now()
	for i, j := range d.Jobs() {
		got, err := collect(t.Context(), d, i)
		if err != nil {
			t.Fatalf("job %d: %v", i, err)
		}
		var ids []point.ID
		for _, r := range got {
			ids = append(ids, r.Point)
			if want := c.Want[r.Point]; r.Value != want || r.Quality != point.Good {
				t.Errorf("%s = %v (%v), want %v (good)", r.Point, r.Value, r.Quality, want)
			}
			if r.At.Before(before) || r.At.After(time.Now()) {
				t.Errorf("%s at %v: not when it was read", r.Point, r.At)
			}
		}
		if want := slices.Clone(j.Points); !slices.Equal(sorted(ids), sorted(want)) {
			t.Errorf("job %d emitted %v, want each of %v once", i, ids, want)
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
	d := c.build(t, &Script{Steps: c.Healthy})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range d.Jobs() {
		if got, err := collect(ctx, d, i); err == nil || len(got) > 0 {
			t.Errorf("job %d: emitted %v, err %v; want nothing and an error", i, got, err)
		}
	}
}

func (c Contract) probe(t *testing.T) {
	if err := c.build(t, &Script{Steps: c.Healthy}).Probe(t.Context()); err != nil {
		t.Errorf("probe of a healthy device: %v", err)
	}
	if err := c.build(t, &Script{}).Probe(t.Context()); !errors.Is(err, drivers.ErrNoReply) {
		t.Errorf("probe of a silent device: %v, want ErrNoReply", err)
	}
}

func (c Contract) allocations(t *testing.T) {
	d := c.build(t, &Script{Steps: c.Healthy})
	emit := func(point.Reading) {}
	for i := range d.Jobs() {
		ctx := t.Context()
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
	d := c.build(t, &Script{Steps: c.Healthy})
	for range 2 {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
