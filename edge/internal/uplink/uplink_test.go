package uplink

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/edge/internal/store"
	"gatehouse/protocol/wire"
)

var _ Lanes = (*store.Store)(nil)

// logBook is a log that a test may read while it is written.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// start runs an uplink until the test ends, or stop is called.
func start(t *testing.T, o Options) (u *Uplink, stop func()) {
	t.Helper()
	o.Gateway = gateway
	if o.MinBackoff == 0 {
		o.MinBackoff, o.MaxBackoff = 20*time.Millisecond, 100*time.Millisecond
	}
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := u.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("Run does not return")
		}
	}
	t.Cleanup(stop)
	return u, stop
}

func mqttURL(b *broker) string { return "mqtt://" + b.addr }

func TestRecordsOfAllLanesArriveInOrderAndAreAcked(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	var told sync.Map
	reg := prometheus.NewRegistry()
	raise(t, s, 1, 10)
	u, _ := start(t, Options{Broker: mqttURL(b), Lanes: s, Registerer: reg, OnCloudTime: func(at time.Time) { told.Store("at", at) }})
	raise(t, s, 11, 300)
	measure(t, s, 1, 5000)
	eventually(t, 10*time.Second, "all acked", func() bool {
		return acked(s, wire.LaneAlarm) == 300 && acked(s, wire.LaneTelemetry) == 5000
	})
	c.wantInOrder(wire.LaneAlarm, 300)
	c.wantInOrder(wire.LaneTelemetry, 5000)
	if at, ok := told.Load("at"); !ok || time.Since(at.(time.Time)).Abs() > time.Minute {
		t.Errorf("told the cloud's time %v", at)
	}
	if !u.State().Connected {
		t.Errorf("state %+v", u.State())
	}
	for name, want := range map[string]float64{"gatehouse_uplink_up": 1, "gatehouse_uplink_acked_seq": 5300, "gatehouse_outbox_records": 0} {
		if got := sum(t, reg, name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	if sum(t, reg, "gatehouse_uplink_batches_total") < 2 || sum(t, reg, "gatehouse_uplink_bytes_total") < 1000 {
		t.Error("nothing was counted")
	}
}

func sum(t *testing.T, g prometheus.Gatherer, name string) (v float64) {
	t.Helper()
	all, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				v += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return v
}

func TestBrokerKilledAndRestartedLosesNothing(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	u, _ := start(t, Options{Broker: mqttURL(b), Lanes: s, ResendAfter: 200 * time.Millisecond})
	n := 0
	for round := range 3 {
		raise(t, s, n+1, n+50)
		measure(t, s, n+1, n+50)
		b.kill()
		lost := time.Now()
		raise(t, s, n+51, n+100)
		measure(t, s, n+51, n+100)
		n += 100
		eventually(t, 10*time.Second, "the loss is noticed", func() bool { return !u.State().Connected })
		t.Logf("loss noticed after %v", time.Since(lost).Round(time.Millisecond))
		if !b.start() {
			t.Fatalf("mosquitto does not start again in round %d", round)
		}
		back := time.Now()
		eventually(t, 20*time.Second, "all acked", func() bool {
			return acked(s, wire.LaneAlarm) == uint64(n) && acked(s, wire.LaneTelemetry) == uint64(n)
		})
		t.Logf("all acked %v after the broker's return", time.Since(back).Round(time.Millisecond))
	}
	c.wantInOrder(wire.LaneAlarm, n)
	c.wantInOrder(wire.LaneTelemetry, n)
}

func TestAlarmOvertakesATelemetryBacklog(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	measure(t, s, 1, 20_000)
	c.muteAfterFirst(wire.LaneTelemetry)
	start(t, Options{Broker: mqttURL(b), Lanes: s, BatchBytes: 16 << 10, ResendAfter: 500 * time.Millisecond})
	eventually(t, 10*time.Second, "telemetry is under way", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.batches[wire.LaneTelemetry] >= 1+4 // the window
	})
	raise(t, s, 1, 1)
	eventually(t, 2*time.Second, "the alarm arrives", func() bool { return c.count(wire.LaneAlarm) == 1 })
	c.set(func() { c.arrived, c.mute[wire.LaneTelemetry] = nil, false })
	eventually(t, 20*time.Second, "the backlog arrives too", func() bool { return c.count(wire.LaneTelemetry) == 20_000 })
	c.wantInOrder(wire.LaneTelemetry, 20_000)
}

func TestAnAlarmIsPublishedAtOnce(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	u, _ := start(t, Options{Broker: mqttURL(b), Lanes: s})
	eventually(t, 5*time.Second, "connected", func() bool { return u.State().Connected })
	arrived := make(chan time.Time, 1)
	c.set(func() { c.arrived = func(wire.Lane, wire.Record) { arrived <- time.Now() } })
	took := make([]time.Duration, 0, 50)
	for n := range 50 {
		raise(t, s, n+1, n+1)
		committed := time.Now()
		took = append(took, (<-arrived).Sub(committed))
	}
	slices.Sort(took)
	t.Logf("commit to subscriber: median %v, worst %v", took[25], took[49])
	if took[25] > 20*time.Millisecond {
		t.Errorf("median %v from commit to subscriber", took[25])
	}
}

func TestForgedAcksMoveNothing(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	reg := prometheus.NewRegistry()
	var log logBook
	raise(t, s, 1, 100)
	c.muteAfterFirst(wire.LaneAlarm)
	_, stop := start(t, Options{
		Broker: mqttURL(b), Lanes: s, Registerer: reg, BatchBytes: 1000, Window: 4, ResendAfter: time.Hour, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	eventually(t, 5*time.Second, "the window is full", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.batches[wire.LaneAlarm] == 1+4
	})
	epoch := s.Lane(wire.LaneAlarm).Epoch()
	dice := rand.New(rand.NewPCG(1, 2))
	pick := func(right, wrong string) string {
		if dice.IntN(2) == 0 {
			return right
		}
		return wrong
	}
	for range 10_000 {
		a := wire.Ack{
			Gateway: pick(gateway, "gw-2"), Epoch: pick(epoch, "0123456789abcdef"), Lane: wire.Lane(1 + dice.IntN(4)),
			From: 2 + dice.Uint64N(200), UpTo: dice.Uint64N(300),
		}
		if a.Gateway == gateway && a.Epoch == epoch && a.Lane == wire.LaneAlarm && a.From <= 100 && a.From%4 == 2 {
			a.From++ // might be the truth: batches begin at such numbers
		}
		p, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		c.client.Publish(wire.AckTopic(gateway), 0, false, p).Wait()
	}
	c.client.Publish(wire.AckTopic(gateway), 0, false, []byte("no ack at all")).Wait()
	c.ack(wire.Ack{Gateway: gateway, Epoch: epoch, Lane: wire.LaneAlarm, From: 2, UpTo: 3}) // true: a part of the first batch
	eventually(t, 20*time.Second, "the true ack behind them is followed", func() bool { return acked(s, wire.LaneAlarm) > 1 })
	if n := acked(s, wire.LaneAlarm); n != 3 {
		t.Errorf("acked up to %d by forged acks", n)
	}
	if n := sum(t, reg, "gatehouse_uplink_acks_refused_total"); n < 6000 {
		t.Errorf("only %v of 10001 were counted as refused", n)
	}
	if n := log.count("ack refused"); n == 0 || n > 2 {
		t.Errorf("refused acks were logged %d times", n)
	}
	stop()
	if recs, err := s.Lane(wire.LaneAlarm).Next(0, 1<<20); err != nil || len(recs) != 100 {
		t.Errorf("%d records left, %v", len(recs), err)
	}
}

func TestALostBatchIsSentAgainAtTheFirstRefusal(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	raise(t, s, 1, 60)
	c.set(func() {
		c.arrived = func(_ wire.Lane, r wire.Record) { // the first batch of many
			if r.Seq == 2 {
				c.lose, c.arrived = 2, nil
			}
		}
	})
	start(t, Options{Broker: mqttURL(b), Lanes: s, BatchBytes: 1000, ResendAfter: time.Hour})
	eventually(t, 10*time.Second, "all acked without a timeout", func() bool { return acked(s, wire.LaneAlarm) == 60 })
	c.wantInOrder(wire.LaneAlarm, 60)
}

func TestABatchWithoutAnAckIsSentAgain(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	c.set(func() { c.lose = 2 })
	start(t, Options{Broker: mqttURL(b), Lanes: s, ResendAfter: 50 * time.Millisecond})
	raise(t, s, 1, 1)
	eventually(t, 10*time.Second, "acked", func() bool { return acked(s, wire.LaneAlarm) == 1 })
	c.wantInOrder(wire.LaneAlarm, 1)
}

func TestACloudThatFellBehindGetsTheRecordsAgain(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	start(t, Options{Broker: mqttURL(b), Lanes: s, ResendAfter: time.Hour})
	raise(t, s, 1, 50)
	eventually(t, 10*time.Second, "acked", func() bool { return acked(s, wire.LaneAlarm) == 50 })
	c.set(func() { // restored from a backup
		c.last[wire.LaneAlarm] = 20
		c.got[wire.LaneAlarm] = c.got[wire.LaneAlarm][:20]
	})
	raise(t, s, 51, 51)
	eventually(t, 10*time.Second, "what it lost", func() bool { return c.count(wire.LaneAlarm) == 51 })
	c.wantInOrder(wire.LaneAlarm, 51)
}

func TestACloudThatIsAheadOfAForgottenPositionIsBelieved(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	raise(t, s, 1, 200)
	_, stop := start(t, Options{Broker: mqttURL(b), Lanes: forgetful{s}})
	eventually(t, 10*time.Second, "all there", func() bool { return c.count(wire.LaneAlarm) == 200 })
	stop()
	if acked(s, wire.LaneAlarm) != 0 {
		t.Fatal("the position was not forgotten")
	}
	start(t, Options{Broker: mqttURL(b), Lanes: s, BatchBytes: 500, Window: 1})
	raise(t, s, 201, 210)
	eventually(t, 10*time.Second, "acked", func() bool { return acked(s, wire.LaneAlarm) == 210 })
	c.wantInOrder(wire.LaneAlarm, 210)
}

// forgetful is a store that is killed before it wrote the acked positions.
type forgetful struct{ *store.Store }

func (f forgetful) Lane(l wire.Lane) Outbox { return amnesia{f.Store.Lane(l)} }

type amnesia struct{ Outbox }

func (amnesia) Acked(uint64, uint64) error { return nil }

func TestWrongSecretIsOneClearLine(t *testing.T) {
	b := startBroker(t, "allow_anonymous false\n")
	var log logBook
	u, _ := start(t, Options{Broker: mqttURL(b), Secret: "wrong", Lanes: newStore(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	eventually(t, 10*time.Second, "refused", func() bool { return strings.Contains(u.State().Err, "secret_file") })
	eventually(t, 10*time.Second, "the line", func() bool { return log.count("cloud.secret_file") == 1 })
	// It goes on trying, silently.
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for range 50 {
		<-poll.C
	}
	if n := log.count("level=WARN"); n != 1 {
		t.Errorf("%d lines for one cause", n)
	}
	if log.count("wrong") != 0 {
		t.Error("the secret is in the log")
	}
}

func TestAStalledBrokerIsNoticedAndLeft(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	u, _ := start(t, Options{Broker: mqttURL(b), Lanes: s, KeepAlive: time.Second, ResendAfter: 100 * time.Millisecond})
	raise(t, s, 1, 1)
	eventually(t, 5*time.Second, "acked", func() bool { return acked(s, wire.LaneAlarm) == 1 })
	if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stalled := time.Now()
	raise(t, s, 2, 2)
	eventually(t, 10*time.Second, "the stall is noticed", func() bool { return !u.State().Connected })
	t.Logf("noticed after %v with a keepalive of 1 s", time.Since(stalled).Round(time.Millisecond))
	if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "acked after the return", func() bool { return acked(s, wire.LaneAlarm) == 2 })
	c.wantInOrder(wire.LaneAlarm, 2)
}

func TestStopDoesNotWaitForABrokerThatSaysNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	_, stop := start(t, Options{Broker: "mqtt://" + l.Addr().String(), Lanes: newStore(t)})
	conn := <-accepted
	defer func() { _ = conn.Close() }()
	began := time.Now()
	stop()
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("stop took %v", d)
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	s := newStore(t)
	for name, o := range map[string]Options{
		"no gateway":    {Broker: "mqtt://h:1", Lanes: s},
		"bad gateway":   {Gateway: "a/b", Broker: "mqtt://h:1", Lanes: s},
		"no lanes":      {Gateway: "g", Broker: "mqtt://h:1"},
		"no broker":     {Gateway: "g", Lanes: s},
		"http":          {Gateway: "g", Broker: "http://h", Lanes: s},
		"no such CA":    {Gateway: "g", Broker: "mqtts://h", CAFile: "/does/not/exist", Lanes: s},
		"CA without it": {Gateway: "g", Broker: "mqtts://h", CAFile: "/dev/null", Lanes: s},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	u, err := New(Options{Gateway: "g", Broker: "mqtts://h", Lanes: s})
	if err != nil || u.broker.Host != "h:8883" {
		t.Errorf("default port: %v, %v", u, err)
	}
	if got := fmt.Sprint(jitter(time.Second) >= time.Second/2, jitter(time.Second) <= time.Second); got != "true true" {
		t.Error("jitter is out of its bounds")
	}
}
