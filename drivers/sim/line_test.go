package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTheGasModuleAnswersItsQuestion(t *testing.T) {
	g, err := NewGasModule(map[string]float64{"co": 24, "h2s": 3, "ch4": 260})
	if err != nil {
		t.Fatal(err)
	}
	conn := pipeLine(t, g)
	conn.Write([]byte("\xFF\x01\x00" + gasQuestion)) // noise that begins as it does
	got := make([]byte, 11)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, "FF 86 0018 0003 00D1 0104"); !bytes.Equal(got[:10], want) || sum8(got[1:]) != 0 {
		t.Errorf("answer %x, want %x and its check", got, want)
	}
	if o2, err := g.Get("o2"); err != nil || o2 != 20.9 {
		t.Errorf("o2 %g, %v", o2, err)
	}
	if _, err := NewGasModule(map[string]float64{"co": -1, "radon": 2}); err == nil || !strings.Contains(err.Error(), "radon") || !strings.Contains(err.Error(), "co:") {
		t.Errorf("wrong values: %v", err)
	}
}

func TestATextReaderSendsUnasked(t *testing.T) {
	for _, c := range []struct{ start, end, want string }{
		{"", "", "\x020001234567\r\n\x03"},
		{"", "\r\n", "0001234567\r\n"},
	} {
		r := NewTextReader(c.start, c.end)
		conn := pipeLine(t, r)
		eventually(t, "the line", func() bool { return r.Attached() == 1 })
		go r.Present(1234567)
		got := make([]byte, len(c.want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.want {
			t.Errorf("%q, %v; want %q", got, err, c.want)
		}
	}
}

// breakerUnit is a Modbus unit with the registers of a two-step breaker.
func breakerUnit() *unit {
	sc := &Scenario{Units: []Unit{{Listener: "l", ID: 1, Breaker: true, Holding: Cells{{breakerState, 0x0100}}}}}
	return newUnits(sc)["l/1"]
}

func TestABreakerMovesOnlyInTwoSteps(t *testing.T) {
	u := breakerUnit()
	write := func(addr, v uint16) {
		pdu := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16([]byte{fcWriteRegister}, addr), v)
		if got := u.obey(pdu, Fault{}); !bytes.Equal(got, pdu) {
			t.Fatalf("write %04x = %04x: %x", addr, v, got)
		}
	}
	isOpen := func() bool {
		v, err := u.read(Holding, breakerState, 1)
		if err != nil || v[0]>>8 != 1 {
			t.Fatalf("state %v, %v: the high byte is not the breaker's", v, err)
		}
		return v[0]&0xFF != 0
	}
	for _, c := range []struct {
		what         string
		prepare, run uint16
		open         bool
	}{
		{"open without its pre-command", 0, executeOpen, false},
		{"open after the pre-command to close", prepareClose, executeOpen, false},
		{"open", prepareOpen, executeOpen, true},
		{"close without its pre-command", 0, executeClose, true},
		{"close", prepareClose, executeClose, false},
	} {
		if c.prepare != 0 {
			write(breakerPrepare, c.prepare)
		}
		if write(breakerExecute, c.run); isOpen() != c.open {
			t.Errorf("%s: open is %v", c.what, isOpen())
		}
	}
	write(breakerPrepare, prepareOpen)
	write(breakerExecute, executeOpen)
	write(breakerPrepare, prepareClose)
	write(breakerExecute, 0x1234) // spends the pre-command
	if write(breakerExecute, executeClose); !isOpen() {
		t.Error("a pre-command worked twice")
	}
}

// slaves is a line of one Modbus unit.
func slaves() (rtuSlaves, *unit) {
	u := newUnits(&Scenario{Units: []Unit{{Listener: "l", ID: 1, Holding: Cells{{0, 0x1234}}}}})["l/1"]
	return rtuSlaves{1: u}, u
}

var readOne = []byte{1, fcReadHolding, 0, 0, 0, 1, 0x84, 0x0A}

var theOne = []byte{1, fcReadHolding, 2, 0x12, 0x34, 0xB5, 0x33}

func TestModbusFaults(t *testing.T) {
	line, u := slaves()
	as := uint8(9)
	for _, c := range []struct {
		fault Fault
		want  string // unit and function of each reply
	}{
		{Fault{}, "0103"},
		{Fault{Silent: true}, ""},
		{Fault{Lost: true}, ""},
		{Fault{Twice: true}, "0103 0103"},
		{Fault{As: &as}, "0903"},
		{Fault{Refuse: 4}, "018304"},
		{Fault{Busy: true}, "018306"},
	} {
		u.SetFault(c.fault)
		var heads []string
		for _, r := range line.answer(readOne) {
			if crc16(r.bytes) != 0 {
				t.Errorf("%+v: CRC of %x", c.fault, r.bytes)
			}
			heads = append(heads, strings.ToLower(hexHead(r.bytes)))
		}
		if got := strings.Join(heads, " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.fault, got, c.want)
		}
	}
	u.SetFault(Fault{Silent: true, Requests: 2})
	for i, want := range []int{0, 0, 1} {
		if got := len(line.answer(readOne)); got != want {
			t.Errorf("request %d of a fault for two: %d replies", i, got)
		}
	}
}

// hexHead is the head of a frame: three bytes if it is an exception, else two.
func hexHead(f []byte) string {
	const digits = "0123456789abcdef"
	n := 2
	if f[1]&0x80 != 0 {
		n = 3
	}
	var b strings.Builder
	for _, c := range f[:n] {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

func TestModbusTCPFaults(t *testing.T) {
	s := start(t, Options{Hold: true})
	cl := dial(t, s, false)
	as, ask := uint8(9), []byte{fcReadInput, 0, 0, 0, 2}
	for _, c := range []struct {
		fault Fault
		want  int // bytes that come
		head  []byte
	}{
		{Fault{Refuse: 4}, 9, []byte{7, fcReadInput | 0x80, 4}},
		{Fault{As: &as}, 13, []byte{9, fcReadInput}},
		{Fault{Twice: true}, 26, []byte{7, fcReadInput}},
		{Fault{Late: 100 * time.Millisecond}, 13, []byte{7, fcReadInput}},
	} {
		if err := s.SetFault("plant/7", c.fault); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := cl.conn.Write(append([]byte{0, 1, 0, 0, 0, 6, 7}, ask...)); err != nil {
			t.Fatal(err)
		}
		cl.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		got := make([]byte, c.want)
		if _, err := io.ReadFull(cl.conn, got); err != nil || !bytes.HasPrefix(got[6:], c.head) {
			t.Errorf("%+v: %x, %v", c.fault, got, err)
		}
		if since := time.Since(begun); since < c.fault.Late {
			t.Errorf("%+v: answered after %s", c.fault, since)
		}
	}
	if err := s.SetFault("plant/9", Fault{}); !errors.Is(err, ErrUnknownUnit) {
		t.Errorf("a fault of nobody: %v", err)
	}
}

func TestALateDeviceDoesNotHoldUpItsNeighbour(t *testing.T) {
	sc := &Scenario{Units: []Unit{{Listener: "l", ID: 1, Holding: Cells{{0, 1}}}, {Listener: "l", ID: 2, Holding: Cells{{0, 2}}}}}
	units := newUnits(sc)
	near, far := net.Pipe()
	l, err := openLine(Place{Stream: far}, Server{}, nil, rtuSlaves{1: units["l/1"], 2: units["l/2"]})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	units["l/1"].SetFault(Fault{Late: 100 * time.Millisecond})
	near.Write(readOne)
	second := []byte{2, fcReadHolding, 0, 0, 0, 1}
	near.Write(binary.LittleEndian.AppendUint16(second, crc16(second)))
	got := make([]byte, 14)
	if _, err := io.ReadFull(near, got); err != nil || got[0] != 2 || got[7] != 1 {
		t.Errorf("replies %x, %v; want unit 2, then 1", got, err)
	}
}

func TestASerialServerChopsAndBeatsBetween(t *testing.T) {
	line, _ := slaves()
	l, err := openLine(Place{TCP: "127.0.0.1:0"}, Server{
		Chop: 1, Pause: time.Millisecond, Latency: 20 * time.Millisecond, Heartbeat: "HB", Every: 30 * time.Millisecond,
	}, nil, line)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.TCP())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begun := time.Now()
	conn.Write(readOne)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	var all []byte
	reads := 0
	for buf := make([]byte, 64); !bytes.Contains(all, theOne) || !bytes.Contains(all, []byte("HB")); reads++ {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %x: %v", all, err)
		}
		all = append(all, buf[:n]...)
	}
	if reads < 4 {
		t.Errorf("%d bytes came in %d reads", len(all), reads)
	}
	if since := time.Since(begun); since < 20*time.Millisecond {
		t.Errorf("answered after %s", since)
	}
	l.Drop()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection outlives Drop")
	}
}

func TestADTUDialsOutRegistersOnceAndDialsAgain(t *testing.T) {
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	line, _ := slaves()
	l, err := openLine(Place{Dial: front.Addr().String()}, Server{Register: "DTU-0001"}, nil, line)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		conn, err := front.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		for _, want := range []string{"DTU-0001", string(theOne), string(theOne)} {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
				t.Fatalf("%q, %v; want %q", got, err, want)
			}
			conn.Write(readOne)
		}
		conn.Close()
	}
	if n := l.Dialled(); n != 2 {
		t.Errorf("dialled %d times, want 2", n)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
