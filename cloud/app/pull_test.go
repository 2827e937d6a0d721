package app

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// stocked returns a service with twelve alarm steps, one telemetry record, a
// note, a gap and a kind from the future.
func stocked(t *testing.T) *service {
	t.Helper()
	s := startService(t, t.TempDir())
	b := connect(t, s.MQTT, "gw-1", addGateway(t, s.data, "gw-1"))
	b.send(alarms(t, "gw-1", "e1", 1, 12))
	b.ack()
	at := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	b.send(single(t, wire.LaneTelemetry, 1, wire.KindTelemetry, wire.Telemetry{
		Device: "septic-1", Rows: []time.Time{at, at.Add(2 * time.Second), at.Add(4 * time.Second)},
		Columns: []wire.Column{
			{Point: "ch4", Unit: point.PercentLEL, Role: "septic_methane", Kind: point.Number, Nums: []float64{0.5, 1.25, 3}},
			{Point: "door", Role: "door_contact", Kind: point.Bool, Rows: []uint32{1}, Nums: []float64{1}, Qualities: []point.Quality{point.Stale}},
			{Point: "state", Role: "detector_state", Kind: point.State, Nums: []float64{1, 1, 2}, Texts: []string{"ok", "ok", "alarm"}},
		},
	}.Encode))
	b.ack()
	b.send(single(t, wire.LaneEvent, 1, wire.KindGatewayStarted, wire.Note{Text: "started", Attrs: map[string]string{"version": "1"}}.Encode))
	b.ack()
	b.send(single(t, wire.LaneEvent, 5, wire.KindGap, wire.Gap{First: 2, Last: 5, Reason: "spool full"}.Encode))
	b.ack()
	b.send(single(t, wire.LaneEvent, 6, "future.kind", func() ([]byte, error) { return []byte{0, 0xff}, nil }))
	b.ack()
	return s
}

func single(t *testing.T, lane wire.Lane, seq uint64, kind string, encode func() ([]byte, error)) wire.Batch {
	t.Helper()
	body, err := encode()
	if err != nil {
		t.Fatal(err)
	}
	return wire.Batch{Version: wire.Version, Gateway: "gw-1", Epoch: "e1", Lane: lane, Records: []wire.Record{
		{ID: wire.NewEventID(), Lane: lane, Seq: seq, Kind: kind, Time: time.Now(), Body: body},
	}}
}

func TestEveryKindHasItsShape(t *testing.T) {
	s := stocked(t)
	bearer := createToken(t, s.data, "53", "*")
	shapes := map[string]string{}
	for _, e := range s.pull(bearer, "", 1000) {
		data, err := json.Marshal(e["data"])
		if err != nil {
			t.Fatal(err)
		}
		shapes[e["type"].(string)] = string(data)
		if e["type"] == "future.kind" && e["data_base64"] != base64.StdEncoding.EncodeToString([]byte{0, 0xff}) {
			t.Errorf("future kind: %v", e)
		}
	}
	for kind, want := range map[string]string{
		"telemetry.readings": `{"columns":[` +
			`{"point":"septic-1/ch4","role":"septic_methane","unit":"%LEL","values":[0.5,1.25,3]},` +
			`{"point":"septic-1/door","qualities":[null,"stale",null],"role":"door_contact","unit":"","values":[null,true,null]},` +
			`{"point":"septic-1/state","role":"detector_state","unit":"","values":["ok","ok","alarm"]}],` +
			`"device":"septic-1","rows":["2026-11-01T16:00:00+08:00","2026-11-01T16:00:02+08:00","2026-11-01T16:00:04+08:00"]}`,
		"gateway.started": `{"attrs":{"version":"1"},"text":"started"}`,
		"gap":             `{"first":2,"lane":"event","last":5,"reason":"spool full"}`,
		"future.kind":     `null`,
	} {
		if shapes[kind] != want {
			t.Errorf("%s:\n%s\nwant\n%s", kind, shapes[kind], want)
		}
	}
}

