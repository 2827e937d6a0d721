package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/drivers/modbus"
	"gatehouse/protocol/point"
)

// server accepts on a free port and has each connection handled.
func server(t *testing.T, handle func(*net.TCPConn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// A server that accepts every connection and hangs up is not called upon without
// pause, nor the log filled, be its device asked or listened to.
func TestAServerThatHangsUpIsLeftInPeace(t *testing.T) {
	t.Parallel()
	for _, talks := range []bool{true, false} {
		var accepts atomic.Int32
		address := server(t, func(*net.TCPConn) { accepts.Add(1) })
		log := &logBuffer{}
		b, err := New(Options{ID: "b", Link: "tcp://" + address, Framing: drivers.RTU, Retries: 3, Emit: func([]point.Reading) {},
			Log: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if talks {
			err = b.Attach("d", &lister{link: b.Link("d", Timing{})})
		} else {
			err = b.Attach("d", &fakeDriver{number: 1, link: b.Link("d", Timing{}), jobs: []drivers.Job{{Every: time.Millisecond}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.Run(ctx)
		if n := accepts.Load(); n < 2 || n > 6 {
			t.Errorf("talks %v: called upon %d times in a second", talks, n)
		}
		if n := strings.Count(log.String(), "link lost"); n != 1 || strings.Contains(log.String(), "link is back") {
			t.Errorf("talks %v: %d lines:\n%s", talks, n, log)
		}
	}
}

// A server that closes after each reply costs no poll and no order.
func TestAServerThatClosesAfterEachReplyLosesNothing(t *testing.T) {
	t.Parallel()
	address := server(t, func(c *net.TCPConn) {
		tx := make([]byte, 12) // MBAP header and a request of five bytes
		if n, err := c.Read(tx); err != nil || n != len(tx) {
			return
		}
		if tx[7] == 3 { // read one register
			rx := append(tx[:8:8], 2, 0, 7)
			binary.BigEndian.PutUint16(rx[4:], 5)
			c.Write(rx)
			return
		}
		c.Write(tx)
	})
	var got atomic.Int32
	b, err := New(Options{ID: "b", Link: "tcp://" + address, Framing: drivers.TCP, Emit: func([]point.Reading) { got.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	d, err := modbus.New(drivers.Spec{Device: "m", Framing: drivers.TCP, Address: 1, Every: 50 * time.Millisecond,
		Points:   []drivers.PointSpec{{ID: "m/v", Kind: point.Number, At: drivers.Item{Space: "holding", Address: 0}}},
		Commands: []drivers.Command{{Name: "close", Steps: []drivers.Step{{At: drivers.Item{Space: "holding", Address: 1}, Value: 1}}}},
	}, drivers.Deps{Link: b.Link("m", Timing{})})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Attach("m", d); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	for i := range int32(10) {
		drivertest.Eventually(t, 5*time.Second, "reading", func() bool { return got.Load() > 2*i })
		<-time.After(20 * time.Millisecond) // the end of the connection has come
		if err := b.Command(ctx, "m", "close"); err != nil {
			t.Errorf("order %d: %v", i, err)
		}
	}
	cancel()
	wg.Wait()
	if n := b.devices[0].metrics.demotions.Load(); n != 0 {
		t.Errorf("demoted %d times", n)
	}
}

func TestAResetIsSeenBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	opened := make(chan struct{})
	address := server(t, func(c *net.TCPConn) {
		<-opened
		c.SetLinger(0)
	})
	l := newTCPLine(Link{Address: address})
	err := l.open(t.Context())
	close(opened)
	if err != nil {
		t.Fatal(err)
	}
	defer l.shut()
	drivertest.Eventually(t, 5*time.Second, "reset", func() bool { _, err = l.discard(); return err != nil })
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}
