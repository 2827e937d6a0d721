package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers/sim"
	edgecli "gatehouse/edge/cli"
)

// field is a compound with one of each kind of line, every device of which is
// the simulator's own reading of its protocol.
type field struct {
	*compound
	reader *sim.Reader
	meter  *sim.Meter
	gas    *sim.GasModule
	gate   *sim.TextReader
	pump   *sim.Sim // behind a DTU
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newField(t *testing.T) *field {
	t.Helper()
	f := &field{compound: newCompound(t)}
	var err error
	if f.reader, err = sim.NewReader(sim.ReaderOptions{Address: 3, Inputs: 1, Outputs: 1, Install: true}); err != nil {
		t.Fatal(err)
	}
	if f.meter, err = sim.NewMeter(sim.MeterOptions{Address: "000012345678", Preamble: 4, Values: map[string]float64{"voltage_a": 229.5}}); err != nil {
		t.Fatal(err)
	}
	if f.gas, err = sim.NewGasModule(map[string]float64{"o2": 20.9, "co": 4}); err != nil {
		t.Fatal(err)
	}
	f.gate = sim.NewTextReader("\x02", "\x03")
	for name, d := range map[string]sim.Device{"door": f.reader, "power": f.meter, "boiler": f.gas, "gate": f.gate} {
		path := filepath.Join(f.dir, name)
		line, err := sim.Open(sim.Place{PTY: &path}, sim.Server{}, nil, d)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = line.Close() })
	}
	dtu := freePort(t)
	scenario, err := sim.Load("demo")
	if err != nil {
		t.Fatal(err)
	}
	f.pump, err = sim.Start(sim.Options{Scenario: scenario, Hold: true, Dial: map[string]string{"pump": dtu}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.pump.Close() })
	f.write("cards.key", strings.Repeat("the compound's own secret ", 2))
	devices := `
  - {id: reader-1, name: 南门读卡器, place: 南门, bus: door, address: 3, profile: osdp-reader}
  - {id: meter-2, name: 总电表, place: 配电房, bus: power, meter: "000012345678", profile: dlt645-meter-1ph, poll: 500ms}
  - {id: gas-2, name: 锅炉房气体模块, place: 锅炉房, bus: boiler, profile: gas-4in1-uart, poll: 500ms}
  - {id: gate-1, name: 北门读卡器, place: 北门, bus: gate, profile: text-card-reader}
  - {id: qf-1, name: 水泵断路器, place: 水泵房, bus: pump, address: 2, profile: jialan-breaker, poll: 500ms,
     confirmed: {by: 老王, on: 2026-11-23, source: 钳形表核对}}
cards: {key_file: cards.key}
`
	buses := strings.NewReplacer("DIR", f.dir, "DTU", dtu, "PACKET", fmt.Sprintf("%x", "DTU-0001")).Replace(`  - {id: door, link: "serial:DIR/door?baud=9600"}
  - {id: power, link: "serial:DIR/power?baud=2400&parity=even"}
  - {id: boiler, link: "serial:DIR/boiler?baud=9600"}
  - {id: gate, link: "serial:DIR/gate?baud=9600"}
  - {id: pump, link: "tcp-listen://DTU?register=PACKET&baud=9600", framing: rtu}
`)
	f.config = f.write("gateway.yaml", strings.Replace(f.gatewayYAML(), "devices:", buses+"devices:", 1)+devices[1:])
	return f
}

// command runs a gatehouse command on the running gateway.
func (f *field) command(args ...string) (out string, ok bool) {
	var o, e bytes.Buffer
	status := edgecli.Execute(f.t.Context(), append(args, "--socket", filepath.Join(f.dir, "edge", "control.sock")), edgecli.Streams{Out: &o, Err: &e})
	if status != 0 {
		f.t.Logf("gatehouse %v: %s", args, e.String())
	}
	return o.String(), status == 0
}

// awaitPoint waits until a point has a value of good quality.
func (f *field) awaitPoint(point, value string) {
	f.t.Helper()
	eventually(f.t, 20*time.Second, point+" to be "+value, func() bool {
		var o bytes.Buffer
		if edgecli.Execute(f.t.Context(), []string{"points", "--json", "--socket", filepath.Join(f.dir, "edge", "control.sock")}, edgecli.Streams{Out: &o, Err: io.Discard}) != 0 {
			return false
		}
		var list []struct{ Point, Value, Quality string }
		if err := json.Unmarshal(o.Bytes(), &list); err != nil {
			f.t.Fatal(err)
		}
		for _, p := range list {
			if p.Point == point && p.Value == value && p.Quality == "good" {
				return true
			}
		}
		return false
	})
}

