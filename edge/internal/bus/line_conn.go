package bus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// When an idle connection is asked whether the other end is still there, and
// when it is given up. A DTU that lost its mobile network says no goodbye.
const (
	keepAliveIdle     = 30 * time.Second
	keepAliveInterval = 10 * time.Second
	keepAliveCount    = 3
	deadAfter         = keepAliveIdle + keepAliveCount*keepAliveInterval
)

// watch has the kernel notice a dead peer. Probes are sent on a silent
// connection only; where bytes wait to be confirmed, TCP_USER_TIMEOUT counts.
// Bytes leave at once: TCP_NODELAY is set on every connection by package net.
func watch(conn *net.TCPConn) error {
	if err := conn.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}); err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// connLine is what all lines over TCP share, whoever dialled.
type connLine struct {
	conn    *net.TCPConn
	raw     syscall.RawConn
	current atomic.Pointer[net.TCPConn] // conn again, for interrupt

	// peek is the body of discard, made once so that discarding does not allocate.
	peek      func(fd uintptr) bool
	peeked    int
	ended     bool  // the other end has closed
	failed    error // of the connection itself, such as a reset
	heartbeat []byte
	scratch   [512]byte
}

func (l *connLine) rest(d time.Duration) { time.Sleep(d) }

func (l *connLine) init(heartbeat string) {
	l.heartbeat = []byte(heartbeat)
	l.peek = func(fd uintptr) bool {
		n, err := syscall.Read(int(fd), l.scratch[:])
		l.peeked, l.ended, l.failed = max(n, 0), n == 0 && err == nil, nil
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			l.failed = err
		}
		return true
	}
}

// use takes over a new connection.
func (l *connLine) use(ctx context.Context, conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return err
	}
	l.conn, l.raw = conn, raw
	l.current.Store(conn)
	if ctx.Err() != nil { // interrupt may have come before the connection
		l.shut()
		return ctx.Err()
	}
	return nil
}

func (l *connLine) isOpen() bool { return l.conn != nil }

// configure is the serial server's own business.
func (l *connLine) configure(Mode) error { return nil }

func (l *connLine) send(tx []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := l.conn.Write(tx)
	return err
}

func (l *connLine) receive(buf []byte, until time.Time) (int, error) {
	if time.Until(until) > patience {
		until = time.Now().Add(patience)
	}
	if err := l.conn.SetReadDeadline(until); err != nil {
		return 0, err
	}
	n, err := l.conn.Read(buf)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, nil
	}
	return n, err
}

// discard reads past net.Conn: a deadline in the past would not read at all. A
// heartbeat is dropped like the rest and not counted.
func (l *connLine) discard() (int, error) {
	total := 0
	for range 64 {
		if err := l.raw.Read(l.peek); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if err := l.conn.SetReadDeadline(time.Time{}); err != nil {
					return total, err
				}
				continue
			}
			return total, err
		}
		if l.failed != nil {
			return total, l.failed
		}
		if l.ended {
			return total, io.EOF
		}
		total += l.peeked
		if len(l.heartbeat) > 0 {
			total -= len(l.heartbeat) * bytes.Count(l.scratch[:l.peeked], l.heartbeat)
		}
		if l.peeked < len(l.scratch) {
			return total, nil
		}
	}
	return total, nil
}

func (l *connLine) shut() {
	if l.conn == nil {
		return
	}
	l.conn.Close()
	l.conn, l.raw = nil, nil
	l.current.Store(nil)
}
