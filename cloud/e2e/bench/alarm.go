package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// The alarm path is measured on a small site, so that the figure is that of
// the path and not of a full queue in front of it.
const (
	alarmDevices = 10
	alarmPoll    = 100 * time.Millisecond
	alarmLimit   = 10 * time.Second // a sample that takes longer is a failure
)

// step is one record of the alarm lane and when it arrived.
type step struct {
	at   time.Time
	kind string
}

// flipper raises and clears the alarm of one point.
type flipper struct {
	slave   *slave
	records chan step
	up      bool // raised, and its clearing not yet seen
}

// flippers are the points of the site; take hands each the records of its own.
type flippers map[point.ID]*flipper

func newFlippers(resp *responder) flippers {
	fs := make(flippers)
	for d := range alarmDevices {
		fs[point.MakeID(deviceID(d, 1), pointName(1))] = &flipper{slave: resp.slave(d, 1), records: make(chan step, 16)}
	}
	return fs
}

func (fs flippers) take(at time.Time, kind string, a wire.Alarm) {
	f := fs[a.Point]
	if f == nil {
		return
	}
	select {
	case f.records <- step{at, kind}:
	default: // far more than was asked for: raise will see what it did not expect
	}
}

// raise lets the value cross its limit and returns how many milliseconds
// later the alarm arrived. The value falls again at once; the clearing is
// awaited before the next raise.
func (f *flipper) raise(ctx context.Context) (ms float64, err error) {
	if f.up {
		if _, err := f.await(ctx, wire.KindAlarmCleared); err != nil {
			return 0, err
		}
		f.up = false
	}
	f.slave.set(true)
	raised, err := f.await(ctx, wire.KindAlarmRaised)
	if err != nil {
		return 0, err
	}
	f.up = true
	crossed, ok := f.slave.crossed()
	if !ok {
		return 0, fmt.Errorf("an alarm rose before the value crossed its limit")
	}
	f.slave.set(false)
	return float64(raised.Sub(crossed)) / float64(time.Millisecond), nil
}

// alarm measures from the answer that crosses the limit to the alarm at the
// subscriber.
func (b *bench) alarm(ctx context.Context) error {
	b.say("alarm: %d samples", b.size.Alarms)
	dir := filepath.Join(b.dir, "alarm")
	resp, err := newResponder(alarmDevices)
	if err != nil {
		return err
	}
	defer resp.Close()
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return err
	}
	defer broker.stop()
	g, err := newGateway(b.bin, dir, site{Broker: broker.addr, Links: resp.links(), Units: 1, Poll: alarmPoll, Guarded: registers})
	if err != nil {
		return err
	}
	points := newFlippers(resp)
	sub, err := subscribe(broker.addr, gatewayID, nil, points.take)
	if err != nil {
		return err
	}
	defer sub.close()
	if err := g.start(); err != nil {
		return err
	}
	defer g.stop()
	if err := sleep(ctx, 2*time.Second, g.proc); err != nil {
		return err
	}
	single, err := oneByOne(ctx, points, b.size.Alarms)
	if err != nil {
		return fmt.Errorf("%w; the daemon's last words:\n%s", err, tail(g.proc.log))
	}
	together, err := allAtOnce(ctx, points, b.size.Alarms/alarmDevices)
	if err != nil {
		return fmt.Errorf("%w; the daemon's last words:\n%s", err, tail(g.proc.log))
	}
	raw, err := bareSteps(broker.addr, dir)
	if err != nil {
		return err
	}
	b.rows.shown("alarm-to-mqtt-median", median(single), "ms", ref(median(raw)))
	b.rows.atMost("alarm-to-mqtt-p99", percentile(single, 99), "ms", ref(percentile(raw, 99)), 10)
	b.rows.shown(fmt.Sprintf("alarm-to-mqtt-%d-at-once-p99", alarmDevices), percentile(together, 99), "ms", ref(percentile(raw, 99)))
	return sub.err()
}

// oneByOne raises one alarm after the other, at random moments of the poll
// period; the point before clears meanwhile.
func oneByOne(ctx context.Context, points flippers, samples int) ([]float64, error) {
	rng := rand.New(rand.NewPCG(1, 1))
	var out []float64
	for {
		for _, f := range points {
			if len(out) == samples {
				return out, nil
			}
			if err := sleep(ctx, time.Duration(rng.Int64N(int64(alarmPoll)))); err != nil {
				return nil, err
			}
			ms, err := f.raise(ctx)
			if err != nil {
				return nil, err
			}
			out = append(out, ms)
		}
	}
}

// allAtOnce raises the alarms of all points together, round after round.
func allAtOnce(ctx context.Context, points flippers, rounds int) ([]float64, error) {
	var mu sync.Mutex // guards the two below
	var out []float64
	var errs []error
	for range rounds {
		var wg sync.WaitGroup
		for _, f := range points {
			wg.Go(func() {
				ms, err := f.raise(ctx)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, err)
				}
				out = append(out, ms)
			})
		}
		wg.Wait()
		if len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
	}
	return out, nil
}

func (f *flipper) await(ctx context.Context, kind string) (time.Time, error) {
	select {
	case s := <-f.records:
		if s.kind != kind {
			return time.Time{}, fmt.Errorf("%s came where %s was due", s.kind, kind)
		}
		return s.at, nil
	case <-time.After(alarmLimit):
		return time.Time{}, fmt.Errorf("no %s within %s", kind, alarmLimit)
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}

// bareSteps measures what no gateway can save: 4 KiB made durable in the same
// directory, then one message through the same broker.
func bareSteps(addr, dir string) ([]float64, error) {
	f, err := os.OpenFile(filepath.Join(dir, "fsync"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	client, err := dial(addr, "bench-bare")
	if err != nil {
		return nil, err
	}
	defer client.Disconnect(100)
	arrived := make(chan time.Time, 1)
	if err := settle(client.Subscribe("bare", 0, func(mqtt.Client, mqtt.Message) { arrived <- time.Now() })); err != nil {
		return nil, err
	}
	page := make([]byte, 4096)
	var samples []float64
	for i := range 200 {
		page[0] = byte(i)
		begun := time.Now()
		if _, err := f.WriteAt(page, 0); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		client.Publish("bare", 0, false, page[:300])
		select {
		case at := <-arrived:
			samples = append(samples, float64(at.Sub(begun))/float64(time.Millisecond))
		case <-time.After(alarmLimit):
			return nil, fmt.Errorf("a message did not come back within %s", alarmLimit)
		}
	}
	return samples, nil
}
