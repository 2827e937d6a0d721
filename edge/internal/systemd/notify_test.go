package systemd

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestMessagesReachTheServiceManager(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "10000000")
	n := FromEnv()
	if n.Watchdog() != 10*time.Second {
		t.Errorf("watchdog = %v, want 10s", n.Watchdog())
	}
	for _, c := range []struct {
		say  func() error
		want string
	}{{n.Ready, "READY=1"}, {n.Feed, "WATCHDOG=1"}, {n.Stopping, "STOPPING=1"}} {
		if err := c.say(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		size, err := conn.Read(buf)
		if err != nil || string(buf[:size]) != c.want {
			t.Errorf("received %q, %v, want %q", buf[:size], err, c.want)
		}
	}
}

func TestWithoutAServiceManagerNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	n := FromEnv()
	if err := n.Ready(); err != nil || n.Watchdog() != 0 {
		t.Errorf("Ready = %v, watchdog %v", err, n.Watchdog())
	}
}

func TestAWatchdogMeantForAnotherProcessIsIgnored(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("WATCHDOG_PID", "1")
	if w := FromEnv().Watchdog(); w != 0 {
		t.Errorf("watchdog = %v, want none", w)
	}
}
