package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func start(t *testing.T, opts Options) *Sim {
	t.Helper()
	if opts.Scenario == nil {
		opts.Scenario = load(t, "short.yaml")
	}
	s, err := Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// mbpoll asks the simulator with libmodbus' own client and returns the values
// it printed.
func mbpoll(t *testing.T, args ...string) ([]string, error) {
	t.Helper()
	bin, err := exec.LookPath("mbpoll")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("mbpoll is missing: apt-get install mbpoll")
		}
		t.Skip("mbpoll is missing: apt-get install mbpoll")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin, append([]string{"-1", "-0", "-o", "0.5"}, args...)...).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("failed")) {
		err = fmt.Errorf("mbpoll: %v: %s", err, out)
	}
	var values []string
	for _, m := range regexp.MustCompile(`(?m)^\[\d+\]:\s+(\S+)`).FindAllSubmatch(out, -1) {
		values = append(values, string(m[1]))
	}
	return values, err
}

func TestMbpollReadsAndWritesEveryTable(t *testing.T) {
	s := start(t, Options{Hold: true})
	host, port, _ := net.SplitHostPort(s.TCPAddr("plant"))
	tcp := func(args ...string) []string {
		return append([]string{"-m", "tcp", "-p", port, "-a", "7"}, append(args, host)...)
	}
	rtu := func(unit string, args ...string) []string {
		return append([]string{"-m", "rtu", "-b", "9600", "-P", "none", "-a", unit}, append(args, s.PTYPath("meters"))...)
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"tcp discrete", tcp("-t", "1", "-r", "0", "-c", "8"), "1 0 0 0 0 0 0 0"},
		{"tcp float", tcp("-t", "3:float", "-B", "-r", "0", "-c", "1"), "230.5"},
		{"tcp u32", tcp("-t", "4:int", "-B", "-r", "16", "-c", "1"), "70000"},
		{"tcp write registers", append(tcp("-t", "4", "-r", "2"), "11", "12", "13"), ""},
		{"tcp read back", tcp("-t", "4", "-r", "1", "-c", "4"), "0 11 12 13"},
		{"tcp write coil", append(tcp("-t", "0", "-r", "3"), "1"), ""},
		{"tcp read coils", tcp("-t", "0", "-r", "0", "-c", "8"), "0 0 0 1 0 0 0 0"},
		{"rtu float", rtu("1", "-t", "3:float", "-B", "-r", "0", "-c", "1"), "230.5"},
		{"rtu discrete", rtu("2", "-t", "1", "-r", "0", "-c", "16"), "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"},
		{"rtu write register", append(rtu("2", "-t", "4", "-r", "5"), "77"), ""},
		{"rtu write registers", append(rtu("2", "-t", "4", "-r", "6"), "78", "79"), ""},
		{"rtu read back", rtu("2", "-t", "4", "-r", "5", "-c", "3"), "77 78 79"},
		{"rtu write coils", append(rtu("2", "-t", "0", "-r", "1"), "1", "0", "1"), ""},
		{"rtu write coil", append(rtu("2", "-t", "0", "-r", "9"), "1"), ""},
		{"rtu read coils", rtu("2", "-t", "0", "-r", "0", "-c", "10"), "0 1 0 1 0 0 0 0 0 1"},
	} {
		got, err := mbpoll(t, c.args...)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, strings.Join(got, " "), err, c.want)
		}
	}
	if _, err := mbpoll(t, tcp("-t", "4", "-r", "100", "-c", "1")...); err == nil || !strings.Contains(err.Error(), "Illegal data address") {
		t.Errorf("an address that is not there: %v", err)
	}
	if _, err := mbpoll(t, rtu("2", "-t", "3", "-r", "0", "-c", "1")...); err == nil || !strings.Contains(err.Error(), "Illegal data address") {
		t.Errorf("an address that is not there: %v", err)
	}
	if _, err := mbpoll(t, rtu("9", "-t", "4", "-r", "0", "-c", "1")...); err == nil || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("a unit that is not on the line: %v", err)
	}
}

// client speaks raw frames, so that a test sees exactly what comes back.
type client struct {
	t    *testing.T
	conn interface {
		Write([]byte) (int, error)
		Read([]byte) (int, error)
		SetReadDeadline(time.Time) error
	}
	rtu bool
}

