package drivertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// PTY opens a pseudo terminal: the master is the device's end, the path is the
// port a bus opens. The master can be closed to pull the adapter out.
func PTY(t testing.TB) (master *os.File, path string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("opening a pseudo terminal: %v", err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatalf("unlocking a pseudo terminal: %v", err)
	}
	path = fmt.Sprintf("/dev/pts/%d", number)
	// Raw from the start, and held open: a master whose slave nobody has open
	// reads EIO, and one in line mode echoes.
	hold, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("opening %s: %v", path, err)
	}
	t.Cleanup(func() { unix.Close(hold) })
	settings, err := unix.IoctlGetTermios(hold, unix.TCGETS)
	if err != nil {
		t.Fatalf("reading the settings of %s: %v", path, err)
	}
	settings.Iflag, settings.Oflag, settings.Lflag = 0, 0, 0
	if err := unix.IoctlSetTermios(hold, unix.TCSETS, settings); err != nil {
		t.Fatalf("setting %s to raw: %v", path, err)
	}
	return master, path
}

// SocatPair joins two pseudo terminals by socat, as an independent peer needs.
func SocatPair(t testing.TB) (a, b string) {
	t.Helper()
	Need(t, "socat")
	dir := t.TempDir()
	a, b = filepath.Join(dir, "a"), filepath.Join(dir, "b")
	cmd := exec.Command("socat", "pty,raw,echo=0,link="+a, "pty,raw,echo=0,link="+b)
	Start(t, cmd)
	Eventually(t, 10*time.Second, "socat's terminals", func() bool {
		_, errA := os.Stat(a)
		_, errB := os.Stat(b)
		return errA == nil && errB == nil
	})
	return a, b
}

// Need skips the test if a program is missing, and fails it where CI is set.
func Need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: install it (Debian: apt-get install %s)", program, filepath.Base(program))
	}
	t.Skipf("%s is missing; this proof did not run", program)
}

// Start runs a program until the test ends.
func Start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stderr = testWriter{t}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// testWriter sends what a peer complains about to the test's log.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("peer: %s", p)
	return len(p), nil
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("after %v still no %s", within, what)
		case <-tick.C:
		}
	}
}
