package bus

import (
	"context"
	"net"
	"time"
)

// dialTimeout bounds a connect; a serial server on the same site answers in
// milliseconds, a lost SYN is sent again after one second, and a
// beat is due every two.
const dialTimeout = 1800 * time.Millisecond

// tcpLine is a Modbus TCP endpoint or a serial server that waits for us.
type tcpLine struct {
	connLine
	address string
}

func newTCPLine(link Link) *tcpLine {
	l := &tcpLine{address: link.Address}
	l.init(link.Heartbeat)
	return l
}

func (l *tcpLine) open(ctx context.Context) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	c, err := dialer.DialContext(ctx, "tcp", l.address)
	if err != nil {
		return err
	}
	conn := c.(*net.TCPConn)
	if err := watch(conn); err != nil {
		conn.Close()
		return err
	}
	return l.use(ctx, conn)
}

func (l *tcpLine) interrupt() {
	if c := l.current.Load(); c != nil {
		c.Close()
	}
}
