package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// MetricsOptions is what a Metrics needs.
type MetricsOptions struct {
	Listen   string
	Gatherer prometheus.Gatherer
	// Alive returns nil while the daemon's loops turn; a restart cures what it
	// returns otherwise.
	Alive func() error
	// Ready returns nil when the gateway does all it is configured to do, and
	// otherwise what is missing.
	Ready func() error
	Log   *slog.Logger
	// Bound, if set, is told the address once it is open.
	Bound func(net.Addr)
}

// Metrics serves /metrics, /healthz and /readyz on a listener of its own.
type Metrics struct {
	o MetricsOptions
}

// NewMetrics returns a server that opens its listener in Run.
func NewMetrics(o MetricsOptions) (*Metrics, error) {
	if o.Listen == "" || o.Gatherer == nil || o.Alive == nil || o.Ready == nil || o.Log == nil {
		return nil, errors.New("metrics: Listen, Gatherer, Alive, Ready and Log are required")
	}
	return &Metrics{o: o}, nil
}

// retryListen is the pause before a taken port is tried again.
const retryListen = 10 * time.Second

// Run serves until ctx ends. A port that cannot be opened is one line in the
// log, then tried again: nothing else of the gateway waits for it.
func (m *Metrics) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.o.Gatherer, promhttp.HandlerOpts{}))
	mux.Handle("GET /healthz", verdict(m.o.Alive, "ok"))
	mux.Handle("GET /readyz", verdict(m.o.Ready, "ready"))
	for failing := false; ; {
		ln, err := net.Listen("tcp", m.o.Listen)
		if err == nil {
			if m.o.Bound != nil {
				m.o.Bound(ln.Addr())
			}
			m.o.Log.Info("metrics and health are served", "addr", ln.Addr().String())
			return serve(ctx, ln, mux)
		}
		if !failing {
			failing = true
			m.o.Log.Error("metrics cannot be served; the gateway works on without them and tries again", "err", err,
				"hint", "another program has the port: find it with `ss -ltnp`, or change metrics.listen")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryListen):
		}
	}
}

// verdict answers with good, or 503 and what is wrong.
func verdict(check func() error, good string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, good)
	})
}

// serve answers on ln until ctx ends, with limits no slow or huge client can
// get around.
func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stopped := make(chan struct{})
	running := context.AfterFunc(ctx, func() {
		defer close(stopped)
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(short) // a client that lingers is cut off below
		_ = srv.Close()
	})
	err := srv.Serve(ln)
	if running() {
		return err
	}
	<-stopped
	return nil
}