func dial(t *testing.T, s *Sim, rtu bool) client {
	t.Helper()
	if rtu {
		f, err := os.OpenFile(s.PTYPath("meters"), os.O_RDWR|0x800 /* O_NONBLOCK */, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return client{t, f, true}
	}
	c, err := net.Dial("tcp", s.TCPAddr("plant"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return client{t, c, false}
}

// ask returns the PDU that answers, or nil if nothing came within wait.
func (c client) ask(unit byte, pdu []byte, wait time.Duration) []byte {
	c.t.Helper()
	frame := append([]byte{unit}, pdu...)
	head := 1
	if c.rtu {
		frame = binary.LittleEndian.AppendUint16(frame, crc16(frame))
	} else {
		frame = append([]byte{0x12, 0x34, 0, 0, 0, byte(len(frame))}, frame...)
		head = mbapLen
	}
	if _, err := c.conn.Write(frame); err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		c.t.Fatal(err)
	}
	buf := make([]byte, maxFrame)
	n, err := c.conn.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if c.rtu {
		n -= 2
	}
	return buf[head:n]
}

func TestASilentUnitSwallowsRequestsAndItsNeighboursAnswer(t *testing.T) {
	sc := load(t, "short.yaml")
	sc.Units = append(sc.Units, Unit{Listener: "plant", ID: 8, Holding: Cells{{0, 5}}})
	s := start(t, Options{Scenario: sc, Hold: true})
	for _, c := range []struct {
		rtu        bool
		quiet      string
		id, nextTo byte
		neighbour  []byte
	}{
		{false, "plant/7", 7, 8, []byte{fcReadHolding, 0, 0, 0, 1}},
		{true, "meters/1", 1, 2, []byte{fcReadHolding, 0, 0, 0, 1}},
	} {
		cl := dial(t, s, c.rtu)
		ask := []byte{fcReadInput, 0, 0, 0, 2}
		if err := s.SetSilent(c.quiet, true); err != nil {
			t.Fatal(err)
		}
		if got := cl.ask(c.id, ask, 100*time.Millisecond); got != nil {
			t.Errorf("%s answered %x while silent", c.quiet, got)
		}
		if got := cl.ask(c.nextTo, c.neighbour, 5*time.Second); got == nil {
			t.Errorf("the neighbour of %s is silent too", c.quiet)
		}
		if err := s.SetSilent(c.quiet, false); err != nil {
			t.Fatal(err)
		}
		if got := cl.ask(c.id, ask, 5*time.Second); !bytes.Equal(got, []byte{fcReadInput, 4, 0x43, 0x66, 0x80, 0}) {
			t.Errorf("%s answered %x after its silence", c.quiet, got)
		}
		if n, err := s.Requests(c.quiet); n != 2 || err != nil {
			t.Errorf("%s: %d requests counted, %v; want 2", c.quiet, n, err)
		}
	}
}

func TestATimedPulseEndsByItself(t *testing.T) {
	s := start(t, Options{Hold: true})
	for _, c := range []struct {
		rtu  bool
		unit string
		id   byte
	}{{false, "plant/7", 7}, {true, "meters/2", 2}} {
		cl := dial(t, s, c.rtu)
		pulse := []byte{fcWriteCoil, 0x02, 0x03, 0x00, 0x02} // relay 4 for 200 ms
		if got := cl.ask(c.id, pulse, 5*time.Second); !bytes.Equal(got, pulse) {
			t.Fatalf("%s answered %x", c.unit, got)
		}
		coil := func() uint16 {
			v, err := s.Get(c.unit, Coil, 3, 1)
			if err != nil {
				t.Fatal(err)
			}
			return v[0]
		}
		if coil() != 1 {
			t.Errorf("%s: the relay is off during the pulse", c.unit)
		}
		eventually(t, "the relay to be off after the pulse", func() bool { return coil() == 0 })
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain for ", what)
		}
	}
}

func TestTheScenarioReachesTheWire(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	s := start(t, Options{Speed: 50, OnChange: func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, c.At.String()+" "+c.String())
	}})
	eventually(t, "the last change", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == 7
	})
	if !slices.IsSortedFunc(seen, strings.Compare) {
		t.Errorf("changes out of order: %q", seen)
	}
	if got := dial(t, s, false).ask(7, []byte{fcReadHolding, 0, 1, 0, 1}, 5*time.Second); !bytes.Equal(got, []byte{fcReadHolding, 2, 0, 20}) {
		t.Errorf("after the ramp the wire shows %x", got)
	}
	first, _ := s.Get("meters/1", Input, 0, 2)
	eventually(t, "noise", func() bool {
		now, _ := s.Get("meters/1", Input, 0, 2)
		return !slices.Equal(first, now)
	})
}

