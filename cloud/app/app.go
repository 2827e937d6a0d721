// Package app puts the service together: one straight line from the data
// directory to the listeners, undone backwards.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/cloud/internal/api"
	"gatehouse/cloud/internal/broker"
	"gatehouse/cloud/internal/control"
	"gatehouse/cloud/internal/eventlog"
	"gatehouse/cloud/internal/fleet"
	"gatehouse/cloud/internal/ingest"
)

// Addrs are the addresses the service really listens on.
type Addrs struct {
	HTTP    string
	MQTT    string
	Metrics string // empty if metrics have no listener of their own
}

// Options say what to run.
type Options struct {
	Data           string // data directory
	HTTPAddr       string // host:port; port 0 for any
	MQTTAddr       string // host:port; port 0 for any
	MetricsAddr    string // host:port of a listener for metrics alone; may be empty
	AllowPlaintext bool   // listen beyond loopback without TLS
	Log            *slog.Logger
	Ready          func(Addrs) // called once everything serves; may be nil
}

// stepTimeout bounds each step of the start that talks to the broker. Opening a
// large log after a crash takes minutes, and giving up would start it again.
const stepTimeout = 5 * time.Minute

func (o Options) validate() error {
	if o.Data == "" || o.HTTPAddr == "" || o.MQTTAddr == "" || o.Log == nil {
		return errors.New("data directory, HTTP and MQTT address are required (hint: --data, --http, --mqtt, or --config)")
	}
	if _, _, err := net.SplitHostPort(o.MetricsAddr); o.MetricsAddr != "" && err != nil {
		return fmt.Errorf("metrics address %q: %w (hint: host:port, as in 127.0.0.1:9100)", o.MetricsAddr, err)
	}
	for name, addr := range map[string]string{"http": o.HTTPAddr, "mqtt": o.MQTTAddr} {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return fmt.Errorf("%s address %q: %w (hint: host:port, as in 127.0.0.1:1883)", name, addr, err)
		}
		if ip := net.ParseIP(host); !o.AllowPlaintext && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("%s address %q is beyond loopback, where tokens and secrets would travel in plain text "+
				"(hint: listen on 127.0.0.1 behind a TLS proxy, or accept it with --allow-plaintext)", name, addr)
		}
	}
	return nil
}

// Run runs the service until ctx ends; then it stops what it started, last
// first, and returns nil.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	var stop stack
	defer stop.unwind()
	metrics := newRegistry()

	b, err := broker.Start(ctx, broker.Options{Dir: o.Data, MQTTAddr: o.MQTTAddr, Log: o.Log.With("part", "broker")})
	if err != nil {
		return err
	}
	stop.push(b.Close)

	registryConn, err := b.Connect("fleet")
	if err != nil {
		return err
	}
	stop.push(registryConn.Close)
	registry, err := step(ctx, func(ctx context.Context) (*fleet.Registry, error) {
		return fleet.Open(ctx, fleet.Options{Conn: registryConn, Log: o.Log.With("part", "fleet")})
	})
	if err != nil {
		return err
	}
	stop.push(background(ctx, registry.KeepSeen))

	logConn, err := b.Connect("eventlog")
	if err != nil {
		return err
	}
	stop.push(logConn.Close)
	events, err := step(ctx, func(ctx context.Context) (*eventlog.Log, error) {
		return eventlog.Open(ctx, eventlog.Options{Conn: logConn, Log: o.Log.With("part", "eventlog"), Room: b.Room(), Registerer: metrics})
	})
	if err != nil {
		return err
	}
	stop.push(events.Close)

	ingestConn, err := b.Connect("ingest")
	if err != nil {
		return err
	}
	stop.push(ingestConn.Close)
	in, err := ingest.Start(ctx, ingest.Options{
		Conn: ingestConn, Log: events, Fleet: registry, Logger: o.Log.With("part", "ingest"), Registerer: metrics,
	})
	if err != nil {
		return err
	}
	stop.push(in.Close)

	stopping, endWaiting := context.WithCancel(context.WithoutCancel(ctx))
	pull, err := api.New(api.Options{
		Log: events, Tokens: registry, Logger: o.Log.With("part", "api"), Registerer: metrics, Stopping: stopping,
	})
	if err != nil {
		endWaiting()
		return err
	}
	watchFleet(metrics, registry, b)
	h := health{data: o.Data, broker: b, events: events}
	web, err := listen(o.HTTPAddr, routes(pull.Handler(), metrics, h.ready), o.Log.With("part", "http"))
	if err != nil {
		endWaiting()
		return err
	}
	stop.push(web.close)
	stop.push(endWaiting)
	addrs := Addrs{HTTP: web.addr, MQTT: b.MQTTAddr()}
	if o.MetricsAddr != "" {
		own, err := listen(o.MetricsAddr, metricRoutes(metrics), o.Log.With("part", "metrics"))
		if err != nil {
			return err
		}
		stop.push(own.close)
		addrs.Metrics = own.addr
	}

	// Only now gateways get in: nothing they send can find nobody to take it.
	if _, err := step(ctx, func(ctx context.Context) (any, error) { return nil, b.Authorize(ctx, registry) }); err != nil {
		return err
	}
	ctl, err := control.Listen(filepath.Join(o.Data, control.SocketName), registry, o.Log.With("part", "control"))
	if err != nil {
		return err
	}
	stop.push(ctl.Close)

	stuck := make(chan error, 1)
	stop.push(background(ctx, func(ctx context.Context) { h.watch(ctx, stuck) }))

	o.Log.Info("ready", "http", addrs.HTTP, "mqtt", addrs.MQTT, "gateways", registry.Len())
	notifySystemd("READY=1")
	if o.Ready != nil {
		o.Ready(addrs)
	}
	select {
	case <-ctx.Done():
		o.Log.Info("stopping")
		notifySystemd("STOPPING=1")
		return nil
	case err := <-web.failed:
		return fmt.Errorf("HTTP server: %w", err)
	case err := <-stuck:
		return err
	}
}

// step gives one step of the start a time of its own.
func step[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return do(ctx)
}

// background runs f until the returned function is called, which waits for it.
func background(ctx context.Context, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// stack holds what is to be undone, last first.
type stack []func()

func (s *stack) push(f func()) { *s = append(*s, f) }

func (s *stack) unwind() {
	for i := len(*s) - 1; i >= 0; i-- {
		(*s)[i]()
	}
}

// watchFleet publishes how many gateways there are and how many are connected.
func watchFleet(r prometheus.Registerer, registry *fleet.Registry, b *broker.Broker) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gatehouse_gateways", Help: "Gateways registered."},
			func() float64 { return float64(registry.Len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gatehouse_gateways_online", Help: "Gateways connected now."},
			func() float64 { return float64(b.Online()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "gatehouse_gateway_logins_refused_total", Help: "Logins refused: unknown id, wrong secret or foreign client id."},
			func() float64 { return float64(b.Refused()) }),
	)
}
