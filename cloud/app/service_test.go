package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/klauspost/compress/zstd"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

const (
	division = "530102001003"
	patience = 10 * time.Second
)

// service is a running service in this process.
type service struct {
	t    testing.TB
	data string
	pid  int // of a service in a process of its own
	Addrs
	stop func() error
}

func startService(t testing.TB, data string) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan Addrs, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			Data: data, HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", Ready: func(a Addrs) { ready <- a },
			Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		})
	}()
	s := &service{t: t, data: data}
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	select {
	case s.Addrs = <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func addGateway(t testing.TB, data, id string) (secret string) {
	t.Helper()
	admin, done, err := OpenAdmin(t.Context(), data, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if secret, err = admin.AddGateway(t.Context(), id, division); err != nil {
		t.Fatal(err)
	}
	return secret
}

func createToken(t testing.TB, data, scope string, kinds ...string) string {
	t.Helper()
	admin, done, err := OpenAdmin(t.Context(), data, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	_, bearer, err := admin.CreateToken(t.Context(), scope, kinds, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return bearer
}

// box is a gateway: a bare MQTT client.
type box struct {
	t    testing.TB
	id   string
	mqtt mqtt.Client
	acks chan wire.Ack
}

func mqttOptions(addr, clientID, user, secret string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(clientID).SetUsername(user).SetPassword(secret).
		SetCleanSession(true).SetAutoReconnect(false).SetConnectTimeout(patience)
}

func connect(t testing.TB, addr, id, secret string) *box {
	t.Helper()
	b := &box{t: t, id: id, acks: make(chan wire.Ack, 1000)}
	b.mqtt = mqtt.NewClient(mqttOptions(addr, id, id, secret))
	done(t, b.mqtt.Connect())
	t.Cleanup(func() { b.mqtt.Disconnect(0) })
	sub := b.mqtt.Subscribe(wire.AckTopic(id), 0, func(_ mqtt.Client, m mqtt.Message) {
		ack, err := wire.DecodeAck(m.Payload())
		if err != nil {
			t.Error(err)
		}
		b.acks <- ack
	})
	done(t, sub)
	if granted := sub.(*mqtt.SubscribeToken).Result()[wire.AckTopic(id)]; granted != 0 {
		t.Fatalf("subscription to the own acks: code %#x", granted)
	}
	return b
}

func done(t testing.TB, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("MQTT: no answer")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

func (b *box) publish(topic string, payload []byte) {
	b.t.Helper()
	done(b.t, b.mqtt.Publish(topic, 0, false, payload))
}

func (b *box) send(batch wire.Batch) {
	b.t.Helper()
	b.publish(wire.Topic(b.id, batch.Lane), pack(b.t, batch))
}

func (b *box) ack() wire.Ack {
	b.t.Helper()
	select {
	case a := <-b.acks:
		return a
	case <-time.After(patience):
		b.t.Fatal("no ack")
		return wire.Ack{}
	}
}

func pack(t testing.TB, b wire.Batch) []byte {
	t.Helper()
	p, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return squeeze(t, p)
}

func squeeze(t testing.TB, p []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(p, nil)
}

// alarms returns a batch of alarm steps first..last; every fourth is a drill.
func alarms(t testing.TB, gateway, epoch string, first, last uint64) wire.Batch {
	t.Helper()
	kinds := []string{wire.KindAlarmCleared, wire.KindAlarmRaised, wire.KindAlarmAcknowledged}
	b := wire.Batch{Version: wire.Version, Gateway: gateway, Epoch: epoch, Lane: wire.LaneAlarm}
	for seq := first; seq <= last; seq++ {
		body, err := wire.Alarm{
			Alarm: wire.NewEventID(), Rule: "gas-contact", Point: "di-3-2/di1", Place: "3/2/501", Zone: "3/2", Role: "gas_alarm",
			Value: point.Truth(true), Priority: 1, Title: "501厨房燃气报警器", Drill: seq%4 == 0, Occurrence: 1, Raised: time.Now(),
		}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b.Records = append(b.Records, wire.Record{
			ID: wire.NewEventID(), Lane: b.Lane, Seq: seq, Kind: kinds[seq%3], Time: time.Now(), Clock: wire.ClockNTP, Body: body,
		})
	}
	return b
}

// page is one answer of the pull API.
type page struct {
	status int
	header http.Header
	body   string
	events []map[string]any
	cursor string
}

func (s *service) get(bearer, query string) page {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTP+"/v1/events?"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return page{}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Error(err)
	}
	p := page{status: resp.StatusCode, header: resp.Header, body: string(body), cursor: resp.Header.Get("Gatehouse-Cursor")}
	if p.status == http.StatusOK {
		if err := json.Unmarshal(body, &p.events); err != nil {
			s.t.Errorf("page %s: %v", body, err)
		}
	}
	return p
}

// pull follows the cursor to the end.
func (s *service) pull(bearer, query string, limit int) (events []map[string]any) {
	s.t.Helper()
	cursor := ""
	for {
		p := s.get(bearer, fmt.Sprintf("%s&limit=%d&cursor=%s", query, limit, url.QueryEscape(cursor)))
		if p.status != http.StatusOK {
			s.t.Fatalf("status %d: %s", p.status, p.body)
		}
		if len(p.events) == 0 {
			return events
		}
		events, cursor = append(events, p.events...), p.cursor
	}
}

// metric returns the value of one line of /metrics.
func (s *service) metric(name string) string {
	s.t.Helper()
	resp, err := http.Get("http://" + s.HTTP + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	s.t.Fatalf("no metric %s", name)
	return ""
}

// await polls until ok.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
