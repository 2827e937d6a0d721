package bus

import (
	"bytes"
	"io"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/drivers/drivertest"
)

// serialOn opens a line on a terminal.
func serialOn(t *testing.T) (l *serialLine, master io.ReadWriteCloser) {
	t.Helper()
	m, path := drivertest.PTY(t)
	link, err := ParseLink("serial:" + path)
	if err != nil {
		t.Fatal(err)
	}
	l = &serialLine{link: link}
	if err := l.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.shut)
	return l, m
}

// The bytes that wake a device are not swept away by the request behind them,
// nor by a change of mode.
func TestNothingThatWasSentIsCut(t *testing.T) {
	t.Parallel()
	l, master := serialOn(t)
	var want bytes.Buffer
	for i := range 50 {
		wake, request := []byte{0xFE, 0xFE, 0xFE, 0xFE}, []byte{byte(i), 1, 2, 3}
		for _, tx := range [][]byte{wake, request} {
			if err := l.send(tx); err != nil {
				t.Fatal(err)
			}
			want.Write(tx)
		}
		mode := Mode{Baud: 2400 << (i % 2), Parity: ParityEven, StopBits: 1}
		if err := l.configure(mode); err != nil {
			t.Fatal(err)
		}
		if l.mode != mode {
			t.Fatalf("mode %v", l.mode)
		}
	}
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(master, got); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("the device received % x, %v", got, err)
	}
	settings, err := unix.IoctlGetTermios(l.lock, unix.TCGETS)
	if err != nil || settings.Cflag&unix.CBAUD != unix.B4800 { // a terminal keeps no parity
		t.Errorf("mode on the port: %+v, %v", settings, err)
	}
}

// Nobody takes what is sent: sending goes on without blocking, as a device that is
// switched off must not stop the bus.
func TestSendingNeverBlocks(t *testing.T) {
	t.Parallel()
	l, _ := serialOn(t)
	frame := make([]byte, 256)
	for range 200 { // far more than any buffer holds
		l.sentBy = time.Time{} // long ago
		if err := l.send(frame); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPulledPortFails(t *testing.T) {
	t.Parallel()
	l, master := serialOn(t)
	master.Close()
	drivertest.Eventually(t, 5*time.Second, "error of discard", func() bool { _, err := l.discard(); return err != nil })
	if err := l.send([]byte{1}); err == nil {
		t.Error("sends on")
	}
	if err := l.configure(l.link.Mode); err == nil {
		t.Error("configures on")
	}
	if _, err := l.receive(make([]byte, 1), time.Now().Add(time.Second)); err == nil {
		t.Error("receives on")
	}
}

func TestASerialLineDoesNotAllocate(t *testing.T) {
	l, master := serialOn(t)
	tx, rx := []byte{1, 2, 3, 4}, make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		if err := l.send(tx); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(master, rx[:4]); err != nil {
			t.Error(err)
		}
		if _, err := master.Write(tx); err != nil {
			t.Error(err)
		}
		if _, err := l.receive(rx, time.Now().Add(time.Second)); err != nil {
			t.Error(err)
		}
		if _, err := l.discard(); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations per exchange", n)
	}
}

func TestAChildDoesNotInheritThePort(t *testing.T) {
	l, _ := serialOn(t)
	out, err := exec.Command("sh", "-c", "ls -l /proc/$$/fd").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out, []byte(" 0 -> ")) {
		t.Fatalf("no descriptors in\n%s", out)
	}
	if bytes.Contains(out, []byte(l.link.Address+"\n")) {
		t.Errorf("a child has %s open:\n%s", l.link.Address, out)
	}
}