func TestTokenScopeMatrix(t *testing.T) {
	s := stocked(t) // everything happened in 530102001003
	for _, c := range []struct {
		tokenScope, tokenKinds string
		query                  string
		status, events         int
	}{
		{"53", "alarm", "", 200, 12},
		{"53", "alarm", "scope=53", 200, 12},
		{"53", "alarm", "scope=530102001003", 200, 12},
		{"53", "alarm", "scope=530102001004", 200, 0},
		{"53", "alarm", "scope=530103", 200, 0},
		{"530102001003", "alarm", "", 200, 12},
		{"530102001004", "alarm", "", 200, 0},
		{"44", "*", "", 200, 0},
		{"44", "*", "scope=53", 403, 0},
		{"5301", "*", "scope=53", 403, 0},
		{"5301", "*", "scope=5302", 403, 0},
		{"53", "*", "", 200, 16},
		{"53", "*", "kind=alarm.raised", 200, 4},
		{"53", "*", "kind=alarm.raised,alarm.cleared", 200, 8},
		{"53", "*", "kind=alarm", 200, 12},
		{"53", "*", "kind=telemetry", 200, 1},
		{"53", "*", "kind=gateway", 200, 2}, // and the gap in its lane
		{"53", "*", "kind=gap", 200, 1},
		{"53", "*", "kind=alar", 200, 0},
		{"53", "alarm.raised", "", 200, 4},
		{"53", "alarm.raised", "kind=alarm.raised", 200, 4},
		{"53", "alarm.raised", "kind=alarm", 403, 0},
		{"53", "alarm.raised", "kind=alarm.cleared", 403, 0},
		{"53", "alarm", "kind=alarms", 403, 0},
		{"53", "alarm", "kind=telemetry", 403, 0},
		{"53", "alarm", "drill=true", 200, 3},
		{"53", "alarm", "drill=false", 200, 9},
		{"53", "alarm", "kind=alarm.raised&drill=true", 200, 1},
		{"53", "*", "since=2099-01-01T00:00:00Z", 200, 0},
		{"53", "*", "since=2020-01-01T00:00:00%2B08:00", 200, 16},
	} {
		bearer := createToken(t, s.data, c.tokenScope, strings.Split(c.tokenKinds, ",")...)
		if p := s.get(bearer, "limit=1000&"+c.query); p.status != c.status || len(p.events) != c.events {
			t.Errorf("token %s %s, %q: %d with %d events, want %d with %d: %.200s", c.tokenScope, c.tokenKinds, c.query, p.status, len(p.events), c.status, c.events, p.body)
		}
	}
}

func TestPagesOfEverySizeAreTheSameEvents(t *testing.T) {
	s := stocked(t)
	bearer := createToken(t, s.data, "53", "*")
	whole := s.pull(bearer, "", 1000)
	for limit := 1; limit <= len(whole)+1; limit++ {
		pieces := s.pull(bearer, "", limit)
		if fmt.Sprint(pieces) != fmt.Sprint(whole) {
			t.Fatalf("limit %d: %d events, want %d", limit, len(pieces), len(whole))
		}
	}
}

func TestRefusalsNameWhatIsWrong(t *testing.T) {
	s := stocked(t)
	bearer := createToken(t, s.data, "53", "*")
	cursor := s.get(bearer, "kind=alarm").cursor
	for _, c := range []struct {
		bearer, query string
		status        int
		param         string
	}{
		{"", "", 401, ""},
		{"x", "", 401, ""},
		{bearer + "x", "", 401, ""},
		{strings.Split(bearer, ".")[0], "", 401, ""},
		{strings.Split(bearer, ".")[0] + ".", "", 401, ""},
		{bearer, "limit=0", 400, "limit"},
		{bearer, "limit=1001", 400, "limit"},
		{bearer, "limit=ten", 400, "limit"},
		{bearer, "wait=61", 400, "wait"},
		{bearer, "wait=-1s", 400, "wait"},
		{bearer, "wait=9999999999999h", 400, "wait"},
		{bearer, "scope=5", 400, "scope"},
		{bearer, "scope=5301020010031", 400, "scope"},
		{bearer, "scope=5*", 400, "scope"},
		{bearer, "kind=", 200, ""},
		{bearer, "kind=alarm.*", 400, "kind"},
		{bearer, "kind=%3E", 400, "kind"},
		{bearer, "kind=alarm,", 400, "kind"},
		{bearer, "kind=" + strings.Repeat("a,", 20) + "a", 400, "kind"},
		{bearer, "since=yesterday", 400, "since"},
		{bearer, "drill=maybe", 400, "drill"},
		{bearer, "cursor=x", 400, "cursor"},
		{bearer, "cursor=" + cursor, 400, "cursor"}, // made with kind=alarm
		{bearer, "cursor=" + cursor + "&kind=alarm", 200, ""},
		{bearer, "cursor=" + cursor + "&kind=alarm&drill=true", 400, "cursor"},
		{bearer, "page=2", 400, "page"},
		{bearer, "limit=1&limit=2", 400, "limit"},
		{bearer, "kind=alarm.raised%", 400, ""},
		{bearer, "kind=alarm.raised;limit=3", 400, ""},
		{bearer, "limit=3&drill=true;x", 400, ""},
	} {
		p := s.get(c.bearer, c.query)
		if p.status != c.status {
			t.Errorf("%q: status %d, want %d: %.200s", c.query, p.status, c.status, p.body)
		}
		if p.status == http.StatusOK {
			continue
		}
		var problem struct {
			Title, Param, Hint string
			Status             int
		}
		if err := json.Unmarshal([]byte(p.body), &problem); err != nil || p.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q: %v: %s", c.query, err, p.body)
		}
		if problem.Param != c.param || problem.Hint == "" || problem.Title == "" || problem.Status != c.status {
			t.Errorf("%q: %s", c.query, p.body)
		}
	}
}

