package uplink

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/klauspost/compress/zstd"

	"gatehouse/edge/internal/store"
	"gatehouse/protocol/wire"
)

const gateway = "gw-1"

// broker is a Debian mosquitto.
type broker struct {
	addr   string // host:port
	config string
	cmd    *exec.Cmd
}

// startBroker starts mosquitto on a free port with config beside the listener.
func startBroker(t *testing.T, config string) *broker {
	t.Helper()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("mosquitto is not installed (apt-get install mosquitto)")
		}
		t.Skip("mosquitto is not installed (apt-get install mosquitto)")
	}
	if config == "" {
		config = "allow_anonymous true\n"
	}
	dir := t.TempDir()
	for range 5 { // another process may take the port first
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		b := &broker{addr: fmt.Sprintf("127.0.0.1:%d", port), config: filepath.Join(dir, "mosquitto.conf")}
		text := fmt.Sprintf("listener %d 127.0.0.1\npersistence false\nset_tcp_nodelay true\nuser root\nmax_inflight_messages 0\nmax_queued_messages 0\n%s", port, config)
		if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if b.start() {
			t.Cleanup(b.kill)
			return b
		}
	}
	t.Fatal("mosquitto does not start")
	return nil
}

// start reports whether the broker answers on its port.
func (b *broker) start() bool {
	b.cmd = exec.Command("mosquitto", "-c", b.config)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive a test that is killed
	if b.cmd.Start() != nil {
		return false
	}
	gone := make(chan struct{})
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(gone) }(b.cmd)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if c, err := net.Dial("tcp", b.addr); err == nil {
			_ = c.Close()
			return true
		}
		select {
		case <-gone:
			return false
		case <-poll.C:
		}
	}
	b.kill()
	return false
}

func (b *broker) kill() { _ = b.cmd.Process.Kill() }

// cloud is what the cloud's ingest does, with levers for a test to pull.
type cloud struct {
	t       *testing.T
	client  mqtt.Client
	decoder *zstd.Decoder
	acks    chan wire.Ack // a callback of paho must not block, and Publish may

	mu      sync.Mutex // guards all below
	last    map[wire.Lane]uint64
	got     map[wire.Lane][]wire.Record
	batches map[wire.Lane]int
	epoch   map[wire.Lane]string
	mute    map[wire.Lane]bool           // takes nothing, says nothing
	lose    int                          // so many batches never arrive
	arrived func(wire.Lane, wire.Record) // called at once
}

func startCloud(t *testing.T, b *broker) *cloud {
	t.Helper()
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(wire.MaxInflated), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	c := &cloud{
		t: t, decoder: d, acks: make(chan wire.Ack, 1<<12), last: map[wire.Lane]uint64{}, got: map[wire.Lane][]wire.Record{}, batches: map[wire.Lane]int{},
		epoch: map[wire.Lane]string{}, mute: map[wire.Lane]bool{},
	}
	c.client = dial(t, b, "cloud", func(client mqtt.Client) {
		client.Subscribe("gw/+/v1/+", 0, func(_ mqtt.Client, m mqtt.Message) { c.take(m.Topic(), m.Payload()) })
	})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case a := <-c.acks:
				c.ack(a)
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		c.client.Disconnect(100)
		close(stop)
		<-done
	})
	return c
}

// dial connects a bare paho client that stays connected.
func dial(t *testing.T, b *broker, id string, onConnect func(mqtt.Client)) mqtt.Client {
	t.Helper()
	ready := make(chan struct{}, 16)
	o := mqtt.NewClientOptions().AddBroker("tcp://" + b.addr).SetClientID(id).SetMaxReconnectInterval(50 * time.Millisecond).
		SetOrderMatters(true).SetWriteTimeout(time.Second).SetOnConnectHandler(func(c mqtt.Client) {
		go func() {
			if onConnect != nil {
				onConnect(c)
			}
			ready <- struct{}{}
		}()
	})
	c := mqtt.NewClient(o)
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	<-ready
	return c
}

func (c *cloud) take(topic string, payload []byte) {
	if topic == wire.AckTopic(gateway) {
		return
	}
	raw, err := c.decoder.DecodeAll(payload, nil)
	if err != nil || len(payload) > wire.MaxPayload {
		c.t.Errorf("payload of %d bytes on %s: %v", len(payload), topic, err)
		return
	}
	b, err := wire.DecodeBatch(raw)
	if err != nil || topic != wire.Topic(b.Gateway, b.Lane) {
		c.t.Errorf("batch on %s: %v", topic, err)
		return
	}
	from, upTo, err := b.Span()
	if err != nil {
		c.t.Error(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches[b.Lane]++
	if c.epoch[b.Lane] != b.Epoch { // numbers begin anew
		c.epoch[b.Lane], c.last[b.Lane] = b.Epoch, from-1
	}
	for _, r := range b.Records {
		if c.arrived != nil {
			c.arrived(b.Lane, r)
		}
	}
	if c.lose > 0 {
		c.lose--
		return
	}
	if c.mute[b.Lane] {
		return
	}
	last := c.last[b.Lane]
	if from <= last+1 {
		for _, r := range b.Records {
			if r.Seq > last {
				c.got[b.Lane] = append(c.got[b.Lane], r)
			}
		}
		c.last[b.Lane] = max(last, upTo)
	}
	select {
	case c.acks <- wire.Ack{Gateway: b.Gateway, Epoch: b.Epoch, Lane: b.Lane, From: from, UpTo: c.last[b.Lane], CloudTime: time.Now()}:
	default:
	}
}

func (c *cloud) ack(a wire.Ack) {
	p, err := a.Encode()
	if err != nil {
		c.t.Error(err)
		return
	}
	c.client.Publish(wire.AckTopic(a.Gateway), 0, false, p)
}

func (c *cloud) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// muteAfterFirst lets a lane's first record in, and takes no more until told.
func (c *cloud) muteAfterFirst(l wire.Lane) {
	c.set(func() {
		c.arrived = func(lane wire.Lane, r wire.Record) { c.mute[l] = c.mute[l] || lane == l && r.Seq > 1 }
	})
}

// count returns how many records of a lane the cloud has.
func (c *cloud) count(l wire.Lane) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got[l])
}

// wantInOrder checks that the lane's bodies are 1..n, each once.
func (c *cloud) wantInOrder(l wire.Lane, n int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got[l]) != n {
		c.t.Errorf("%v: %d records, want %d", l, len(c.got[l]), n)
	}
	for i, r := range c.got[l] {
		if string(r.Body) != fmt.Sprint(i+1) || r.Seq != uint64(i+1) {
			c.t.Fatalf("%v: record %d has sequence %d and says %q", l, i+1, r.Seq, r.Body)
		}
	}
}

// eventually waits for cond.
func eventually(t *testing.T, within time.Duration, what string, cond func() bool) {
	t.Helper()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(within); !cond(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{Dir: t.TempDir(), SpoolEvery: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func record(l wire.Lane, body string) wire.Record {
	return wire.Record{ID: wire.NewEventID(), Lane: l, Kind: wire.KindAlarmRaised, Time: time.Now(), Body: []byte(body)}
}

// raise commits alarm records first..last, each saying its number.
func raise(t *testing.T, s *store.Store, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		if err := s.Commit("", nil, record(wire.LaneAlarm, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
}

// measure appends telemetry records first..last, each saying its number.
func measure(t *testing.T, s *store.Store, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		if err := s.Append(record(wire.LaneTelemetry, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
}

func acked(s *store.Store, l wire.Lane) uint64 {
	n, _ := s.Lane(l).Position()
	return n
}
