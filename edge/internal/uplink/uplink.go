// Package uplink sends records to the cloud over MQTT and lets go of them only
// on the cloud's own word.
//
// It guarantees: records of a lane are published in order of their sequence,
// again and again until the cloud acks them; only an ack that names this
// gateway, this epoch and a batch that is under way moves a lane; each lane has
// its own sender, so an alarm waits for no telemetry, and a record that cannot
// be sent stops no other lane; a cloud that is away costs nothing but the wait;
// a store that was rolled back is noticed as far as an ack shows it, and its
// records are sent under a new epoch rather than taken for others. It keeps no
// record itself: what is not acked is read from the store again.
package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/protocol/wire"
)

// Lanes is where the records wait.
type Lanes interface {
	Lane(wire.Lane) Outbox
}

// Outbox is one lane of the store. It is an alias so that a store need not
// import this package.
type Outbox = interface {
	Epoch() string
	// Position returns the last acked and the last committed sequence number.
	Position() (acked, head uint64)
	// Next returns records that follow after, in order and without a hole that
	// no gap record declares: about maxBytes of them, at least one if there is one.
	Next(after uint64, maxBytes int) ([]wire.Record, error)
	// Wait returns when there is a record beyond after.
	Wait(ctx context.Context, after uint64) error
	// Acked notes that the cloud has everything up to upTo.
	Acked(from, upTo uint64) error
}

// Options of an Uplink. Gateway, Broker and Lanes are required.
type Options struct {
	Gateway     string
	Broker      string // mqtt://host:port or mqtts://host:port
	Secret      string
	CAFile      string // who vouches for the broker; empty: the system's authorities
	Lanes       Lanes
	Log         *slog.Logger
	Registerer  prometheus.Registerer // nil: no metrics
	Now         func() time.Time      // dates State
	VerifyTime  func() time.Time      // certificates are checked at this time; default Now
	OnCloudTime func(time.Time)       // told the cloud's clock at each ack
	// OnRolledBack is told once of a lane that the cloud knows further on than
	// the store does: the store was rolled back, or another gateway has a copy.
	OnRolledBack func(wire.Lane)

	Window      int           // batches of a lane under way at once; default 4
	BatchBytes  int           // of records in one batch, before compression; default 64 KiB, at most 256 KiB
	ResendAfter time.Duration // without an ack; doubled each time up to a minute; default 5 s
	KeepAlive   time.Duration // default 10 s: a dead link is noticed within 25 s
	MinBackoff  time.Duration // between attempts to connect it is an eighth of the outage so far, at least this; default 500 ms
	MaxBackoff  time.Duration // and at most this; default 60 s
}

const maxBatchBytes = 256 << 10

// Uplink is one gateway's connection to its cloud.
type Uplink struct {
	opt     Options
	broker  *url.URL
	tls     *tls.Config // nil for mqtt://
	encoder *zstd.Encoder
	metrics *metrics
	senders []*sender
	refusal gate

	mu    sync.Mutex // guards state
	state State
}

// State is what a person wants to know of the uplink.
type State struct {
	Connected bool
	Since     time.Time // of the last change
	Err       string    // why it is not connected
}

// New checks o and loads the CA. It opens no connection.
func New(o Options) (*Uplink, error) {
	broker, err := url.Parse(o.Broker)
	switch {
	case !wire.ValidGatewayID(o.Gateway):
		return nil, fmt.Errorf("uplink: gateway id %q: want 1 to 64 of A-Z a-z 0-9 _ -", o.Gateway)
	case o.Lanes == nil:
		return nil, errors.New("uplink: no lanes given")
	case err != nil:
		return nil, fmt.Errorf("uplink: broker: %w", err)
	case broker.Scheme != "mqtt" && broker.Scheme != "mqtts" || broker.Hostname() == "":
		return nil, fmt.Errorf("uplink: broker %q: want mqtt://host:port or mqtts://host:port", broker.Redacted())
	}
	o = o.withDefaults()
	u := &Uplink{opt: o, broker: withPort(broker), state: State{Since: o.Now(), Err: "not connected yet"}}
	if broker.Scheme == "mqtts" {
		if u.tls, err = tlsConfig(broker.Hostname(), o); err != nil {
			return nil, err
		}
	}
	u.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(64<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("uplink: zstd: %w", err)
	}
	for _, lane := range wire.Lanes {
		u.senders = append(u.senders, newSender(u, lane, o.Lanes.Lane(lane)))
	}
	if u.metrics, err = newMetrics(o.Registerer, u); err != nil {
		return nil, fmt.Errorf("uplink: %w", err)
	}
	return u, nil
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.VerifyTime == nil {
		o.VerifyTime = o.Now
	}
	if o.OnRolledBack == nil {
		o.OnRolledBack = func(wire.Lane) {}
	}
	if o.OnCloudTime == nil {
		o.OnCloudTime = func(time.Time) {}
	}
	o.Window = defaultTo(o.Window, 4)
	o.BatchBytes = min(defaultTo(o.BatchBytes, 64<<10), maxBatchBytes)
	o.ResendAfter = defaultTo(o.ResendAfter, 5*time.Second)
	o.KeepAlive = max(defaultTo(o.KeepAlive, 10*time.Second), time.Second)
	o.MinBackoff = defaultTo(o.MinBackoff, 500*time.Millisecond)
	o.MaxBackoff = max(defaultTo(o.MaxBackoff, time.Minute), o.MinBackoff)
	return o
}

func defaultTo[T int | time.Duration](v, fallback T) T {
	if v <= 0 {
		return fallback
	}
	return v
}

func withPort(u *url.URL) *url.URL {
	v := *u
	v.User = nil // the secret comes from its file
	if v.Port() == "" {
		v.Host = net.JoinHostPort(v.Hostname(), map[string]string{"mqtt": "1883", "mqtts": "8883"}[v.Scheme])
	}
	return &v
}

func tlsConfig(server string, o Options) (*tls.Config, error) {
	c := &tls.Config{ServerName: server, MinVersion: tls.VersionTLS12, Time: o.VerifyTime}
	if o.CAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("uplink: read the CA (check cloud.ca_file): %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("uplink: %s holds no certificate (want PEM; check cloud.ca_file)", o.CAFile)
	}
	return c, nil
}

// State returns how the uplink does.
func (u *Uplink) State() State {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// setState reports whether err is news.
func (u *Uplink) setState(connected bool, err error) (news bool) {
	s := State{Connected: connected, Since: u.opt.Now()}
	if err != nil {
		s.Err = err.Error()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.Connected == u.state.Connected && s.Err == u.state.Err {
		return false
	}
	u.state = s
	return true
}

// encode returns the payload of b. raw is room for what is compressed, used
// again by the caller's next batch.
func (u *Uplink) encode(b wire.Batch, raw *[]byte) ([]byte, error) {
	plain, err := b.Append((*raw)[:0])
	*raw = plain
	if err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	p := u.encoder.EncodeAll(plain, make([]byte, 0, len(plain)/2))
	if len(p) > wire.MaxPayload {
		return nil, fmt.Errorf("batch of %d bytes, at most %d", len(p), wire.MaxPayload)
	}
	return p, nil
}
