package bus

import (
	"context"
	"errors"
	"net"
	"time"
)

// listenPatience bounds one wait for a DTU; a beat is due every two seconds.
const listenPatience = 1500 * time.Millisecond

// errNobodyDialled occurs when the DTU of a listening link has not dialled in.
var errNobodyDialled = errors.New("nobody has dialled in")

// listenLine is a serial server that dials in.
type listenLine struct {
	connLine
	acceptor *Acceptor
	claim    *claim
}

// newListenLine claims the link's port; it does no I/O.
func newListenLine(link Link, acceptor *Acceptor) (*listenLine, error) {
	if acceptor == nil {
		return nil, errors.New("a link that is dialled in to needs Options.Acceptor")
	}
	c, err := acceptor.claim(link)
	if err != nil {
		return nil, err
	}
	l := &listenLine{acceptor: acceptor, claim: c}
	l.init(link.Heartbeat)
	return l, nil
}

// open waits for the DTU, with the port open.
func (l *listenLine) open(ctx context.Context) error {
	if err := l.acceptor.ensure(l.claim); err != nil {
		return err
	}
	timer := time.NewTimer(listenPatience)
	defer timer.Stop()
	for {
		if conn := l.acceptor.take(l.claim); conn != nil {
			return l.use(ctx, conn)
		}
		select {
		case <-l.claim.signal:
		case <-timer.C:
			return errNobodyDialled
		case <-ctx.Done():
			return ctx.Err()
		case <-l.claim.gone:
			return net.ErrClosed
		}
	}
}

func (l *listenLine) shut() {
	if l.conn != nil {
		l.acceptor.leave(l.claim, l.conn)
	}
	l.connLine.shut()
}

// interrupt gives the port back: the line is not used again.
func (l *listenLine) interrupt() { l.acceptor.release(l.claim) }
