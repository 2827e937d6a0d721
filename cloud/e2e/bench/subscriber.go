package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/klauspost/compress/zstd"

	"gatehouse/protocol/wire"
)

// subscriber stands in for the cloud: it takes every batch of one gateway and
// acknowledges it.
type subscriber struct {
	client  mqtt.Client
	gateway string
	zip     *zstd.Decoder
	onAlarm func(at time.Time, kind string, a wire.Alarm) // may be nil

	mu      sync.Mutex // guards all below
	tally   *tally     // counts telemetry; may be nil
	batches int
	bytes   int
	errs    []error // what could not be read
}

// subscribe connects to the broker and begins to take batches.
func subscribe(addr, gateway string, t *tally, onAlarm func(time.Time, string, wire.Alarm)) (*subscriber, error) {
	zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(wire.MaxInflated))
	if err != nil {
		return nil, err
	}
	s := &subscriber{gateway: gateway, zip: zip, tally: t, onAlarm: onAlarm}
	if s.client, err = dial(addr, "bench-cloud"); err != nil {
		return nil, err
	}
	topics := make(map[string]byte)
	for _, lane := range wire.Lanes {
		topics[wire.Topic(gateway, lane)] = 0
	}
	if err := settle(s.client.SubscribeMultiple(topics, s.receive)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *subscriber) close() {
	s.client.Disconnect(100)
	s.zip.Close()
}

// receive runs in the client's one delivery goroutine.
func (s *subscriber) receive(_ mqtt.Client, m mqtt.Message) {
	at := time.Now()
	if err := s.take(at, m); err != nil {
		s.mu.Lock()
		s.errs = append(s.errs, fmt.Errorf("%s: %w", m.Topic(), err))
		s.mu.Unlock()
	}
}

func (s *subscriber) take(at time.Time, m mqtt.Message) error {
	raw, err := s.zip.DecodeAll(m.Payload(), nil)
	if err != nil {
		return err
	}
	b, err := wire.DecodeBatch(raw)
	if err != nil {
		return err
	}
	if b.Gateway != s.gateway || !strings.HasSuffix(m.Topic(), "/"+b.Lane.String()) {
		return fmt.Errorf("batch of gateway %q, lane %s", b.Gateway, b.Lane)
	}
	for _, r := range b.Records {
		if err := s.record(at, r); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.batches++
	s.bytes += len(m.Payload())
	s.mu.Unlock()
	return s.ack(b)
}

func (s *subscriber) record(at time.Time, r wire.Record) error {
	switch {
	case r.Kind == wire.KindGap:
		return errors.New("the gateway declares a gap")
	case r.Lane == wire.LaneAlarm && s.onAlarm != nil:
		a, err := wire.DecodeAlarm(r.Body)
		if err != nil {
			return err
		}
		s.onAlarm(at, r.Kind, a)
	case r.Kind == wire.KindTelemetry && s.tally != nil:
		t, err := wire.DecodeTelemetry(r.Body)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.tally.add(t)
	}
	return nil
}

func (s *subscriber) ack(b wire.Batch) error {
	from, upTo, err := b.Span()
	if err != nil {
		return err
	}
	p, err := wire.Ack{
		Gateway: b.Gateway, Epoch: b.Epoch, Lane: b.Lane, From: from, UpTo: upTo, CloudTime: time.Now(),
	}.Encode()
	if err != nil {
		return err
	}
	s.client.Publish(wire.AckTopic(s.gateway), 0, false, p) // waiting here would stall the delivery
	return nil
}

// missing counts the values of polls in (since, upTo] that have not arrived.
func (s *subscriber) missing(since, upTo [][unitsPerConn]uint64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tally.missing(since, upTo)
}

// alien counts the values that arrived and that no poll can have shown.
func (s *subscriber) alien() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tally.alien
}

// traffic returns how many batches of how many bytes have arrived.
func (s *subscriber) traffic() (batches, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches, s.bytes
}

// err returns what the gateway sent that it should not have.
func (s *subscriber) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) > 3 {
		return errors.Join(append(s.errs[:3:3], fmt.Errorf("and %d more", len(s.errs)-3))...)
	}
	return errors.Join(s.errs...)
}
