package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestMetricsAreForThisHostOnly(t *testing.T) {
	h := routes(http.NotFoundHandler(), newRegistry(), func() error { return nil })
	for _, c := range []struct {
		path, peer, header string
		want               int
	}{
		{"/metrics", "127.0.0.1:4711", "", http.StatusOK},
		{"/metrics", "[::1]:4711", "", http.StatusOK},
		{"/metrics", "[::ffff:127.0.0.1]:4711", "", http.StatusOK},
		{"/metrics", "192.0.2.7:4711", "", http.StatusForbidden},
		{"/metrics", "[2001:db8::7]:4711", "", http.StatusForbidden},
		{"/metrics", "127.0.0.1:4711", "X-Forwarded-For", http.StatusForbidden}, // a proxy on this host asks for somebody
		{"/healthz", "192.0.2.7:4711", "", http.StatusOK},
		{"/readyz", "192.0.2.7:4711", "X-Forwarded-For", http.StatusOK},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.RemoteAddr = c.peer
		if c.header != "" {
			r.Header.Set(c.header, "192.0.2.7")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want || c.want == http.StatusForbidden && !strings.Contains(w.Body.String(), "--metrics") {
			t.Errorf("%s for %s %s: %d %s", c.path, c.peer, c.header, w.Code, w.Body)
		}
	}
}

func TestMetricsListenerServesNothingElse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan Addrs, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			Data: t.TempDir(), HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0",
			Log: slog.New(slog.DiscardHandler), Ready: func(a Addrs) { ready <- a },
		})
	}()
	var addrs Addrs
	select {
	case addrs = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/metrics": http.StatusOK, "/v1/events": http.StatusNotFound} {
		resp, err := http.Get("http://" + addrs.Metrics + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want || want == http.StatusOK && !strings.Contains(string(body), "gatehouse_gateways ") {
			t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestCloseWaitsForHandlers(t *testing.T) {
	entered, finished := make(chan struct{}), make(chan struct{})
	s, err := listen("127.0.0.1:0", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done() // Shutdown gave up on it and closed its connection
		tick := time.NewTimer(100 * time.Millisecond)
		<-tick.C
		close(finished)
	}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := http.Get("http://" + s.addr); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	s.close()
	select {
	case <-finished:
	default:
		t.Error("closed while a handler runs")
	}
	<-gone
}
