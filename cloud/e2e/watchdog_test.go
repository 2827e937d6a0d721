package e2e

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestTheWatchdogIsFedWhileEveryDeviceIsSilent: dead devices are not a dead
// gateway; the loop still turns.
func TestTheWatchdogIsFedWhileEveryDeviceIsSilent(t *testing.T) {
	c := newCompound(t)
	for _, unit := range []string{"plant/7", "plant/11", "plant/12", "plant/13", "plant/14", "meters/1", "meters/2"} {
		if err := c.sim.SetSilent(unit, true); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(c.dir, "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "1500000")
	c.startEdge()
	heard := map[string]int{}
	for heard["READY=1"] < 1 || heard["WATCHDOG=1"] < 6 {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("the service manager heard %v, then: %v", heard, err)
		}
		heard[string(buf[:n])]++
	}
	c.awaitAlarm("no-data", "raised")
}
