package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// telemetryFlush is how long the daemon collects telemetry unless told
// otherwise.
const telemetryFlush = 10 * time.Second

// The load of the greatest rate: 100,000 polls a second if all of them are kept.
const (
	maxConnections = 100
	maxPeriod      = 10 * time.Millisecond
)

// usage is what one program needed in one window.
type usage struct {
	memory  []memory // samples of the steady state
	cpu     time.Duration
	polls   uint64
	elapsed time.Duration
	lost    int
	bytes   int     // to the broker
	jitter  float64 // p99, in ms
	allocs  float64 // per poll
}

func (u usage) cpuPer1000() float64 { return u.cpu.Seconds() / float64(u.polls) * 1000 }

func (u usage) cores() float64 { return u.cpu.Seconds() / u.elapsed.Seconds() }

func (u usage) perPoll() float64 { return float64(u.bytes) / float64(u.polls) }

// held is the median of one figure of the samples.
func (u usage) held(f func(memory) float64) float64 {
	v := make([]float64, len(u.memory))
	for i, m := range u.memory {
		v[i] = f(m)
	}
	return median(v)
}

func (u usage) rate() float64 { return float64(u.polls) / u.elapsed.Seconds() }

// load is what is polled.
type load struct {
	Connections int
	Registers   int // of each device
	Guarded     int // of these, how many a rule is bound to
	Period      time.Duration
	Warmup      time.Duration
	Window      time.Duration
}

func (l load) devices() int { return l.Connections * unitsPerConn }

// poll measures the steady load on daemon and reference in turn, at every
// number of devices that was asked for.
func (b *bench) poll(ctx context.Context) error {
	for i, n := range b.size.Devices {
		l := load{Connections: n / unitsPerConn, Registers: registers, Guarded: b.size.Guarded, Period: time.Second, Warmup: b.size.Warmup, Window: b.size.Window}
		if err := b.pollAt(ctx, l, i == len(b.size.Devices)/2); err != nil {
			return fmt.Errorf("%d devices: %w", n, err)
		}
	}
	return nil
}

// pollAt measures one load; with spread there is a row for a reference that
// has its polls spread over the second.
func (b *bench) pollAt(ctx context.Context, l load, spread bool) error {
	resp, broker, err := b.peers(ctx, l)
	if err != nil {
		return err
	}
	defer resp.Close()
	defer broker.stop()
	b.say("poll: %d devices: the daemon", l.devices())
	own, err := b.pollDaemon(ctx, resp, broker, l)
	if err != nil {
		return err
	}
	b.say("poll: %d devices: the reference", l.devices())
	other, err := b.pollReference(ctx, resp, broker, l, false)
	if err != nil {
		return err
	}
	name := func(s string) string { return fmt.Sprintf("poll-%d-%s", l.devices(), s) }
	anon, rss := func(m memory) float64 { return m.Own }, func(m memory) float64 { return m.RSS }
	// The goals are those of the largest site: a small one holds little, and pays
	// the daemon's own ticking with few polls.
	if l.devices() >= largestSite {
		b.rows.atMost(name("mem"), own.held(anon), "MB", ref(other.held(anon)), 18)
		b.rows.atMost(name("cpu"), own.cpuPer1000(), "s/1000 polls", ref(other.cpuPer1000()), 0.04)
	} else {
		b.rows.shown(name("mem"), own.held(anon), "MB", ref(other.held(anon)))
		b.rows.shown(name("cpu"), own.cpuPer1000(), "s/1000 polls", ref(other.cpuPer1000()))
	}
	b.rows.shown(name("vmrss"), own.held(rss), "MB", ref(other.held(rss)))
	if spread {
		b.say("poll: %d devices: the reference with its polls spread over the second", l.devices())
		apart, err := b.pollReference(ctx, resp, broker, l, true)
		if err != nil {
			return err
		}
		b.rows.shown(name("cpu-spread"), own.cpuPer1000(), "s/1000 polls", ref(apart.cpuPer1000()))
	}
	b.rows.atMost(name("jitter"), own.jitter, "ms, p99", ref(other.jitter), 5)
	b.rows.atMost(name("allocs"), own.allocs, "per poll", nil, 0)
	b.rows.atLeast(name("rate"), own.rate(), "polls/s", ref(other.rate()), 0.99*float64(l.devices()))
	if l.Window >= 2*telemetryFlush { // a shorter window may hold no flush at all
		b.rows.shown(name("uplink"), own.perPoll(), "B/poll", ref(other.perPoll()))
	}
	b.rows.atMost(name("lost"), float64(own.lost), "values", nil, 0)
	return nil
}

