package main

import (
	"context"
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

// steps hands the records of one point to whoever flips it.
type steps struct {
	mu   sync.Mutex // guards the map
	wait map[point.ID]chan step
}

type step struct {
	at   time.Time
	kind string
}

func (s *steps) of(p point.ID) chan step {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait[p] == nil {
		s.wait[p] = make(chan step, 16)
	}
	return s.wait[p]
}

func (s *steps) take(at time.Time, kind string, a wire.Alarm) {
	select {
	case s.of(a.Point) <- step{at, kind}:
	default: // nobody flips this point
	}
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
	g, err := newGateway(b.bin, dir, site{Broker: broker.addr, Addresses: resp.addresses(), Units: 1, Poll: alarmPoll})
	if err != nil {
		return err
	}
	st := &steps{wait: make(map[point.ID]chan step)}
	sub, err := subscribe(broker.addr, gatewayID, nil, st.take)
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
	samples, err := b.flipAll(ctx, resp, st)
	if err != nil {
		return fmt.Errorf("%w; the daemon's last words:\n%s", err, tail(g.proc.log))
	}
	raw, err := bareSteps(broker.addr, dir)
	if err != nil {
		return err
	}
	b.rows.shown("alarm-to-mqtt-median", median(samples), "ms", ref(median(raw)))
	b.rows.atMost("alarm-to-mqtt-p99", percentile(samples, 99), "ms", ref(percentile(raw, 99)), 10)
	return sub.err()
}

// flipAll flips a register of every device, each at its own pace, and returns
// the latencies in milliseconds.
func (b *bench) flipAll(ctx context.Context, resp *responder, st *steps) ([]float64, error) {
	each := (b.size.Alarms + alarmDevices - 1) / alarmDevices
	var mu sync.Mutex // guards the two below
	var samples []float64
	var failed error
	var wg sync.WaitGroup
	for d := range alarmDevices {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(d)))
			for range each {
				ms, err := flip(ctx, resp.slave(d, 1), st.of(point.MakeID(deviceID(d, 1), pointName(1))), rng)
				mu.Lock()
				if err != nil {
					failed = fmt.Errorf("device %s: %w", deviceID(d, 1), err)
				} else {
					samples = append(samples, ms)
				}
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	wg.Wait()
	return samples, failed
}

// flip raises and clears one alarm and returns how long the raising took.
func flip(ctx context.Context, s *slave, records <-chan step, rng *rand.Rand) (ms float64, err error) {
	if err := sleep(ctx, time.Duration(rng.Int64N(int64(2*alarmPoll)))); err != nil {
		return 0, err
	}
	s.set(true)
	raised, err := await(ctx, records, wire.KindAlarmRaised)
	if err != nil {
		return 0, err
	}
	crossed, ok := s.crossed()
	if !ok {
		return 0, fmt.Errorf("an alarm rose before the value crossed its limit")
	}
	s.set(false)
	if _, err := await(ctx, records, wire.KindAlarmCleared); err != nil {
		return 0, err
	}
	return float64(raised.Sub(crossed)) / float64(time.Millisecond), nil
}

func await(ctx context.Context, records <-chan step, kind string) (time.Time, error) {
	select {
	case s := <-records:
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