func TestEveryKindOfLineAndStepOfAScenario(t *testing.T) {
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	s := start(t, Options{Scenario: load(t, "lines.yaml"), Speed: 20, Dial: map[string]string{"pump": front.Addr().String()}})
	conn, err := front.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet := make([]byte, 5)
	if _, err := io.ReadFull(conn, packet); err != nil || string(packet) != "DTU-1" {
		t.Errorf("registration %q, %v", packet, err)
	}
	gate, err := os.Open(s.PTYPath("gate"))
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	text := make([]byte, 12)
	if _, err := io.ReadFull(gate, text); err != nil || string(text) != "0001234567\r\n" {
		t.Errorf("text %q, %v", text, err)
	}
	door, err := s.Reader("door/1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "two cards and keys", func() bool { return door.Waiting() == 3 })
	locked, err := s.Reader("door/0")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the housing opened and closed", func() bool { return locked.Waiting() == 4 })
	meter, err := s.Meter("power/000000000001")
	if err != nil {
		t.Fatal(err)
	}
	gas, err := s.GasModule("gas")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := meter.Get("voltage_a"); err != nil || v != 220.5 {
		t.Errorf("voltage %g, %v", v, err)
	}
	if v, err := gas.Get("co"); err != nil || v != 200 {
		t.Errorf("co %g, %v", v, err)
	}
	if _, err := s.Reader("gas"); !errors.Is(err, ErrUnknownUnit) {
		t.Errorf("a gas module as a reader: %v", err)
	}
	if l, err := s.Line("pump"); err != nil || l.Dialled() != 1 {
		t.Errorf("the DTU: %v", err)
	}
}

func TestALinkToThePTYComesAndGoesAndReplacesOnlyALink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "tty")
	if err := os.Symlink("/dev/pts/none", link); err != nil {
		t.Fatal(err)
	}
	s, err := Start(Options{Scenario: load(t, "short.yaml"), PTY: map[string]string{"meters": link}, Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != s.PTYPath("meters") {
		t.Errorf("link to %q, %v", to, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link is still there: %v", err)
	}
	if err := os.WriteFile(link, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(Options{Scenario: load(t, "short.yaml"), PTY: map[string]string{"meters": link}}); err == nil {
		s.Close()
		t.Error("a file was replaced by the link")
	}
	if b, _ := os.ReadFile(link); string(b) != "precious" {
		t.Error("a failed start removed the file")
	}
}

func TestATakenPortFailsTheStart(t *testing.T) {
	s := start(t, Options{Hold: true})
	_, err := Start(Options{Scenario: load(t, "short.yaml"), Listen: map[string]string{"plant": s.TCPAddr("plant")}})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("second start: %v", err)
	}
}

// replies is a stream that keeps what is written to it.
type replies struct{ bytes.Buffer }

func (*replies) Close() error { return nil }

func FuzzRTU(f *testing.F) {
	good := []byte{2, fcReadHolding, 0, 0, 0, 1}
	good = binary.LittleEndian.AppendUint16(good, crc16(good))
	f.Add(good)
	f.Add([]byte{2, fcWriteRegs, 0, 0, 0, 2, 4, 0, 1, 0, 2, 0xAA, 0xBB})
	f.Add([]byte{2, 0x2B, 0x0E, 1, 0})
	sc := load(f, "short.yaml")
	f.Fuzz(func(t *testing.T, noise []byte) {
		units := newUnits(sc)
		var out replies
		e := &end{line: &Line{station: rtuSlaves{2: units["meters/2"]}}, rw: &out}
		rest := e.consume(slices.Clone(noise))
		if len(rest) > maxFrame {
			t.Errorf("%d bytes are kept as a frame that may come", len(rest))
		}
		before := units["meters/2"].requests.Load()
		e.consume(slices.Clone(good)) // after silence: what was incomplete is gone
		if units["meters/2"].requests.Load() != before+1 {
			t.Error("a good request after noise is not answered")
		}
		reply := out.Bytes()
		if n := len(reply); n < 7 || !bytes.Equal(reply[n-7:n-4], []byte{2, fcReadHolding, 2}) || crc16(reply[n-7:]) != 0 {
			t.Errorf("reply %x", reply)
		}
	})
}
