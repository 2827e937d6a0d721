package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// gatewayID is the id of the gateway that is measured.
const gatewayID = "gw-bench"

// profileText describes the devices of the load: some registers in a row, of
// which the first few have the role that the rule is bound to.
func profileText(registers, guarded int) string {
	var y strings.Builder
	y.WriteString(`model: bench-20
maker: none
names: {zh: 测试装置, en: Bench device}
source: the responder of this bench
grade: A
driver: modbus
link: {baud: 9600, parity: none, stop: 1, address: 1}
timing: {poll: 1s}
probes:
  - {baud: 9600, parity: none, stop: 1, space: holding, address: 0, count: 1}
points:
`)
	for n := 1; n <= registers; n++ {
		role := `measurement, unit: "1"`
		if n > guarded {
			role = "phase_angle, unit: deg"
		}
		fmt.Fprintf(&y, "  - {name: %s, names: {zh: 寄存器%d, en: Register %d}, role: %s, space: holding, address: %d}\n", pointName(n), n, n, role, n-1)
	}
	return y.String()
}

// gateway is the daemon with its configuration.
type gateway struct {
	bin    string
	dir    string
	config string
	admin  string // host:port of /metrics
	proc   *process
}

// site is what a gateway is configured to do.
type site struct {
	Broker    string   // host:port
	Links     []string // one bus each
	Units     int      // unit ids on each bus
	Registers int      // of each device; 0: all there are
	Poll      time.Duration
	Guarded   int // registers of each device that a rule is bound to
}

// newGateway writes a configuration into a directory of its own.
func newGateway(bin, dir string, s site) (*gateway, error) {
	if err := os.MkdirAll(filepath.Join(dir, "store"), 0o700); err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if s.Registers == 0 {
		s.Registers = registers
	}
	g := &gateway{bin: bin, dir: dir, config: filepath.Join(dir, "gateway.yaml"), admin: admin}
	var y strings.Builder
	fmt.Fprintf(&y, `gateway: {id: %s, division: "530102001003", compound: bench, timezone: Asia/Shanghai}
store: {dir: %q}
metrics: {listen: %q}
cloud: {broker: "mqtt://%s", secret_file: %q}
rules:
  custom:
    - {id: bench-high, role: measurement, when: "value >= %d", clear: "value < %d", priority: P2, title: 测试越限}
buses:
`, gatewayID, filepath.Join(dir, "store"), admin, s.Broker, filepath.Join(dir, "secret"), highValue, highValue-1)
	for c, link := range s.Links {
		framing := "tcp"
		if strings.HasPrefix(link, "serial:") {
			framing = "rtu"
		}
		fmt.Fprintf(&y, "  - {id: c-%d, link: %q, framing: %s}\n", c, link, framing)
	}
	y.WriteString("devices:\n")
	for c := range s.Links {
		for u := 1; u <= s.Units; u++ {
			fmt.Fprintf(&y, "  - {id: %s, name: %s, place: 1/1, bus: c-%d, address: %d, profile: ./bench-20.yaml, poll: %s}\n",
				deviceID(c, u), deviceID(c, u), c, u, s.Poll)
		}
	}
	for name, text := range map[string]string{"gateway.yaml": y.String(), "bench-20.yaml": profileText(s.Registers, s.Guarded), "secret": "bench"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// start runs the daemon, at first or again on the same store.
func (g *gateway) start() error {
	var err error
	g.proc, err = start(g.dir, "gatehouse", g.bin, "run", "--config", g.config)
	return err
}

func (g *gateway) stop() {
	if g.proc != nil {
		g.proc.stop()
	}
}

// mallocs is how many objects the daemon has allocated so far, by its own
// account.
func (g *gateway) mallocs() (float64, error) {
	resp, err := http.Get("http://" + g.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if n, ok := strings.CutPrefix(s.Text(), "go_memstats_mallocs_total "); ok {
			// All of it is read, so that each asking costs the daemon the same.
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				return 0, err
			}
			return strconv.ParseFloat(n, 64)
		}
	}
	return 0, errors.New("the daemon does not tell its go_memstats_mallocs_total")
}
