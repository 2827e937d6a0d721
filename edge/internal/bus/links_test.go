package bus_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/edge/internal/bus"
)

// serialServer is a slave behind a serial server that says its packets in the
// ways such devices do.
func serialServer(packets ...func(reply []byte) [][]byte) drivertest.Handler {
	n := 0
	return func(w io.Writer, request []byte) error {
		reply := drivertest.ReplyRTU(nil, request, func(_, _ byte, _ uint16) uint16 { return 7 })
		way := packets[n%len(packets)]
		n++
		for _, p := range way(reply) {
			if _, err := w.Write(p); err != nil {
				return err
			}
		}
		return nil
	}
}

// split cuts bytes into segments of one.
func split(p []byte) (out [][]byte) {
	for i := range p {
		out = append(out, p[i:i+1])
	}
	return out
}

// beat is a heartbeat that begins like a reply of this slave (unit 1, function 3).
var beat = []byte{0x01, 0x03, 0x02, 0x00}

func TestRTUOverTCPInPieces(t *testing.T) {
	t.Parallel()
	ways := []func([]byte) [][]byte{
		split, // byte by byte
		func(r []byte) [][]byte { return append([][]byte{beat}, split(r)...) },                      // a heartbeat before
		func(r []byte) [][]byte { return append(split(beat), r) },                                   // itself in pieces
		func(r []byte) [][]byte { return [][]byte{bytes.Join([][]byte{beat, beat, r, beat}, nil)} }, // glued
		func(r []byte) [][]byte { return [][]byte{r, beat[:2], beat[2:]} },                          // behind
		func(r []byte) [][]byte { return [][]byte{r} },
	}
	registry, rec := prometheus.NewRegistry(), newRecorder()
	address, _ := drivertest.Serve(t, drivertest.RTURequest, serialServer(ways...))
	start(t, bus.Options{ID: "b", Link: "tcp://" + address + "?heartbeat=01030200", Framing: drivers.RTU, Timeout: time.Second,
		Gap: time.Millisecond, Emit: rec.take, Registerer: registry}, one(drivers.RTU, 5*time.Millisecond))
	drivertest.Eventually(t, 10*time.Second, "sixty readings", func() bool { return rec.times("d/v") > 60 })
	for _, r := range rec.snapshot() {
		if r.Value.Num != 7 {
			t.Errorf("read %v", r.Value)
		}
	}
	if failed, err := gather(registry, "gatehouse_poll_errors_total"); failed != 0 || err != nil {
		t.Errorf("%v polls failed, %v", failed, err)
	}
	if connects, err := gather(registry, "gatehouse_bus_connects_total"); connects != 1 || err != nil {
		t.Errorf("connected %v times, %v", connects, err)
	}
}

// A reply that the framer accepts is never cut, though it holds the heartbeat.
func TestAHeartbeatInsideAReplyIsData(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	address, _ := drivertest.Serve(t, drivertest.RTURequest, serialServer(func(r []byte) [][]byte { return [][]byte{r[:3], r[3:]} }))
	// The reply is 01 03 02 00 07 ...: it begins with the heartbeat, and holds 00.
	for _, heartbeat := range []string{"010302", "00", "0007"} {
		start(t, bus.Options{ID: heartbeat, Link: "tcp://" + address + "?heartbeat=" + heartbeat, Framing: drivers.RTU, Timeout: time.Second,
			Emit: rec.take}, one(drivers.RTU, 10*time.Millisecond))
		before := rec.times("d/v")
		drivertest.Eventually(t, 10*time.Second, "ten readings", func() bool { return rec.times("d/v") > before+10 })
	}
	for _, r := range rec.snapshot() {
		if r.Value.Num != 7 {
			t.Errorf("read %v", r.Value)
		}
	}
}

// Some serial servers put their registration before every packet: it is noise
// that is slid over and counted.
func TestARegistrationBeforeEveryPacketIsForeign(t *testing.T) {
	t.Parallel()
	registry, rec := prometheus.NewRegistry(), newRecorder()
	address, _ := drivertest.Serve(t, drivertest.RTURequest,
		serialServer(func(r []byte) [][]byte { return [][]byte{append([]byte("USR-0042"), r...)} }))
	start(t, bus.Options{ID: "b", Link: "tcp://" + address, Framing: drivers.RTU, Emit: rec.take, Registerer: registry},
		one(drivers.RTU, 10*time.Millisecond))
	drivertest.Eventually(t, 10*time.Second, "ten readings", func() bool { return rec.times("d/v") > 10 })
	if foreign, err := gather(registry, "gatehouse_bus_foreign_bytes_total"); err != nil || foreign < 80 {
		t.Errorf("%v foreign bytes counted, %v", foreign, err)
	}
}

