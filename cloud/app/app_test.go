package app

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/klauspost/compress/zstd"

	"gatehouse/cloud/internal/broker"
	"gatehouse/protocol/wire"
)

func TestBatchIsAckedThenPulled(t *testing.T) {
	s := startService(t, t.TempDir())
	b := connect(t, s.MQTT, "gw-1", addGateway(t, s.data, "gw-1"))
	bearer := createToken(t, s.data, "53", "alarm")
	batch := alarms(t, "gw-1", "e1", 1, 3)
	b.send(batch)
	ack := b.ack()
	if ack.Gateway != "gw-1" || ack.Epoch != "e1" || ack.Lane != wire.LaneAlarm || ack.From != 1 || ack.UpTo != 3 || time.Since(ack.CloudTime).Abs() > time.Minute {
		t.Fatalf("ack %+v", ack)
	}
	p := s.get(bearer, "")
	if len(p.events) != 3 || p.header.Get("Content-Type") != "application/cloudevents-batch+json" || p.cursor == "" {
		t.Fatalf("page %+v", p)
	}
	e := p.events[0]
	want := map[string]any{
		"specversion": "1.0", "id": batch.Records[0].ID.String(), "type": "alarm.raised", "source": "gw-1", "seq": 1.0,
		"clockq": "ntp", "division": division, "lane": "alarm", "epoch": "e1", "datacontenttype": "application/json",
	}
	for k, v := range want {
		if e[k] != v {
			t.Errorf("%s is %v, want %v", k, e[k], v)
		}
	}
	for _, k := range []string{"time", "receivedtime"} {
		if at, err := time.Parse(time.RFC3339, e[k].(string)); err != nil || time.Since(at).Abs() > time.Minute || !strings.HasSuffix(e[k].(string), "+08:00") {
			t.Errorf("%s is %v", k, e[k])
		}
	}
	data := e["data"].(map[string]any)
	for k, v := range map[string]any{
		"place": "3/2/501", "device": "di-3-2", "point": "di-3-2/di1", "role": "gas_alarm", "value": true, "unit": "", "priority": "P1",
		"title": "501厨房燃气报警器", "drill": false, "rule": "gas-contact", "zone": "3/2", "occurrence": 1.0,
	} {
		if data[k] != v {
			t.Errorf("data.%s is %v, want %v", k, data[k], v)
		}
	}
	if got := s.metric("gatehouse_gateways_online"); got != "1" {
		t.Errorf("online %s", got)
	}
}

