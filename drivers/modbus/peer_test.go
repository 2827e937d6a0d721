package modbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/point"
)

// line is the least that a Link can be over a connection or a terminal.
type line struct {
	port interface {
		io.ReadWriter
		SetReadDeadline(time.Time) error
	}
	rx [512]byte
}

func (l *line) Exchange(_ context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	if _, err := l.port.Write(tx); err != nil {
		return nil, fmt.Errorf("%w: %w", drivers.ErrLinkDown, err)
	}
	if err := l.port.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	for end := 0; end < len(l.rx); {
		n, err := l.port.Read(l.rx[end:])
		if err != nil {
			return nil, fmt.Errorf("%w: % x, then %w", drivers.ErrNoReply, l.rx[:end], err)
		}
		end += n
		switch need, err := f(l.rx[:end]); {
		case err != nil:
			return nil, fmt.Errorf("% x for % x: %w", l.rx[:end], tx, err)
		case need == 0:
			return l.rx[:end], nil
		}
	}
	return nil, drivers.ErrNoReply
}

// orders are the ways a device lays out its words, and pymodbus' names of them.
var orders = []struct{ bytes, words, order string }{
	{"Big", "Big", "HL"}, {"Big", "Little", "LH"}, {"Little", "Big", "HL"}, {"Little", "Little", "LH"},
}

// numbers are what pymodbus lays out; each is read back.
var numbers = []struct{ method, kind, value string }{
	{"16bit_uint", "u16", "258"}, {"16bit_int", "s16", "-2"},
	{"32bit_uint", "u32", "16909060"}, {"32bit_int", "s32", "-16909060"}, {"32bit_float", "f32", "230.1"},
	{"64bit_uint", "u64", "1108152157446"}, {"64bit_int", "s64", "-1108152157446"}, {"64bit_float", "f64", "-0.1"},
}

// encoded has pymodbus lay out every number in every order: registers from 100.
func encoded(t *testing.T) map[int]int {
	t.Helper()
	drivertest.Need(t, "/usr/bin/python3")
	var program strings.Builder
	program.WriteString("import json\nfrom pymodbus.payload import BinaryPayloadBuilder as B\nfrom pymodbus.constants import Endian as E\nout = []\n")
	for _, o := range orders {
		fmt.Fprintf(&program, "b = B(byteorder=E.%s, wordorder=E.%s)\n", o.bytes, o.words)
		for _, n := range numbers {
			fmt.Fprintf(&program, "b.add_%s(%s)\n", n.method, n.value)
		}
		program.WriteString("out += b.to_registers()\n")
	}
	program.WriteString("print(json.dumps(out))\n")
	out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", program.String()).Output()
	if err != nil {
		drivertest.Need(t, "python3-pymodbus")
		t.Fatal(err)
	}
	var registers []int
	if err := json.Unmarshal(out, &registers); err != nil {
		t.Fatal(err)
	}
	table := make(map[int]int)
	for i, v := range registers {
		table[100+i] = v
	}
	return table
}

// peerSpec is a device that reads all of that, and has outputs of every kind.
func peerSpec(framing drivers.Framing) (s drivers.Spec, want map[point.ID]string) {
	s, want = drivers.Spec{Device: "d", Framing: framing, Address: 1, Every: time.Second}, make(map[point.ID]string)
	address := uint32(100)
	for _, o := range orders {
		for _, n := range numbers {
			p := holding(n.kind+"_"+o.bytes+o.words, address)
			p.Type, p.Order, p.Swap = n.kind, o.order, o.bytes == "Little"
			address += uint32(width(&p))
			s.Points, want[p.ID] = append(s.Points, p), n.value
		}
	}
	for i, o := range []drivers.Output{
		{At: drivers.Item{Space: "coil", Address: 0}},
		{At: drivers.Item{Space: "coil", Address: 1}, Multiple: true},
		{At: drivers.Item{Space: "holding", Address: 0}, On: code16(0x0605), Off: code16(7)},
		{At: drivers.Item{Space: "holding", Address: 1}, On: code16(0xFFFF), Off: code16(8), Multiple: true},
	} {
		p := drivers.PointSpec{ID: point.MakeID("d", fmt.Sprint("out", i)), Kind: point.Bool, At: o.At, Write: &o}
		if o.On != nil {
			on, off := uint64(*o.On), uint64(*o.Off)
			p.Active, p.Inactive = &on, &off
		}
		s.Points = append(s.Points, p)
		want[p.ID] = "false"
	}
	at := func(address uint32) drivers.Item { return drivers.Item{Space: "holding", Address: address} }
	s.Commands = []drivers.Command{
		{Name: "close", Steps: []drivers.Step{{At: at(2), Value: 0x0155, Pause: time.Millisecond}, {At: at(3), Value: 0x01AA, Multiple: true}}},
		{Name: "impossible", Steps: []drivers.Step{{At: at(2), Value: 0x0255}, {At: at(9000), Value: 1, Multiple: true}, {At: at(3), Value: 0x02AA}}},
	}
	return s, want
}

