// Package api is what platforms pull from: GET /v1/events.
//
// It guarantees: nothing is served without a valid token, and nothing outside
// the token's scope and kinds; a page and its cursor fit together, so that a
// client that stores the cursor with the page neither misses nor repeats an
// event; every refusal is problem+json and names the parameter at fault; a
// slow or greedy client costs bounded memory and time.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/cloud/internal/eventlog"
	"gatehouse/cloud/internal/fleet"
)

// Log is where events come from.
type Log interface {
	// Read returns up to limit entries after the cursor, and the next cursor.
	Read(ctx context.Context, f eventlog.Filter, c eventlog.Cursor, limit int) ([]eventlog.Entry, eventlog.Cursor, error)
	// Since returns the cursor before the first entry received at t or later.
	Since(ctx context.Context, f eventlog.Filter, t time.Time) (eventlog.Cursor, error)
	// Watch returns a channel that wakes on news for f, until stop is called.
	Watch(f eventlog.Filter) (news <-chan struct{}, stop func())
}

// Tokens knows the bearers.
type Tokens interface {
	// Token returns what a bearer may read, or fleet.ErrToken.
	Token(bearer string) (fleet.Token, error)
}

// Options say what to serve.
type Options struct {
	Log        Log          // required
	Tokens     Tokens       // required
	Logger     *slog.Logger // required
	Registerer prometheus.Registerer
	// Stopping ends waiting requests when it is done; nil for never.
	Stopping context.Context
}

// API serves the pull API.
type API struct {
	opt      Options
	requests *prometheus.CounterVec
	events   prometheus.Counter
	waiting  prometheus.Gauge

	mu     sync.Mutex     // guards active
	active map[string]int // requests under way by token id
}

// maxActive is how many requests of one token may be under way, the waiting
// ones included. Each may hold a page in memory until its client took it.
const maxActive = 8

// enter counts a request of the token in, if there is room for it.
func (a *API) enter(token string) (leave func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.active[token] >= maxActive {
		return nil, false
	}
	a.active[token]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.active[token]--; a.active[token] == 0 {
			delete(a.active, token)
		}
	}, true
}

// New returns the API.
func New(o Options) (*API, error) {
	if o.Log == nil || o.Tokens == nil || o.Logger == nil {
		return nil, errors.New("api: Log, Tokens and Logger are required")
	}
	if o.Stopping == nil {
		o.Stopping = context.Background()
	}
	a := &API{
		opt: o, active: map[string]int{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_api_requests_total", Help: "Pull requests by status.",
		}, []string{"status"}),
		events:  prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_api_events_total", Help: "Events handed to platforms."}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "gatehouse_api_waiting", Help: "Pull requests that wait for news."}),
	}
	if o.Registerer != nil {
		for _, c := range []prometheus.Collector{a.requests, a.events, a.waiting} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("api: metrics: %w", err)
			}
		}
	}
	return a, nil
}

// Handler returns the routes.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", a.getEvents)
	mux.HandleFunc("/v1/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, HEAD")
		a.refuse(w, problem{Status: http.StatusMethodNotAllowed, Title: "events are only read", Detail: r.Method, Hint: "use GET"})
	})
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, problem{Status: http.StatusNotFound, Title: "no such resource", Hint: "the resource is GET /v1/events"})
	})
	return mux
}

// bearer returns the token the request shows.
func (a *API) bearer(r *http.Request) (fleet.Token, error) {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return fleet.Token{}, fleet.ErrToken
	}
	return a.opt.Tokens.Token(strings.TrimSpace(value))
}
