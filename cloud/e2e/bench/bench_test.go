package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goburrow/modbus"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

func TestTheResponderChangesEveryRegisterAtEveryPoll(t *testing.T) {
	r, err := newResponder(2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := modbus.NewTCPClientHandler(r.addresses()[1])
	h.SlaveId = 10
	defer h.Close()
	c := modbus.NewClient(h)
	var last []byte
	for range 3 {
		got, err := c.ReadHoldingRegisters(0, registers)
		if err != nil || len(got) != 2*registers {
			t.Fatal(got, err)
		}
		for i := 0; last != nil && i < len(got); i += 2 {
			if got[i] == last[i] && got[i+1] == last[i+1] {
				t.Errorf("register %d has not changed", i/2)
			}
		}
		last = got
	}
	if _, err := c.ReadHoldingRegisters(15, 6); err == nil {
		t.Error("register 20 exists")
	}
	s := r.slave(1, 10)
	s.set(true)
	if _, crossed := s.crossed(); crossed {
		t.Error("the limit was crossed before anybody asked")
	}
	got, err := c.ReadHoldingRegisters(0, 1)
	if _, crossed := s.crossed(); err != nil || !crossed || int(got[0])<<8+int(got[1]) != highValue {
		t.Errorf("set high: %x, %v, crossed %v", got, err, crossed)
	}
	if n := r.counts()[1][9]; n != 4 || r.polls.Load() != 4 {
		t.Errorf("%d and %d polls counted, want 4", n, r.polls.Load())
	}
}

// telemetryOf is what the gateway sends of two polls, all registers of them.
func telemetryOf(poll float64) wire.Telemetry {
	tel := wire.Telemetry{Device: deviceID(0, 1), Rows: []time.Time{time.UnixMilli(1), time.UnixMilli(2)}}
	for n := range registers {
		v := poll + float64(n*columnStep)
		tel.Columns = append(tel.Columns, wire.Column{Point: pointName(n + 1), Kind: point.Number, Nums: []float64{v, v + 1}})
	}
	return tel
}

func TestTheTallySeesWhatIsLostDoubledOrInvented(t *testing.T) {
	var none, three [1][unitsPerConn]uint64
	three[0][0] = 3
	for _, c := range []struct {
		name           string
		change         func(*wire.Telemetry)
		missing, alien int
	}{
		{"whole", func(*wire.Telemetry) {}, registers, 0}, // the third poll has not been sent
		{"a column lost", func(w *wire.Telemetry) { w.Columns = w.Columns[1:] }, registers + 2, 0},
		{"a value changed", func(w *wire.Telemetry) { w.Columns[3].Nums[0] += 0.5 }, registers + 1, 1},
		{"a value doubled", func(w *wire.Telemetry) { w.Columns[3].Nums[1]-- }, registers + 1, 1},
		{"a value stale", func(w *wire.Telemetry) { w.Columns[3].Qualities = []point.Quality{point.Good, point.Stale} }, registers + 1, 0},
	} {
		tel := telemetryOf(1)
		c.change(&tel)
		tl := newTally(registers)
		if err := tl.add(tel); err != nil {
			t.Fatal(err)
		}
		if got := tl.missing(none[:], three[:]); got != c.missing || tl.alien != c.alien {
			t.Errorf("%s: %d missing, %d alien; want %d, %d", c.name, got, tl.alien, c.missing, c.alien)
		}
	}
	if err := newTally(registers).add(wire.Telemetry{Device: "d-0-1x"}); err == nil {
		t.Error("a foreign device was counted")
	}
}

func TestResultsAreWrittenAsPublished(t *testing.T) {
	var rows table
	rows.atMost("a", 10.12345, "ms", ref(3.00001), 10)
	rows.atLeast("b", 500, "polls/s", nil, 495)
	rows.shown("c", 1e9+0.4, "B", nil)
	path := filepath.Join(t.TempDir(), "results.json")
	if err := rows.write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(b, &got); err != nil || len(got) != 3 {
		t.Fatal(err, got)
	}
	if got[0]["value"] != 10.12 || got[0]["reference"] != 3.0 || got[0]["goal"] != 10.0 || got[0]["ok"] != false {
		t.Errorf("first row %v", got[0])
	}
	if got[1]["ok"] != true || got[1]["reference"] != nil || got[2]["goal"] != nil || rows.ok() {
		t.Errorf("rows %v", got)
	}
	var text strings.Builder
	rows.print(&text)
	if !strings.Contains(text.String(), "NO") {
		t.Errorf("a missed goal does not show:\n%s", text.String())
	}
}

func TestPercentileIsTheSmallestSampleThatCoversIt(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	if p := percentile(hundred, 99); p != 99 {
		t.Errorf("p99 of 1..100 is %g", p)
	}
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Errorf("median of 1, 2, 3 is %g", m)
	}
}

// The reference must carry the whole load, or the comparison is worth nothing.
func TestTheReferencePublishesEveryPoll(t *testing.T) {
	if _, err := exec.LookPath("/usr/sbin/mosquitto"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("mosquitto is missing: apt-get install mosquitto")
		}
		t.Skip("mosquitto is missing: apt-get install mosquitto")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := newResponder(2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := startBroker(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	m, err := newMeter(b.addr, "bench/#")
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	done := make(chan error, 1)
	go func() {
		done <- runReference(ctx, []string{"-broker", b.addr, "-devices", strings.Join(r.addresses(), ","), "-every", "50ms"})
	}()
	if err := until(ctx, 10*time.Second, "three rounds", func() bool { return r.polls.Load() >= 60 }, b.proc); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := until(t.Context(), 5*time.Second, "the messages", func() bool { return m.messages.Load() >= 60 }, b.proc); err != nil {
		t.Errorf("%v: %d messages of %d polls", err, m.messages.Load(), r.polls.Load())
	}
}