// largestSite is how many devices a gateway is measured with at the most.
const largestSite = 2000

// max asks for more than can be had: how many polls a second there are then,
// with every value still on its way to the broker.
func (b *bench) max(ctx context.Context) error {
	for _, registers := range []int{registers, 2} {
		l := load{Connections: maxConnections, Registers: registers, Guarded: registers, Period: maxPeriod, Warmup: b.size.Warmup / 2, Window: b.size.Window / 2}
		if err := b.maxAt(ctx, l, fmt.Sprintf("poll-max-%d", registers)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) maxAt(ctx context.Context, l load, name string) error {
	resp, broker, err := b.peers(ctx, l)
	if err != nil {
		return err
	}
	defer resp.Close()
	defer broker.stop()
	b.say("max: %d devices every %s, %d registers: the daemon", l.devices(), l.Period, l.Registers)
	own, err := b.pollDaemon(ctx, resp, broker, l)
	if err != nil {
		return err
	}
	b.say("max: the reference")
	other, err := b.pollReference(ctx, resp, broker, l, false)
	if err != nil {
		return err
	}
	b.rows.atLeast(name, own.rate(), "polls/s", ref(other.rate()), 50_000)
	b.rows.shown(name+"-cores", own.cores(), "cores", ref(other.cores()))
	b.rows.shown(name+"-mem", own.held(func(m memory) float64 { return m.Own }), "MB", ref(other.held(func(m memory) float64 { return m.Own })))
	b.rows.atMost(name+"-lost", float64(own.lost), "values", nil, 0)
	return nil
}

// peers starts what stands before and behind the gateway.
func (b *bench) peers(ctx context.Context, l load) (*responder, *broker, error) {
	resp, err := newResponder(l.Connections)
	if err != nil {
		return nil, nil, err
	}
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return nil, nil, errors.Join(err, resp.Close())
	}
	return resp, broker, nil
}

// pollDaemon runs the daemon on a new store and measures one window.
func (b *bench) pollDaemon(ctx context.Context, resp *responder, broker *broker, l load) (usage, error) {
	dir, err := os.MkdirTemp(b.dir, "poll-")
	if err != nil {
		return usage{}, err
	}
	g, err := newGateway(b.bin, dir, site{
		Broker: broker.addr, Links: resp.links(), Units: unitsPerConn, Registers: l.Registers, Poll: l.Period, Guarded: l.Guarded,
	})
	if err != nil {
		return usage{}, err
	}
	sub, err := subscribe(broker.addr, gatewayID, newTally(l.Registers), nil)
	if err != nil {
		return usage{}, err
	}
	defer sub.close()
	before := resp.counts()
	if err := g.start(); err != nil {
		return usage{}, err
	}
	defer g.stop()
	if err := until(ctx, 20*time.Second, "every device to be polled", func() bool { return resp.allPolled(before) }, g.proc); err != nil {
		return usage{}, err
	}
	if err := sleep(ctx, l.Warmup, g.proc); err != nil {
		return usage{}, err
	}
	from := resp.counts()
	_, bytes := sub.traffic()
	u, err := b.window(ctx, resp, g.proc, l.Period, l.Window)
	if err != nil {
		return usage{}, err
	}
	upTo := resp.counts()
	_, now := sub.traffic()
	u.bytes = now - bytes
	// What was polled last is still on its way: after a flush it may wait as
	// long again for its commit.
	_ = until(ctx, 2*telemetryFlush+5*time.Second, "the last values", func() bool { return sub.missing(from, upTo) == 0 }, g.proc)
	u.lost = sub.missing(from, upTo)
	if u.allocs, err = b.allocations(ctx, resp, g, l.Window/3); err != nil {
		return usage{}, err
	}
	if n := sub.alien(); n > 0 {
		return usage{}, fmt.Errorf("%d values arrived that no device has shown, or twice", n)
	}
	return u, sub.err()
}

// allocations asks the daemon how many objects it allocates for each poll. What
// the asking itself takes is found by asking several times in a row, and the least
// of it left out: the figure may be too high by what the askings differ in, but
// not too low. Asking also takes memory, so this comes after everything else is measured.
func (b *bench) allocations(ctx context.Context, resp *responder, g *gateway, length time.Duration) (float64, error) {
	asked := make([]float64, 8)
	for i := range asked {
		var err error
		if asked[i], err = g.mallocs(); err != nil {
			return 0, err
		}
	}
	var costs []float64
	for i := 3; i < len(asked); i++ { // the first need more than all later ones
		costs = append(costs, asked[i]-asked[i-1])
	}
	begun, polls := asked[len(asked)-1], resp.polls.Load()
	if err := sleep(ctx, length, g.proc); err != nil {
		return 0, err
	}
	polls = resp.polls.Load() - polls
	end, err := g.mallocs()
	return (end - begun - slices.Min(costs)) / float64(polls), err
}

// pollReference measures the reference in the same way.
func (b *bench) pollReference(ctx context.Context, resp *responder, broker *broker, l load, spread bool) (usage, error) {
	meter, err := newMeter(broker.addr, "bench/#")
	if err != nil {
		return usage{}, err
	}
	defer meter.close()
	before := resp.counts()
	p, err := startReference(b.dir, "-broker", broker.addr, "-devices", strings.Join(resp.addresses(), ","),
		"-registers", strconv.Itoa(l.Registers), "-every", l.Period.String(), fmt.Sprintf("-spread=%t", spread))
	if err != nil {
		return usage{}, err
	}
	defer p.stop()
	if err := until(ctx, 20*time.Second, "every device to be polled", func() bool { return resp.allPolled(before) }, p); err != nil {
		return usage{}, err
	}
	if err := sleep(ctx, l.Warmup/3, p); err != nil { // it has nothing to fill but its connections
		return usage{}, err
	}
	bytes := meter.bytes.Load()
	u, err := b.window(ctx, resp, p, l.Period, l.Window/2) // it is as steady from the start
	u.bytes = int(meter.bytes.Load() - bytes)
	return u, err
}

// window watches a program for a while.
func (b *bench) window(ctx context.Context, resp *responder, p *process, period, length time.Duration) (usage, error) {
	var u usage
	cpu, err := p.cpu()
	if err != nil {
		return usage{}, err
	}
	polls, begun := resp.polls.Load(), time.Now()
	resp.jitter.watch(period)
	for time.Since(begun) < length {
		if err := sleep(ctx, min(500*time.Millisecond, length-time.Since(begun)), p); err != nil {
			return usage{}, err
		}
		m, err := p.memory()
		if err != nil {
			return usage{}, err
		}
		u.memory = append(u.memory, m)
	}
	end, err := p.cpu()
	if err != nil {
		return usage{}, err
	}
	u.cpu, u.polls, u.elapsed = end-cpu, resp.polls.Load()-polls, time.Since(begun)
	u.jitter = resp.jitter.percentile(99)
	if u.polls == 0 {
		return usage{}, fmt.Errorf("%s polls nothing:\n%s", filepath.Base(p.cmd.Path), tail(p.log))
	}
	return u, nil
}
