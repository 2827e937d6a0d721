package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fullDisk mounts a small file system over dir and fills it.
func fullDisk(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mount a small file system: %v: run the tests as root", err)
		}
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = filler.Write(page)
	}
}

// TestTroubleAtTheStartCostsOnlyItself starts the gateway with a full disk, a
// taken port and a missing serial device at once. Each is said once, with a
// hint, and an alarm still reaches the platform.
func TestTroubleAtTheStartCostsOnlyItself(t *testing.T) {
	t.Parallel()
	c := newCompound(t)
	fullDisk(t, filepath.Join(c.dir, "edge"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	yaml := strings.Replace(c.gatewayYAML(), `metrics: {listen: "127.0.0.1:0"}`, `metrics: {listen: "`+taken.Addr().String()+`"}`, 1)
	yaml = strings.Replace(yaml, "devices:", `  - {id: roof, link: "serial:/dev/serial/by-path/unplugged?baud=9600"}
devices:
  - {id: meter-9, name: 屋顶电表, place: 屋顶, bus: roof, address: 1, profile: eastron-sdm120}`, 1)
	c.config = c.write("gateway.yaml", yaml)
	c.startEdge()
	p := c.puller("alarm")
	p.until("the alarm about the store", 15*time.Second, func(es []event) bool { return len(ofRule(es, "store-unavailable")) == 1 })

	c.gas(true)
	p.until("the gas alarm", 10*time.Second, func(es []event) bool { return len(ofRule(es, gasRule)) == 1 })
	for what, line := range map[string][]string{
		"the store":         {"the store cannot be opened", "space"},
		"the metrics port":  {"metrics cannot be served", "hint=", "metrics.listen"},
		"the serial device": {"link does not open", "unplugged", "hint="},
	} {
		if n := countLines(c.edge.log.String(), line...); n != 1 {
			t.Errorf("%s: %d lines in the log, want one clear line with a hint", what, n)
		}
	}
	if status := c.edge.terminate(); status != 0 {
		t.Errorf("gatehouse exits %d", status)
	}
}

func TestASecondGatewayOnOneStoreIsRefused(t *testing.T) {
	t.Parallel()
	c := newCompound(t)
	c.startEdge()
	c.awaitAlarm(gasRule, "")
	second := start(t, "edge", "run", "--config", c.config)
	<-second.done
	if code := second.cmd.ProcessState.ExitCode(); code != 1 || countLines(second.log.String(), "gatehouse: ", "another") != 1 {
		t.Errorf("exit %d, want 1 and one clear line:\n%s", code, second.log)
	}
	if _, ok := c.alarms(); !ok {
		t.Error("the first gateway no longer answers")
	}
}

// countLines counts the lines that have all the parts.
func countLines(log string, parts ...string) (n int) {
	for line := range strings.Lines(log) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			n++
		}
	}
	return n
}
