package bus

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// dialTimeout bounds a connect; a serial server on the same site answers in
// milliseconds, a lost SYN is sent again after one second, and a
// beat is due every two.
const dialTimeout = 1800 * time.Millisecond

// tcpLine is a Modbus TCP endpoint or a serial server.
type tcpLine struct {
	address string
	conn    *net.TCPConn
	raw     syscall.RawConn
	current atomic.Pointer[net.TCPConn] // conn again, for interrupt

	// peek is the body of discard, made once so that discarding does not allocate.
	peek    func(fd uintptr) bool
	peeked  int
	ended   bool // the other end has closed
	scratch [512]byte
}

func newTCPLine(address string) *tcpLine {
	l := &tcpLine{address: address}
	l.peek = func(fd uintptr) bool {
		n, err := syscall.Read(int(fd), l.scratch[:])
		l.peeked, l.ended = max(n, 0), n == 0 && err == nil
		return true
	}
	return l
}

func (l *tcpLine) open(ctx context.Context) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	c, err := dialer.DialContext(ctx, "tcp", l.address)
	if err != nil {
		return err
	}
	conn := c.(*net.TCPConn)
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

func (l *tcpLine) isOpen() bool { return l.conn != nil }

// configure is the serial server's own business.
func (l *tcpLine) configure(Mode) error { return nil }

func (l *tcpLine) send(tx []byte) error {
	_, err := l.conn.Write(tx)
	return err
}

func (l *tcpLine) receive(buf []byte, until time.Time) (int, error) {
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

// discard reads past net.Conn: a deadline in the past would not read at all.
func (l *tcpLine) discard() (int, error) {
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
		if l.ended {
			return total, io.EOF
		}
		total += l.peeked
		if l.peeked < len(l.scratch) {
			return total, nil
		}
	}
	return total, nil
}

func (l *tcpLine) shut() {
	if l.conn == nil {
		return
	}
	l.conn.Close()
	l.conn, l.raw = nil, nil
	l.current.Store(nil)
}

func (l *tcpLine) interrupt() {
	if c := l.current.Load(); c != nil {
		c.Close()
	}
}