func peerTables(t *testing.T) map[int]drivertest.Tables {
	holding := encoded(t)
	for i, v := range []int{7, 8, 0, 0} {
		holding[i] = v
	}
	return map[int]drivertest.Tables{1: {"holding": holding, "coil": {0: 0, 1: 0}}}
}

// against reads all, writes all, reads again, and gives both commands.
func against(t *testing.T, s drivers.Spec, want map[point.ID]string, link drivers.Link) {
	t.Helper()
	d := build(t, s, link)
	compare := func() {
		t.Helper()
		seen := 0
		for i := range d.Jobs() {
			if err := d.Do(t.Context(), i, func(r point.Reading) {
				seen++
				if r.Value.String() != want[r.Point] || r.Quality != point.Good {
					t.Errorf("%s = %v (%v), want %s", r.Point, r.Value, r.Quality, want[r.Point])
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		if seen != len(want) {
			t.Errorf("%d readings, want %d", seen, len(want))
		}
	}
	compare()
	for _, on := range []bool{true, false, true} {
		for i := range 4 {
			id := point.MakeID("d", fmt.Sprint("out", i))
			if err := d.Write(t.Context(), id, point.Truth(on)); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			want[id] = fmt.Sprint(on)
		}
		compare()
	}
	if err := d.Command(t.Context(), "close"); err != nil {
		t.Error(err)
	}
	if err := d.Command(t.Context(), "impossible"); !errors.Is(err, drivers.ErrRefused) || !strings.Contains(err.Error(), "step 2 of 3") {
		t.Errorf("a step that the peer refuses: %v", err)
	}
}

func TestPymodbusOverTCP(t *testing.T) {
	t.Parallel()
	address := drivertest.PymodbusTCP(t, peerTables(t))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, want := peerSpec(drivers.TCP)
	against(t, s, want, &line{port: c})
	// libmodbus sees what pymodbus was told.
	if got := mbpoll(t, address, "-t", "4", "-r", "0", "-c", "4"); got != "1541 65535 597 426" {
		t.Errorf("registers as mbpoll reads them: %s", got)
	}
	if got := mbpoll(t, address, "-t", "0", "-r", "0", "-c", "2"); got != "1 1" {
		t.Errorf("coils as mbpoll reads them: %s", got)
	}
}

func TestPymodbusOverASerialLine(t *testing.T) {
	t.Parallel()
	ours, theirs := drivertest.SocatPair(t)
	drivertest.PymodbusRTU(t, peerTables(t), theirs)
	fd, err := syscall.Open(ours, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	port := os.NewFile(uintptr(fd), ours)
	defer port.Close()
	s, want := peerSpec(drivers.RTU)
	against(t, s, want, &line{port: port})
}

// mbpoll asks a TCP server with libmodbus and returns the values it printed.
func mbpoll(t *testing.T, address string, args ...string) string {
	t.Helper()
	drivertest.Need(t, "mbpoll")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-m", "tcp", "-p", port, "-a", "1", "-0", "-1", "-o", "5"}, append(args, host)...)
	out, err := exec.CommandContext(t.Context(), "mbpoll", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("mbpoll: %v: %s", err, out)
	}
	var values []string
	for _, m := range regexp.MustCompile(`(?m)^\[\d+\]:\s+(\d+)`).FindAllSubmatch(out, -1) {
		values = append(values, string(m[1]))
	}
	return strings.Join(values, " ")
}