func TestLongPollWakesAtOnce(t *testing.T) {
	s := startService(t, t.TempDir())
	b := connect(t, s.MQTT, "gw-1", addGateway(t, s.data, "gw-1"))
	bearer := createToken(t, s.data, "5301", "alarm")
	cursor := ""
	var late []time.Duration
	for seq := uint64(1); seq <= 5; seq++ {
		answered := make(chan page, 1)
		go func() { answered <- s.get(bearer, "wait=30s&cursor="+url.QueryEscape(cursor)) }()
		await(t, "the reader to wait", func() bool { return s.metric("gatehouse_api_waiting") == "1" })
		b.send(alarms(t, "gw-1", "e1", seq, seq))
		b.ack()
		acked := time.Now()
		p := <-answered
		late = append(late, time.Since(acked))
		if len(p.events) != 1 || p.events[0]["seq"] != float64(seq) {
			t.Fatalf("sequence %d: %s", seq, p.body)
		}
		cursor = p.cursor
	}
	slices.Sort(late)
	if median := late[len(late)/2]; median > 200*time.Millisecond {
		t.Errorf("answered %s after the ack: %v", median, late)
	}
	t.Logf("answered after the ack: %v", late)
	start := time.Now()
	p := s.get(bearer, "wait=100ms&cursor="+url.QueryEscape(cursor))
	if took := time.Since(start); took < 100*time.Millisecond || len(p.events) != 0 || p.cursor == "" {
		t.Errorf("without news: %s, %+v", took, p)
	}
}

func TestOneTokenCannotTakeAllConnections(t *testing.T) {
	s := startService(t, t.TempDir())
	greedy, other := createToken(t, s.data, "53", "*"), createToken(t, s.data, "53", "*")
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() { s.get(greedy, "wait=60") })
	}
	await(t, "all to wait", func() bool { return s.metric("gatehouse_api_waiting") == "8" })
	if p := s.get(greedy, ""); p.status != http.StatusTooManyRequests || p.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", p.status, p.body)
	}
	if p := s.get(other, ""); p.status != http.StatusOK {
		t.Errorf("another token: %d %s", p.status, p.body)
	}
	if err := s.stop(); err != nil { // which ends the waiting
		t.Error(err)
	}
	readers.Wait()
}

func TestHugeRequestIsCutOff(t *testing.T) {
	s := startService(t, t.TempDir())
	resp, err := http.Get("http://" + s.HTTP + "/v1/events?cursor=" + strings.Repeat("a", 1<<20))
	if err != nil {
		return // the connection was reset while the request was still coming
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestSlowRequestIsCutOff(t *testing.T) {
	t.Parallel() // it waits for the header timeout
	s := startService(t, t.TempDir())
	c, err := net.Dial("tcp", s.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(3 * headerTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a request without an end keeps its connection")
	}
}

func TestEventsAreOnlyRead(t *testing.T) {
	s := startService(t, t.TempDir())
	resp, err := http.Post("http://"+s.HTTP+"/v1/events", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
}
