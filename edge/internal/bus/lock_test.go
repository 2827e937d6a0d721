package bus

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/drivers/drivertest"
)

func TestAPortHasOneOwner(t *testing.T) {
	_, path := drivertest.PTY(t)
	link, err := ParseLink("serial:" + path)
	if err != nil {
		t.Fatal(err)
	}
	first, second := &serialLine{link: link}, &serialLine{link: link}
	if err := first.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = second.open(t.Context())
	if !errors.Is(err, errPortTaken) || !strings.Contains(err.Error(), "two buses") || !strings.Contains(openHint(link, err), "fuser") {
		t.Errorf("a second bus: %v, hint %q", err, openHint(link, err))
	}
	first.shut()
	if err := second.open(t.Context()); err != nil {
		t.Fatalf("after the first closed it: %v", err)
	}
	second.shut()
}

// A process of its own holds the port; the error says which.
func TestAnotherProcessHasThePort(t *testing.T) {
	drivertest.Need(t, "flock")
	_, path := drivertest.PTY(t)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	port := os.NewFile(uintptr(fd), path)
	defer port.Close()
	cmd := exec.Command("sh", "-c", "flock -x 3; echo locked; read end; exit")
	cmd.ExtraFiles = []*os.File{port}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	port.Close()
	if _, err := io.ReadFull(out, make([]byte, len("locked\n"))); err != nil {
		t.Fatal(err)
	}
	link, err := ParseLink("serial:" + path)
	if err != nil {
		t.Fatal(err)
	}
	l := &serialLine{link: link}
	if err := l.open(t.Context()); !errors.Is(err, errPortTaken) || !strings.Contains(err.Error(), "process") {
		t.Errorf("opened beside another process: %v", err)
	}
	in.Close()
	cmd.Wait()
	drivertest.Eventually(t, 5*time.Second, "free port", func() bool { return l.open(t.Context()) == nil })
	l.shut()
}

func TestTheHolderIsReadFromProcLocks(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 11 00:18:5 0 EOF
2: FLOCK  ADVISORY  WRITE 1234 00:18:5 0 EOF
2: -> FLOCK  ADVISORY  WRITE 99 00:18:5 0 EOF
3: FLOCK  ADVISORY  WRITE 77 fe:1a:600 0 EOF
broken
`
	for _, c := range []struct {
		major, minor uint32
		inode        uint64
		pid          int
	}{{0, 0x18, 5, 1234}, {0xfe, 0x1a, 600, 77}, {0, 0x18, 6, 0}} {
		if pid := lockedBy(strings.NewReader(locks), c.major, c.minor, c.inode); pid != c.pid {
			t.Errorf("%s: %d, want %d", fmt.Sprint(c), pid, c.pid)
		}
	}
}
