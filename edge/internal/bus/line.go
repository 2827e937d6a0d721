package bus

import (
	"context"
	"time"
)

// line is a physical link as the exchange sees it. All but interrupt are called
// from the bus goroutine only.
type line interface {
	// open connects; it returns within a few seconds or when ctx ends.
	open(ctx context.Context) error
	isOpen() bool
	// configure sets how characters look from now on. It is called only while the
	// line is silent, and only for a local port.
	configure(Mode) error
	// send writes tx whole.
	send(tx []byte) error
	// receive waits for bytes until a moment; 0 and nil mean that it passed, or
	// that the patience of one wait (see patience) ran out before.
	receive(buf []byte, until time.Time) (int, error)
	// discard drops what has already arrived, without waiting, and says how much;
	// an error if the other end is gone.
	discard() (int, error)
	// rest lets so much time pass, as exactly as the line needs it.
	rest(time.Duration)
	// shut closes; the line can be opened again.
	shut()
	// interrupt makes a waiting call return soon; the line is not used after it.
	interrupt()
}

// newLine makes the line of a link; it does no I/O.
func newLine(link Link, acceptor *Acceptor) (line, error) {
	switch {
	case link.Serial:
		return &serialLine{link: link}, nil
	case link.Listen:
		return newListenLine(link, acceptor)
	default:
		return newTCPLine(link), nil
	}
}

// patience bounds one wait, so that a slow device does not look like a hung
// bus to the watchdog (see Options.Beat), and a serial read sees the end of its context.
const (
	patience       = 1500 * time.Millisecond
	serialPatience = 250 * time.Millisecond
)
