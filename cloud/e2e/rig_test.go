// Package e2e holds what concerns edge and cloud together: the rules of who
// may import whom, and tests that run the simulated compound, the gateway and
// the cloud as they run in the field, on loopback.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	cloudapp "gatehouse/cloud/app"
	cloudcli "gatehouse/cloud/cli"
	"gatehouse/drivers/sim"
	edgecli "gatehouse/edge/cli"
)

// roleEnv makes the test binary be one of the programs instead of the tests,
// so that a test can kill it.
const roleEnv = "GATEHOUSE_E2E_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "edge":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		status := edgecli.Execute(ctx, os.Args[1:], edgecli.Streams{Out: os.Stdout, Err: os.Stderr})
		stop()
		os.Exit(status)
	case "cloud":
		os.Exit(runCloud(os.Args[1], os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

func runCloud(data, httpAddr, mqttAddr string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := cloudapp.Run(ctx, cloudapp.Options{
		Data: data, HTTPAddr: httpAddr, MQTTAddr: mqttAddr, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Ready: func(a cloudapp.Addrs) { _ = json.NewEncoder(os.Stdout).Encode(a) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a running child.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  chan string // lines of its standard output
	log  *transcript
	done chan struct{}
}

// transcript keeps what a child says on standard error.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs the test binary in a role; it is killed with the test at the latest.
func start(t *testing.T, role string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	p := &process{t: t, name: role, cmd: cmd, out: make(chan string, 100), log: &transcript{}, done: make(chan struct{})}
	cmd.Stderr = p.log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.out <- lines.Text()
		}
		_ = cmd.Wait() // how it ended is for the test to judge
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", role, p.log)
		}
	})
	return p
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// terminate asks the process to stop and returns its exit status.
func (p *process) terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Fatalf("%s does not stop on SIGTERM", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

const (
	gatewayID = "gw-0001"
	division  = "530102001003"
)

// compound is the whole system of one test.
type compound struct {
	t      *testing.T
	dir    string
	sim    *sim.Sim
	cloud  *process
	addrs  cloudapp.Addrs
	token  string
	edge   *process
	config string
}

// newCompound starts the simulator (its scenario stands still) and the cloud,
// and enrols the gateway; the edge is started by startEdge.
func newCompound(t *testing.T) *compound {
	t.Helper()
	c := &compound{t: t, dir: t.TempDir(), addrs: cloudapp.Addrs{HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0"}}
	scenario, err := sim.Load("demo")
	if err != nil {
		t.Fatal(err)
	}
	c.sim, err = sim.Start(sim.Options{Scenario: scenario, Hold: true, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.sim.Close() })
	c.startCloud()
	secret := c.admin("gateway", "add", "--id", gatewayID, "--division", division)
	c.token = c.admin("token", "create", "--scope", "5301", "--kinds", "*")
	c.write("secret", secret)
	c.config = c.write("gateway.yaml", c.gatewayYAML())
	return c
}

func (c *compound) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// gatewayYAML is the gateway of the simulated compound.
func (c *compound) gatewayYAML() string {
	return fmt.Sprintf(`
gateway: {id: %s, division: "%s", compound: 砚峡小区}
store:   {dir: %s}
metrics: {listen: "127.0.0.1:0"}
cloud:   {broker: "mqtt://%s", secret_file: secret, flush: 1s}
buses:
  - {id: plant, link: "tcp://%s", framing: tcp}
  - {id: meters, link: "serial:%s?baud=9600"}
devices:
  - {id: di-3-2, name: 3栋2单元弱电箱, place: 3/2, bus: plant, address: 7, profile: waveshare-relay-d, poll: 200ms,
     points: {di1: {role: gas_alarm, place: 3/2/501, name: 501厨房燃气报警器, contact: nc},
              relay1: {role: siren, pulse: 2s}}}
  - {id: septic-1, name: 1号化粪池, place: 化粪池1, bus: plant, address: 11, profile: 4mz-hh4, poll: 1s}
  - {id: meter-1, name: 电梯电表, place: 3/2, bus: meters, address: 1, profile: eastron-sdm120, poll: 2s}
  - {id: sos-3-2, name: 紧急按钮, place: 3/2, bus: meters, address: 2, profile: wellpro-wp8026, poll: 500ms,
     points: {di1: {role: sos, place: 3/2/502, name: 502卧室紧急按钮}}}
`, gatewayID, division, filepath.Join(c.dir, "edge"), c.addrs.MQTT, c.sim.TCPAddr("plant"), c.sim.PTYPath("meters"))
}

// startCloud starts the cloud where it was before, or anywhere the first time.
func (c *compound) startCloud() {
	c.t.Helper()
	c.cloud = start(c.t, "cloud", filepath.Join(c.dir, "cloud"), c.addrs.HTTP, c.addrs.MQTT)
	select {
	case line := <-c.cloud.out:
		if err := json.Unmarshal([]byte(line), &c.addrs); err != nil {
			c.t.Fatalf("cloud said %q: %v", line, err)
		}
	case <-c.cloud.done:
		c.t.Fatal("the cloud ended instead of starting")
	case <-time.After(30 * time.Second):
		c.t.Fatal("the cloud does not start")
	}
}

// admin runs a gatehouse-cloud command on the running cloud and returns what it prints.
func (c *compound) admin(args ...string) string {
	c.t.Helper()
	var out bytes.Buffer
	cmd := cloudcli.New()
	cmd.SetArgs(append(args, "--data", filepath.Join(c.dir, "cloud")))
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(c.t.Context()); err != nil {
		c.t.Fatalf("gatehouse-cloud %v: %v", args, err)
	}
	return strings.TrimSpace(out.String())
}

func (c *compound) startEdge() {
	c.t.Helper()
	if err := os.MkdirAll(filepath.Join(c.dir, "edge"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	c.edge = start(c.t, "edge", "run", "--config", c.config)
}

// gas opens or closes the gas detector's contact (normally closed).
func (c *compound) gas(alarm bool) {
	c.t.Helper()
	if err := c.sim.SetDiscrete("plant/7", 0, !alarm); err != nil {
		c.t.Fatal(err)
	}
}

// view is one alarm of `gatehouse alarms list --json`.
type view struct {
	ID, Status, Rule, Point, Priority string
	Occurrence                        int
}

// alarms asks the gateway itself; ok is false while it does not answer.
func (c *compound) alarms() (list []view, ok bool) {
	var out bytes.Buffer
	status := edgecli.Execute(c.t.Context(), []string{"alarms", "list", "--json", "--socket", filepath.Join(c.dir, "edge", "control.sock")},
		edgecli.Streams{Out: &out, Err: io.Discard})
	if status != 0 {
		return nil, false
	}
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		c.t.Fatal(err)
	}
	return list, true
}

// awaitAlarm waits until an alarm of the rule has the status; "" means: no
// such alarm is active.
func (c *compound) awaitAlarm(rule, status string) view {
	c.t.Helper()
	var found view
	eventually(c.t, 15*time.Second, fmt.Sprintf("alarm %s to be %q", rule, status), func() bool {
		list, ok := c.alarms()
		active := false
		for _, a := range list {
			if a.Rule == rule && a.Status == status {
				found = a
				return true
			}
			active = active || a.Rule == rule && a.Status != "cleared"
		}
		return ok && status == "" && !active
	})
	return found
}

// event is what the platform sees of one event.
type event struct {
	ID, Type, Source, Division, Time string
	Seq                              uint64
	Lane                             string
	Data                             struct {
		Point, Place, Rule, Priority, Title, Alarm, Device, Actor string
		Occurrence                                                int
	}
}

// puller pulls events as a platform does, keeping its cursor.
type puller struct {
	c      *compound
	kind   string
	cursor string
	all    []event
}

func (c *compound) puller(kind string) *puller { return &puller{c: c, kind: kind} }

// pull asks once, waiting for news up to wait, and returns how many came.
func (p *puller) pull(wait time.Duration) (int, error) {
	q := url.Values{"scope": {"5301"}, "kind": {p.kind}, "limit": {"100"}, "wait": {wait.String()}}
	if p.cursor != "" {
		q.Set("cursor", p.cursor)
	}
	req, err := http.NewRequestWithContext(p.c.t.Context(), "GET", "http://"+p.c.addrs.HTTP+"/v1/events?"+q.Encode(), nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+p.c.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return 0, fmt.Errorf("%s: %s", resp.Status, body)
	}
	var page []event
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return 0, err
	}
	p.all = append(p.all, page...)
	p.cursor = resp.Header.Get("Gatehouse-Cursor")
	return len(page), nil
}

// until pulls until enough says so.
func (p *puller) until(what string, patience time.Duration, enough func([]event) bool) {
	p.c.t.Helper()
	end := time.Now().Add(patience)
	for !enough(p.all) {
		if time.Now().After(end) {
			p.c.t.Fatalf("waited %v for %s; got %d events:\n%s", patience, what, len(p.all), describe(p.all))
		}
		if _, err := p.pull(time.Second); err != nil {
			p.c.t.Fatal(err)
		}
	}
}

func describe(events []event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "  %s seq %d %s %s %s occurrence %d\n", e.Type, e.Seq, e.Data.Rule, e.Data.Point, e.Data.Alarm, e.Data.Occurrence)
	}
	return b.String()
}

// eventually polls until cond holds.
func eventually(t *testing.T, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