func TestEveryKindOfLineWorksThroughTheDaemon(t *testing.T) {
	t.Parallel()
	f := newField(t)
	f.startEdge()

	f.awaitPoint("meter-2/voltage", "229.5")
	f.awaitPoint("gas-2/o2", "20.9")
	f.awaitPoint("qf-1/open", "false")

	// Carbon monoxide on a line frame is an alarm like any other.
	if err := f.gas.Set("co", 400); err != nil {
		t.Fatal(err)
	}
	f.awaitAlarm("co-high", "raised")

	// A person opens the breaker; it is put on record.
	if out, ok := f.command("command", "qf-1"); !ok || out != "close\nopen\n" {
		t.Errorf("the breaker can be told %q", out)
	}
	if _, ok := f.command("command", "qf-1", "open"); ok {
		t.Error("a command went out unconfirmed")
	}
	if _, ok := f.command("command", "qf-1", "open", "--yes", "--by", "老王"); !ok {
		t.Error("the breaker could not be opened")
	}
	f.awaitPoint("qf-1/open", "true")
	audit := f.puller("gateway")
	audit.until("the command on record", 20*time.Second, func(events []event) bool {
		n := 0
		for _, e := range events {
			if e.Type == "gateway.command" {
				n++
			}
		}
		return n == 2
	})

	// A trace shows the exchange with the meter, and not a reader's cards.
	if out, ok := f.traced("power"); !ok || !strings.Contains(out, "68 78 56 34 12 00 00 68") {
		t.Errorf("trace of the meter's line: %q", out)
	}
}

// traced follows a bus for a moment.
func (f *field) traced(bus string) (string, bool) {
	var o bytes.Buffer
	ctx, cancel := context.WithTimeout(f.t.Context(), 3*time.Second)
	defer cancel()
	status := edgecli.Execute(ctx, []string{"trace", bus, "--socket", filepath.Join(f.dir, "edge", "control.sock")}, edgecli.Streams{Out: &o, Err: io.Discard})
	return o.String(), status == 0
}

func TestADoorReaderIsInstalledOnceAndGuardedEverAfter(t *testing.T) {
	t.Parallel()
	f := newField(t)
	f.startEdge()

	f.awaitPoint("reader-1/tamper", "false") // it is talked to, and gives no cards yet
	if f.reader.Secure() || f.reader.Key() != nil {
		t.Fatal("a reader got a key that nobody installed")
	}
	if _, ok := f.command("command", "reader-1", "install", "--yes", "--by", "老王"); !ok {
		t.Fatal("the reader could not be installed")
	}
	f.awaitPoint("reader-1/secure", "secure")
	path := filepath.Join(f.dir, "edge", "keys", "reader-1.key")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v", err)
	}
	key, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(key)) != fmt.Sprintf("%x", f.reader.Key()) {
		t.Error("gateway and reader do not hold the same key")
	}

	// Killed and started again, the gateway needs nobody to install the reader.
	f.edge.kill()
	f.startEdge()
	f.awaitPoint("reader-1/secure", "secure")

	// The reader is opened.
	f.reader.SetTamper(true)
	f.awaitAlarm("tamper", "raised")
	f.reader.SetTamper(false)
	f.awaitAlarm("tamper", "cleared")

	// Cards are shown at both readers; none of it may leave the box.
	f.reader.Present(sim.Wiegand26(123, 4567))
	eventually(t, 10*time.Second, "the card to be fetched", func() bool { return f.reader.Waiting() == 0 })
	f.gate.Present(1234567890)

	// Somebody swaps the reader for one that speaks clear text.
	f.reader.SetFault(sim.Fault{Clear: true})
	alarm := f.awaitAlarm("tamper", "raised")
	if alarm.Point != "reader-1/secure_lost" {
		t.Errorf("the alarm is of %s", alarm.Point)
	}
	events := f.puller("alarm,gateway,telemetry,gap")
	events.until("the alarm at the platform", 20*time.Second, func(all []event) bool {
		for _, e := range all {
			if e.Type == "alarm.raised" && e.Data.Point == "reader-1/secure_lost" {
				return true
			}
		}
		return false
	})
	for _, e := range events.all {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"4567", "1234567890", strings.TrimSpace(string(key)), "reader-1/card", "gate-1/card"} {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%q left the box: %s", secret, raw)
			}
		}
	}
	if log := f.edge.log.String(); strings.Contains(log, "1234567890") || strings.Contains(log, strings.TrimSpace(string(key))) {
		t.Error("a card or a key stands in the log")
	}
}