func TestOnlyTheNextSequenceIsTaken(t *testing.T) {
	s := startService(t, t.TempDir())
	b := connect(t, s.MQTT, "gw-1", addGateway(t, s.data, "gw-1"))
	for _, step := range []struct {
		epoch            string
		first, last      uint64
		wantFrom, wantTo uint64
	}{
		{"e1", 1, 2, 1, 2}, {"e1", 1, 2, 1, 2}, {"e1", 5, 6, 5, 2}, {"e1", 2, 6, 2, 6}, {"e2", 1, 1, 1, 1},
	} {
		b.send(alarms(t, "gw-1", step.epoch, step.first, step.last))
		if a := b.ack(); a.From != step.wantFrom || a.UpTo != step.wantTo || a.Epoch != step.epoch {
			t.Fatalf("%+v: ack %+v", step, a)
		}
	}
	if got := s.metric(`gatehouse_ingest_batches_total{lane="alarm",result="hole"}`); got != "1" {
		t.Errorf("holes %s", got)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	s := startService(t, t.TempDir())
	secret := addGateway(t, s.data, "gw-1")
	other := addGateway(t, s.data, "gw-2")
	for _, c := range []struct{ name, clientID, user, secret string }{
		{"wrong secret", "gw-1", "gw-1", "wrong"},
		{"empty secret", "gw-1", "gw-1", ""},
		{"another's secret", "gw-1", "gw-1", other},
		{"foreign client id", "gw-2", "gw-1", secret},
		{"unknown gateway", "gw-9", "gw-9", secret},
		{"nobody", "", "", ""},
		{"wildcard", "*", "*", secret},
	} {
		client := mqtt.NewClient(mqttOptions(s.MQTT, c.clientID, c.user, c.secret))
		token := client.Connect()
		if !token.WaitTimeout(patience) || token.Error() == nil {
			t.Errorf("%s: let in", c.name)
			client.Disconnect(0)
		}
	}
	connect(t, s.MQTT, "gw-1", secret)
}

func TestAGatewayTouchesOnlyItsOwn(t *testing.T) {
	s := startService(t, t.TempDir())
	one := connect(t, s.MQTT, "gw-1", addGateway(t, s.data, "gw-1"))
	two := connect(t, s.MQTT, "gw-2", addGateway(t, s.data, "gw-2"))
	bearer := createToken(t, s.data, "53", "*")

	for _, topic := range []string{"gw/gw-2/v1/ack", "gw/+/v1/ack", "#", "gw/gw-2/v1/alarm", "gw/gw-1/v1/alarm", "$SYS/#", "$JS/API/#", "ev/#"} {
		token := one.mqtt.Subscribe(topic, 0, func(mqtt.Client, mqtt.Message) {}).(*mqtt.SubscribeToken)
		if !token.WaitTimeout(patience) || token.Result()[topic] != 0x80 {
			t.Errorf("subscription to %s: %v", topic, token.Result())
		}
	}
	for _, topic := range []string{"gw/gw-2/v1/alarm", "gw/gw-1/v1/ack", "gw/gw-2/v1/ack", "$JS/API/STREAM/DELETE/ALARM", "ev/alarm/53/01/02/001/003/gw-2/alarm/raised"} {
		one.publish(topic, pack(t, alarms(t, "gw-2", "e1", 1, 1)))
	}
	// An own, good batch goes the same way behind them: once it is acked, all
	// before it have been dealt with.
	one.send(alarms(t, "gw-1", "e1", 1, 1))
	if a := one.ack(); a.Gateway != "gw-1" || a.UpTo != 1 {
		t.Fatalf("ack %+v", a)
	}
	select {
	case a := <-two.acks:
		t.Fatalf("gw-2 got %+v", a)
	default:
	}
	for _, e := range s.pull(bearer, "", 100) {
		if e["source"] != "gw-1" {
			t.Errorf("event of %v", e["source"])
		}
	}
}

func TestHostileBytesAreRefusedAndBounded(t *testing.T) {
	s := startService(t, t.TempDir())
	b := connect(t, s.MQTT, "gw-1", addGateway(t, s.data, "gw-1"))
	lie := alarms(t, "gw-2", "e1", 1, 1)
	hostile := [][]byte{
		nil,
		[]byte("no zstd"),
		squeeze(t, make([]byte, 512<<20)), // a bomb: 512 MiB in 16 kB
		squeeze(t, bytes.Repeat([]byte{0x2a, 0}, wire.MaxInflated/2)), // four million empty records
		squeeze(t, []byte("no protobuf")),
		pack(t, lie), // another gateway's name in the own session
		make([]byte, wire.MaxPayload+1),
		unstorable(t),
		tooMany(t),
	}
	for _, p := range hostile {
		b.publish(wire.Topic("gw-1", wire.LaneAlarm), p)
	}
	b.send(alarms(t, "gw-1", "e1", 1, 1))
	if a := b.ack(); a.UpTo != 1 {
		t.Fatalf("ack %+v", a)
	}
	if got := s.metric(`gatehouse_ingest_batches_total{lane="alarm",result="refused"}`); got != fmt.Sprint(len(hostile)) {
		t.Errorf("refused %s of %d", got, len(hostile))
	}
	if got := s.metric(`gatehouse_ingest_batches_total{lane="alarm",result="failed"}`); got != "0" {
		t.Errorf("failed %s: the log was blamed", got)
	}
}

// unstorable fits a payload only by a wider window than the event log's.
func unstorable(t *testing.T) []byte {
	t.Helper()
	noise := make([]byte, 900<<10)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	b := alarms(t, "gw-1", "e1", 1, 1)
	b.Records[0].Kind, b.Records[0].Body = "x", nil
	for range 4 {
		b.Records[0].Body = append(append(b.Records[0].Body, noise...), make([]byte, 1<<20)...)
	}
	raw, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(8<<20), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = enc.Close() }()
	p := enc.EncodeAll(raw, nil)
	if len(p) > wire.MaxPayload || len(raw) > wire.MaxInflated {
		t.Fatalf("%d bytes of %d prove nothing", len(p), len(raw))
	}
	return p
}

