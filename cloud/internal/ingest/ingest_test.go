package ingest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gatehouse/cloud/internal/broker"
	"gatehouse/cloud/internal/eventlog"
	"gatehouse/protocol/wire"
)

// sick is an event log whose disk does not answer for one lane.
type sick struct {
	lane    wire.Lane
	entered chan struct{} // has room for one: somebody waits for the disk
	release chan struct{}
}

func newSick(lane wire.Lane) *sick {
	return &sick{lane: lane, entered: make(chan struct{}, 1), release: make(chan struct{})}
}

func (s *sick) Append(ctx context.Context, _ eventlog.Origin, b wire.Batch) (uint64, error) {
	if b.Lane == s.lane {
		select {
		case s.entered <- struct{}{}:
		default:
		}
		select {
		case <-s.release:
			return 0, errors.New("disk gone")
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	_, upTo, err := b.Span()
	return upTo, err
}

type oneGateway struct{}

func (oneGateway) Division(gateway string) (string, bool) { return "530102001003", gateway == "gw-1" }
func (oneGateway) Seen(string)                            {}

func start(t *testing.T, log Log) (*Ingest, *nats.Conn) {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	in, err := Start(t.Context(), Options{Conn: nc, Log: log, Fleet: oneGateway{}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	return in, nc
}

func payload(t testing.TB, lane wire.Lane) []byte {
	t.Helper()
	p, err := wire.Batch{Version: wire.Version, Gateway: "gw-1", Epoch: "e1", Lane: lane, Records: []wire.Record{
		{ID: wire.NewEventID(), Lane: lane, Seq: 1, Kind: "test", Time: time.Now()},
	}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = enc.Close() }()
	return enc.EncodeAll(p, nil)
}

func TestASickLaneIsBoundedAndHoldsUpNoOther(t *testing.T) {
	log := newSick(wire.LaneTelemetry)
	in, nc := start(t, log)
	acks, err := nc.SubscribeSync("gw.gw-1.v1.ack")
	if err != nil {
		t.Fatal(err)
	}
	p := payload(t, wire.LaneTelemetry)
	const extra = 10
	if err := nc.Publish("gw.gw-1.v1.telemetry", p); err != nil {
		t.Fatal(err)
	}
	<-log.entered // one is at work; now a queue full, and some
	for range queueLen + extra {
		if err := nc.Publish("gw.gw-1.v1.telemetry", p); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Publish("gw.gw-1.v1.alarm", payload(t, wire.LaneAlarm)); err != nil {
		t.Fatal(err)
	}
	m, err := acks.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatalf("the alarm was not acked: %v", err)
	}
	if a, err := wire.DecodeAck(m.Data); err != nil || a.Lane != wire.LaneAlarm || a.UpTo != 1 {
		t.Fatalf("ack %+v, %v", a, err)
	}
	droppedCount := in.metrics.batches.WithLabelValues("telemetry", dropped)
	await(t, func() bool { return testutil.ToFloat64(droppedCount) >= extra })
	close(log.release)
	in.Close()
	if got := testutil.ToFloat64(in.metrics.batches.WithLabelValues("telemetry", failed)); got != 1+queueLen {
		t.Errorf("%v failed, want %d", got, 1+queueLen)
	}
	if m, err := acks.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("an ack for what was not stored: %s", m.Subject)
	}
}

func TestCloseDoesNotWaitForEverForTheLog(t *testing.T) {
	log := newSick(wire.LaneAlarm)
	in, nc := start(t, log)
	if err := nc.Publish("gw.gw-1.v1.alarm", payload(t, wire.LaneAlarm)); err != nil {
		t.Fatal(err)
	}
	<-log.entered
	start := time.Now()
	in.Close()
	if took := time.Since(start); took > 2*closeGrace {
		t.Errorf("closed after %s", took)
	}
}

func TestOneGatewayCannotFillItsLane(t *testing.T) {
	log := newSick(wire.LaneMedia)
	in, nc := start(t, log)
	big := make([]byte, wire.MaxPayload-1)
	const sent = 12
	if err := nc.Publish("gw.gw-1.v1.media", payload(t, wire.LaneMedia)); err != nil {
		t.Fatal(err)
	}
	<-log.entered // the worker waits for the disk
	for range sent {
		if err := nc.Publish("gw.gw-1.v1.media", big); err != nil {
			t.Fatal(err)
		}
	}
	droppedCount := in.metrics.batches.WithLabelValues("media", dropped)
	await(t, func() bool { return testutil.ToFloat64(droppedCount) >= sent-queueBytes/wire.MaxPayload })
	if got := in.lanes[3].waiting.Load(); got > queueBytes {
		t.Errorf("%d bytes of one gateway wait, want at most %d", got, queueBytes)
	}
	close(log.release)
	in.Close()
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		<-tick.C
	}
}

func TestBatchOfTooManyRecordsIsRefusedBeforeItIsDecoded(t *testing.T) {
	in := &Ingest{}
	var err error
	if in.dec, err = zstd.NewReader(nil); err != nil {
		t.Fatal(err)
	}
	defer in.dec.Close()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	b := wire.Batch{Version: wire.Version, Gateway: "gw-1", Epoch: "e1", Lane: wire.LaneAlarm}
	for n := range maxRecords + 1 {
		b.Records = append(b.Records, wire.Record{Lane: b.Lane, Seq: uint64(n + 1), Kind: "x", Time: time.Unix(0, 0)})
	}
	for _, c := range []struct {
		records []wire.Record
		want    error
	}{{b.Records[:maxRecords], nil}, {b.Records, errTooBig}} {
		b.Records = c.records
		raw, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.decode(enc.EncodeAll(raw, nil)); !errors.Is(err, c.want) {
			t.Errorf("%d records: %v", len(c.records), err)
		}
	}
}

// FuzzDecode: no payload panics, and what is taken for a batch is one.
func FuzzDecode(f *testing.F) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(wire.MaxInflated))
	if err != nil {
		f.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	in := &Ingest{dec: dec}
	raw, err := dec.DecodeAll(payload(f, wire.LaneAlarm), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x2a, 0}, 10))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := in.decode(raw); err == nil && len(raw) == 0 {
			t.Fatal("nothing taken for a batch")
		}
		b, err := in.decode(enc.EncodeAll(raw, nil))
		if err != nil {
			return
		}
		p, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := in.decode(enc.EncodeAll(p, nil))
		if err != nil || len(again.Records) != len(b.Records) || again.Epoch != b.Epoch || again.Lane != b.Lane {
			t.Fatalf("%+v became %+v, %v", b, again, err)
		}
	})
}