// dtu dials an address, registers, and serves a slave until ctx ends; a closed
// connection is dialled again.
func dtu(ctx context.Context, address, registration string, handle drivertest.Handler) {
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		io.WriteString(conn, registration)
		request := make([]byte, drivertest.RTURequest)
		for {
			if _, err := io.ReadFull(conn, request); err != nil {
				break
			}
			if err := handle(conn, request); err != nil {
				break
			}
		}
		stop()
		conn.Close()
	}
}

func TestTwoDTUsDialInToOnePort(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var address string
	acceptor := bus.NewAcceptor(nil)
	t.Cleanup(acceptor.Close)
	acceptor.ListenWith(func(string) (net.Listener, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			mu.Lock()
			address = l.Addr().String()
			mu.Unlock()
		}
		return l, err
	})
	recorders := map[string]*recorder{"5A01": newRecorder(), "5A02": newRecorder()}
	registry := prometheus.NewRegistry()
	for registration, rec := range recorders {
		start(t, bus.Options{ID: registration, Link: "tcp-listen://:9000?register=" + registration, Framing: drivers.RTU,
			Timeout: 200 * time.Millisecond, Emit: rec.take, Acceptor: acceptor, Registerer: registry}, one(drivers.RTU, 10*time.Millisecond))
	}
	drivertest.Eventually(t, 5*time.Second, "open port", func() bool { mu.Lock(); defer mu.Unlock(); return address != "" })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	for unit, registration := range []string{"Z\x01", "Z\x02"} {
		asked := 0
		wg.Go(func() {
			dtu(ctx, address, registration, func(w io.Writer, request []byte) error {
				if asked++; asked%20 == 0 {
					return io.EOF // the mobile network is lost
				}
				if asked%20 == 10 {
					return nil // the slave is mute once; the DTU is still there
				}
				_, err := w.Write(drivertest.ReplyRTU(nil, request, func(_, _ byte, _ uint16) uint16 { return uint16(unit) }))
				return err
			})
		})
	}
	for registration, rec := range recorders {
		drivertest.Eventually(t, 20*time.Second, "thirty readings of "+registration, func() bool { return rec.times("d/v") > 30 })
		for _, r := range rec.snapshot() {
			if want := float64(registration[3] - '1'); r.Value.Num != want {
				t.Fatalf("%s read %v", registration, r.Value)
			}
		}
	}
}

// An adapter is pulled and replaced twenty times; nothing is left behind.
func TestAnAdapterPulledTwentyTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "adapter")
	rec := newRecorder()
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	registry := prometheus.NewRegistry()
	b := start(t, bus.Options{ID: "b", Link: "serial:" + path + "?baud=115200", Timeout: 100 * time.Millisecond, Emit: rec.take,
		Registerer: registry}, one(drivers.RTU, 10*time.Millisecond))
	before, routines := files(), runtime.NumGoroutine()
	for i := range 20 {
		t.Run("", func(t *testing.T) { // its terminal and slave end with it
			master, port := drivertest.PTY(t)
			drivertest.ServePTY(t, master, drivertest.RTURequest, constant(uint16(i)))
			if err := os.Symlink(port, path); err != nil {
				t.Fatal(err)
			}
			seen := rec.times("d/v")
			drivertest.Eventually(t, 10*time.Second, "readings", func() bool { return rec.times("d/v") > seen+2 })
			os.Remove(path)
			master.Close()
			drivertest.Eventually(t, 10*time.Second, "loss seen", func() bool { return !b.Up() })
		})
	}
	if connects, err := gather(registry, "gatehouse_bus_connects_total"); connects != 20 || err != nil {
		t.Errorf("connected %v times, %v", connects, err)
	}
	drivertest.Eventually(t, 5*time.Second, "same number of descriptors", func() bool { return files() <= before })
	drivertest.Eventually(t, 5*time.Second, "same number of goroutines", func() bool { return runtime.NumGoroutine() <= routines })
}
