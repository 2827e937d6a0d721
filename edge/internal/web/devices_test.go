package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/edge/internal/bus"
)

// site is a breaker on a bus.
type site struct {
	ordered []string
	fails   error
}

func (s *site) Buses() []BusView {
	return []BusView{{ID: "east", Link: "serial:/dev/ttyS1", Up: true, Budget: 1.3, Warning: "does not fit", Hint: "poll less often"}}
}

func (s *site) Trace(ctx context.Context, id string, after uint64) ([]bus.Frame, error) {
	switch {
	case id != "east":
		return nil, ErrUnknown
	case after > 0:
		<-ctx.Done() // nothing more goes by
		return nil, ctx.Err()
	}
	return []bus.Frame{{Seq: 1, At: time.Now(), Device: "qf-1", Sent: true, Bytes: []byte{1, 0xAB}, Hidden: 6}}, nil
}

func (s *site) Commands(device string) ([]string, error) {
	if device != "qf-1" {
		return nil, ErrUnknown
	}
	return []string{"close", "open"}, nil
}

func (s *site) Command(_ context.Context, device, name, actor string) error {
	if _, err := s.Commands(device); err != nil {
		return err
	}
	if name != "close" {
		return fmt.Errorf("command: %w", bus.ErrNoCommand)
	}
	s.ordered = append(s.ordered, device+" "+name+" "+actor)
	return s.fails
}

// fieldClient serves a control socket over s.
func fieldClient(t *testing.T, s *site) *http.Client {
	t.Helper()
	client, _ := servingOptions(t, ControlOptions{Fieldwork: s})
	return client
}

func call(t *testing.T, c *http.Client, method, path, body string, into any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://gatehouse"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode
}

func TestATraceShowsFramesAndHidesWhatItMust(t *testing.T) {
	c := fieldClient(t, &site{})
	var frames []FrameView
	if status := call(t, c, "GET", "/v1/buses/east/trace", "", &frames); status != http.StatusOK || len(frames) != 1 {
		t.Fatalf("status %d, %d frames", status, len(frames))
	}
	if f := frames[0]; f.Dir != "tx" || f.Bytes != "01AB" || f.Hidden != 6 || f.Device != "qf-1" {
		t.Errorf("frame %+v", f)
	}
	if status := call(t, c, "GET", "/v1/buses/east/trace?after=1", "", &frames); status != http.StatusOK || len(frames) != 0 {
		t.Errorf("a quiet line: status %d, %d frames; want none", status, len(frames))
	}
	for path, want := range map[string]int{"/v1/buses/west/trace": http.StatusNotFound, "/v1/buses/east/trace?after=-1": http.StatusBadRequest} {
		var f Failure
		if status := call(t, c, "GET", path, "", &f); status != want || f.Error == "" {
			t.Errorf("%s: status %d, %+v; want %d", path, status, f, want)
		}
	}
}

func TestAnOrderNeedsANameAndGoesOutOnce(t *testing.T) {
	s := &site{}
	c := fieldClient(t, s)
	const path = "/v1/devices/qf-1/commands"
	var names []string
	if status := call(t, c, "GET", path, "", &names); status != http.StatusOK || len(names) != 2 {
		t.Errorf("status %d, %v", status, names)
	}
	var f Failure
	for body, want := range map[string]int{`{"actor":""}`: http.StatusBadRequest, `{"actor":"\u001b[2J"}`: http.StatusBadRequest, `{`: http.StatusBadRequest} {
		if status := call(t, c, "POST", path+"/close", body, &f); status != want {
			t.Errorf("%s: status %d, want %d", body, status, want)
		}
	}
	for path, want := range map[string]int{"/v1/devices/qf-2/commands/close": 404, "/v1/devices/qf-1/commands/explode": 404} {
		if status := call(t, c, "POST", path, `{"actor":"老王"}`, &f); status != want || f.Hint == "" {
			t.Errorf("%s: status %d, %+v", path, status, f)
		}
	}
	if len(s.ordered) > 0 {
		t.Fatalf("sent: %v", s.ordered)
	}
	var done CommandView
	if status := call(t, c, "POST", path+"/close", `{"actor":"老王"}`, &done); status != http.StatusOK || done.By != "老王" {
		t.Errorf("status %d, %+v", status, done)
	}
	if len(s.ordered) != 1 || s.ordered[0] != "qf-1 close 老王" {
		t.Errorf("sent: %v", s.ordered)
	}
}

func TestAnOrderThatFailsSaysWhatIsKnown(t *testing.T) {
	for err, want := range map[error]int{drivers.ErrRefused: http.StatusConflict, drivers.ErrNoReply: http.StatusGatewayTimeout, drivers.ErrNotWritable: http.StatusInternalServerError} {
		c := fieldClient(t, &site{fails: err})
		var f Failure
		if status := call(t, c, "POST", "/v1/devices/qf-1/commands/close", `{"actor":"老王"}`, &f); status != want || !strings.Contains(f.Error, err.Error()) {
			t.Errorf("%v: status %d, %+v; want %d", err, status, f, want)
		}
	}
}