// tooMany holds records that take little on the wire and much in memory.
func tooMany(t *testing.T) []byte {
	t.Helper()
	b := wire.Batch{Version: wire.Version, Gateway: "gw-1", Epoch: "e1", Lane: wire.LaneAlarm}
	for n := range uint64(100_000) {
		b.Records = append(b.Records, wire.Record{Lane: b.Lane, Seq: n + 1, Kind: string(rune('a' + n%2)), Time: time.Unix(0, 0)})
	}
	return pack(t, b)
}

func TestOversizedPublishEndsTheConnection(t *testing.T) {
	s := startService(t, t.TempDir())
	secret := addGateway(t, s.data, "gw-1")
	b := connect(t, s.MQTT, "gw-1", secret)
	b.mqtt.Publish(wire.Topic("gw-1", wire.LaneAlarm), 0, false, make([]byte, 4<<20))
	await(t, "the connection to end", func() bool { return !b.mqtt.IsConnected() })
	again := connect(t, s.MQTT, "gw-1", secret)
	again.send(alarms(t, "gw-1", "e1", 1, 1))
	again.ack()
}

func TestRestartKeepsEverything(t *testing.T) {
	data := t.TempDir()
	secret := addGateway(t, data, "gw-1") // not running: the directory itself
	bearer := createToken(t, data, "5301", "alarm")
	s := startService(t, data)
	connect(t, s.MQTT, "gw-1", secret).send(alarms(t, "gw-1", "e1", 1, 5))
	var first page
	await(t, "the events", func() bool { first = s.get(bearer, "limit=2"); return len(first.events) == 2 })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = startService(t, data)
	if p := s.get(bearer, "cursor="+first.cursor); len(p.events) != 3 || p.events[0]["seq"] != 3.0 {
		t.Fatalf("after the restart: %s", p.body)
	}
	b := connect(t, s.MQTT, "gw-1", secret)
	b.send(alarms(t, "gw-1", "e1", 6, 6))
	if a := b.ack(); a.UpTo != 6 {
		t.Fatalf("ack %+v", a)
	}
}

func TestStopIsPromptWithAWaitingReader(t *testing.T) {
	s := startService(t, t.TempDir())
	bearer := createToken(t, s.data, "53", "*")
	answered := make(chan page, 1)
	go func() { answered <- s.get(bearer, "wait=60") }()
	await(t, "the reader to wait", func() bool { return s.metric("gatehouse_api_waiting") == "1" })
	start := time.Now()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopped after %s", took)
	}
	if p := <-answered; p.status != http.StatusOK || p.cursor == "" {
		t.Errorf("the reader got %d %s", p.status, p.body)
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	running := startService(t, t.TempDir())
	good := Options{Data: t.TempDir(), HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"MQTT port taken", func(o *Options) { o.MQTTAddr = taken.Addr().String() }, "hint"},
		{"HTTP port taken", func(o *Options) { o.HTTPAddr = taken.Addr().String() }, "hint"},
		{"no port", func(o *Options) { o.HTTPAddr = "127.0.0.1" }, "hint"},
		{"beyond loopback", func(o *Options) { o.MQTTAddr = "0.0.0.0:0" }, "--allow-plaintext"},
		{"every interface", func(o *Options) { o.HTTPAddr = ":0" }, "--allow-plaintext"},
		{"no data", func(o *Options) { o.Data = "" }, "--data"},
		{"data in use", func(o *Options) { o.Data = running.data }, "in use"},
		{"data is a file", func(o *Options) { o.Data = "/dev/null/x" }, "hint"},
	} {
		o := good
		c.change(&o)
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	o := good
	o.Data = running.data
	if err := Run(t.Context(), o); !errors.Is(err, broker.ErrLocked) {
		t.Errorf("a second service: %v", err)
	}
}
