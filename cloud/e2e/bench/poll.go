package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// telemetryFlush is how long the daemon collects telemetry unless told
// otherwise.
const telemetryFlush = 10 * time.Second

// usage is what one program needed in one window.
type usage struct {
	memory  []memory // samples of the steady state
	cpu     time.Duration
	polls   uint64
	elapsed time.Duration
	lost    int
	bytes   int // to the broker
}

func (u usage) cpuPer1000() float64 { return u.cpu.Seconds() / float64(u.polls) * 1000 }

func (u usage) rate() float64 { return float64(u.polls) / u.elapsed.Seconds() }

// poll measures the steady load on daemon and reference in turn.
func (b *bench) poll(ctx context.Context) error {
	resp, err := newResponder(b.size.Connections)
	if err != nil {
		return err
	}
	defer resp.Close()
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return err
	}
	defer broker.stop()
	var own, other []usage
	for round := range b.size.Rounds {
		b.say("poll: round %d of %d, %d devices: the daemon", round+1, b.size.Rounds, b.size.Connections*unitsPerConn)
		u, err := b.pollDaemon(ctx, resp, broker, filepath.Join(b.dir, fmt.Sprintf("poll-%d", round)))
		if err != nil {
			return err
		}
		own = append(own, u)
		b.say("poll: round %d of %d: the reference", round+1, b.size.Rounds)
		if u, err = b.pollReference(ctx, resp, broker, false); err != nil {
			return err
		}
		other = append(other, u)
	}
	b.say("poll: the reference with its polls spread over the second")
	u, err := b.pollReference(ctx, resp, broker, true)
	if err != nil {
		return err
	}
	b.pollRows(own, other, u)
	return nil
}

func (b *bench) pollRows(own, other []usage, spread usage) {
	pick := func(us []usage, f func(usage) float64) float64 {
		var v []float64
		for _, u := range us {
			v = append(v, f(u))
		}
		return median(v)
	}
	held := func(f func(memory) float64) func(usage) float64 {
		return func(u usage) float64 {
			var v []float64
			for _, m := range u.memory {
				v = append(v, f(m))
			}
			return median(v)
		}
	}
	name := func(s string) string { return fmt.Sprintf("poll-%d-%s", b.size.Connections*unitsPerConn, s) }
	anon, rss := held(func(m memory) float64 { return m.Own }), held(func(m memory) float64 { return m.RSS })
	b.rows.atMost(name("mem"), pick(own, anon), "MB", ref(pick(other, anon)), 20)
	b.rows.shown(name("vmrss"), pick(own, rss), "MB", ref(pick(other, rss)))
	cpu := pick(other, usage.cpuPer1000)
	b.rows.atMost(name("cpu"), pick(own, usage.cpuPer1000), "s/1000 polls", ref(cpu), round(cpu))
	b.rows.shown(name("cpu-spread"), pick(own, usage.cpuPer1000), "s/1000 polls", ref(spread.cpuPer1000()))
	b.rows.atLeast(name("rate"), pick(own, usage.rate), "polls/s", ref(pick(other, usage.rate)), 0.99*float64(b.size.Connections*unitsPerConn))
	if b.size.Window >= 2*telemetryFlush { // a shorter window may hold no flush at all
		perPoll := func(u usage) float64 { return float64(u.bytes) / float64(u.polls) }
		b.rows.shown(name("uplink"), pick(own, perPoll), "B/poll", ref(pick(other, perPoll)))
	}
	lost := 0
	for _, u := range own {
		lost += u.lost
	}
	b.rows.atMost(name("lost"), float64(lost), "values", nil, 0)
}

// pollDaemon runs the daemon on a new store and measures one window.
func (b *bench) pollDaemon(ctx context.Context, resp *responder, broker *broker, dir string) (usage, error) {
	g, err := newGateway(b.bin, dir, site{Broker: broker.addr, Addresses: resp.addresses(), Units: unitsPerConn, Poll: time.Second, Guarded: b.size.Guarded})
	if err != nil {
		return usage{}, err
	}
	sub, err := subscribe(broker.addr, gatewayID, newTally(), nil)
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
	if err := sleep(ctx, b.size.Warmup, g.proc); err != nil {
		return usage{}, err
	}
	from := resp.counts()
	_, bytes := sub.traffic()
	u, err := b.window(ctx, resp, g.proc, b.size.Window)
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
	if n := sub.alien(); n > 0 {
		return usage{}, fmt.Errorf("%d values arrived that no device has shown, or twice", n)
	}
	return u, sub.err()
}

// pollReference measures the reference in the same way.
func (b *bench) pollReference(ctx context.Context, resp *responder, broker *broker, spread bool) (usage, error) {
	meter, err := newMeter(broker.addr, "bench/#")
	if err != nil {
		return usage{}, err
	}
	defer meter.close()
	before := resp.counts()
	p, err := startReference(b.dir, broker.addr, resp.addresses(), spread)
	if err != nil {
		return usage{}, err
	}
	defer p.stop()
	if err := until(ctx, 20*time.Second, "every device to be polled", func() bool { return resp.allPolled(before) }, p); err != nil {
		return usage{}, err
	}
	if err := sleep(ctx, b.size.Warmup/3, p); err != nil { // it has nothing to fill but its connections
		return usage{}, err
	}
	bytes := meter.bytes.Load()
	length := b.size.Window
	if spread {
		length /= 2 // for comparison only
	}
	u, err := b.window(ctx, resp, p, length)
	u.bytes = int(meter.bytes.Load() - bytes)
	return u, err
}

// window watches a program for a while.
func (b *bench) window(ctx context.Context, resp *responder, p *process, length time.Duration) (usage, error) {
	var u usage
	cpu, err := p.cpu()
	if err != nil {
		return usage{}, err
	}
	polls, begun := resp.polls.Load(), time.Now()
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
	if u.polls == 0 {
		return usage{}, fmt.Errorf("%s polls nothing:\n%s", filepath.Base(p.cmd.Path), tail(p.log))
	}
	return u, nil
}
