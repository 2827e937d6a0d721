package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/edge/internal/alarm"
	"gatehouse/edge/internal/rule"
	"gatehouse/edge/internal/table"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// board is a list of alarms that can be acknowledged.
type board struct {
	list []alarm.Alarm
	err  error
}

func (b *board) List() []alarm.Alarm { return b.list }

func (b *board) Acknowledge(id wire.EventID, actor string) (alarm.Alarm, error) {
	for _, a := range b.list {
		if a.ID == id {
			a.AckedBy, a.Acked = actor, time.Now()
			return a, b.err
		}
	}
	return alarm.Alarm{}, alarm.ErrNoAlarm
}

func (b *board) Snapshot() []table.Entry {
	return []table.Entry{{Latest: point.Reading{Point: "det-1/gas", Value: point.Float(3), Quality: point.Stale}}}
}

// serving runs a control socket and returns a client that dials it.
func serving(t *testing.T, b *board) (*http.Client, string) {
	t.Helper()
	info, err := rule.NewCatalogue([]*rule.PointInfo{{ID: "det-1/gas", Unit: point.PercentLEL, Role: "gas"}})
	if err != nil {
		t.Fatal(err)
	}
	return servingOptions(t, ControlOptions{Alarms: b, Points: b, Info: info})
}

func servingOptions(t *testing.T, o ControlOptions) (*http.Client, string) {
	t.Helper()
	o.Path, o.Log = filepath.Join(t.TempDir(), SocketName), silent()
	c, err := ListenControl(o)
	if err != nil {
		t.Fatal(err)
	}
	background(t, c.Run)
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", o.Path)
	}}}, o.Path
}

func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func TestControlSocket(t *testing.T) {
	a := alarm.Alarm{ID: wire.NewEventID(), Priority: 1, Title: "燃气浓度高", Active: true, Raised: time.Now()}
	b := &board{list: []alarm.Alarm{a}}
	client, path := serving(t, b)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode = %v, %v, want 0600", info.Mode(), err)
	}

	var alarms []AlarmView
	get(t, client, "http://x/v1/alarms", &alarms)
	if len(alarms) != 1 || alarms[0].Priority != "P1" || alarms[0].Status != "raised" || alarms[0].Title != "燃气浓度高" {
		t.Errorf("alarms = %+v", alarms)
	}
	var points []PointView
	get(t, client, "http://x/v1/points", &points)
	if len(points) != 1 || points[0].Quality != "stale" || points[0].Unit != "%LEL" || points[0].LastGood != nil {
		t.Errorf("points = %+v", points)
	}

	for _, c := range []struct {
		id, body string
		err      error
		want     int
	}{
		{a.ID.String(), `{"actor":"老王"}`, nil, 200},
		{a.ID.String(), `{"actor":""}`, alarm.ErrNoActor, 400},
		{a.ID.String(), `{"actor":"老王"}`, alarm.ErrNotDurable, 202},
		{a.ID.String(), `not json`, nil, 400},
		{a.ID.String(), `{"actor":"` + strings.Repeat("x", 5000) + `"}`, nil, 400},
		{wire.NewEventID().String(), `{"actor":"老王"}`, nil, 404},
		{"zz", `{}`, nil, 400},
	} {
		b.err = c.err
		resp, err := client.Post("http://x/v1/alarms/"+c.id+"/ack", "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("ack %s %.40s: status %d, want %d", c.id, c.body, resp.StatusCode, c.want)
		}
	}
}

func get(t *testing.T, client *http.Client, url string, out any) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Fatal(err)
	}
}

func TestASecondDaemonOnOneSocketIsRefusedAndADeadOnesSocketReplaced(t *testing.T) {
	_, path := serving(t, &board{})
	if _, err := ListenControl(ControlOptions{Path: path, Log: silent()}); err == nil || !strings.Contains(err.Error(), "another gatehouse") {
		t.Errorf("second daemon: %v", err)
	}
	left := filepath.Join(t.TempDir(), SocketName)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: left})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	c, err := ListenControl(ControlOptions{Path: left, Log: silent()})
	if err != nil {
		t.Fatal(err)
	}
	c.ln.Close()
}

func TestMetricsAndHealth(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_test_total", Help: "x"}))
	missing := errors.New("bus east-485: link down")
	bound := make(chan net.Addr, 1)
	m, err := NewMetrics(MetricsOptions{
		Listen: "127.0.0.1:0", Gatherer: reg, Alive: func() error { return nil }, Ready: func() error { return missing }, Log: silent(), Bound: func(a net.Addr) { bound <- a }})
	if err != nil {
		t.Fatal(err)
	}
	background(t, m.Run)
	base := "http://" + (<-bound).String()
	for _, c := range []struct {
		path string
		code int
		want string
	}{
		{"/metrics", 200, "gatehouse_test_total 0"},
		{"/healthz", 200, "ok"},
		{"/readyz", 503, "bus east-485: link down"},
		{"/else", 404, ""},
	} {
		resp, err := http.Get(base + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.code || !strings.Contains(string(body), c.want) {
			t.Errorf("%s = %d %q", c.path, resp.StatusCode, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestATakenPortIsSaidOnceAndDoesNotEndTheDaemon(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	said := make(chan string, 1)
	m, err := NewMetrics(MetricsOptions{Listen: taken.Addr().String(), Gatherer: prometheus.NewRegistry(), Alive: func() error { return nil }, Ready: func() error { return nil },
		Log: slog.New(slog.NewTextHandler(lines(said), nil))})
	if err != nil {
		t.Fatal(err)
	}
	background(t, m.Run)
	if line := <-said; !strings.Contains(line, "hint=") || !strings.Contains(line, "metrics.listen") {
		t.Errorf("the log says %q, want a hint", line)
	}
}

// lines sends every write to the channel.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}
