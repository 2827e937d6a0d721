package bus

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// Bounds of the time in which the port must have sent what it was given.
const (
	sendSlack = 100 * time.Millisecond // of adapters and their latency timers
	drainPoll = time.Millisecond
)

// errStuck occurs when a port does not send what it was given.
var errStuck = errors.New("the port does not send what it was given")

// serialLine is a local port. It stays open through every fault of framing;
// only an I/O error (an adapter pulled out) closes it. While it is open it is
// locked against every other bus and process.
type serialLine struct {
	link        Link
	mode        Mode
	port        serial.Port
	lock        int       // descriptor that holds the lock, while port is open
	sentBy      time.Time // when all that was sent must be on the wire
	interrupted atomic.Bool
	scratch     [512]byte
}

func (l *serialLine) open(context.Context) error {
	lock, err := lockPort(l.link.Address)
	if err != nil {
		return err
	}
	port, err := openPrivately(l.link.Address, l.link.Mode.port(), lock)
	if err != nil {
		unix.Close(lock)
		return err
	}
	if err := setRS485(lock, l.link.RS485); err != nil {
		port.Close()
		unix.Close(lock)
		return err
	}
	l.port, l.lock, l.mode, l.sentBy = port, lock, l.link.Mode, time.Time{}
	return nil
}

// configure changes how characters look. A change takes effect at once, on
// characters that still wait too, so they go out first.
func (l *serialLine) configure(m Mode) error {
	if err := l.drain(); err != nil {
		return err
	}
	if err := l.port.SetMode(m.port()); err != nil {
		return err
	}
	l.mode = m
	return nil
}

// exactRest is up to where a rest is taken in the kernel. The runtime's timers
// come up to a millisecond late, which is a third of the silence at 9600 baud.
const exactRest = 20 * time.Millisecond

func (l *serialLine) rest(d time.Duration) {
	if d > exactRest {
		time.Sleep(d - exactRest)
		d = exactRest
	}
	for left := unix.NsecToTimespec(int64(d)); unix.Nanosleep(&left, &left) == unix.EINTR; {
	}
}

// drain waits until all is on the wire. The kernel's own wait (tcdrain) has no
// bound while its buffer is not empty; with only the chip's left, it has.
func (l *serialLine) drain() error {
	deadline := l.sentBy.Add(sendSlack)
	for {
		queued, err := unix.IoctlGetInt(l.lock, unix.TIOCOUTQ)
		switch {
		case err != nil:
			return err
		case queued == 0:
			return l.port.Drain()
		case time.Now().After(deadline):
			return errStuck
		}
		time.Sleep(drainPoll)
	}
}

// port is the mode in the library's words.
func (m Mode) port() *serial.Mode {
	mode := &serial.Mode{BaudRate: m.Baud, DataBits: 8, Parity: serial.NoParity, StopBits: serial.OneStopBit}
	switch m.Parity {
	case ParityEven:
		mode.Parity = serial.EvenParity
	case ParityOdd:
		mode.Parity = serial.OddParity
	}
	if m.StopBits == 2 {
		mode.StopBits = serial.TwoStopBits
	}
	return mode
}

func (l *serialLine) isOpen() bool { return l.port != nil }

// send does not wait until tx is on the wire. It empties the output queue if that
// should long be empty: a write has no deadline, and would block for ever
// behind bytes that nobody takes. Bytes just sent, as to wake a device, stay.
func (l *serialLine) send(tx []byte) error {
	now := time.Now()
	if now.After(l.sentBy) {
		if err := l.port.ResetOutputBuffer(); err != nil {
			return err
		}
		l.sentBy = now.Add(sendSlack)
	}
	l.sentBy = l.sentBy.Add(l.mode.charTime(len(tx)))
	n, err := l.port.Write(tx)
	if err == nil && n < len(tx) {
		err = io.ErrShortWrite
	}
	return err
}

func (l *serialLine) receive(buf []byte, until time.Time) (int, error) {
	if l.interrupted.Load() {
		return 0, context.Canceled
	}
	wait := min(max(time.Until(until), 0), serialPatience)
	if err := l.port.SetReadTimeout(wait); err != nil {
		return 0, err
	}
	return l.port.Read(buf)
}

func (l *serialLine) discard() (int, error) {
	if err := l.port.SetReadTimeout(0); err != nil {
		return 0, err
	}
	total := 0
	for range 64 {
		n, err := l.port.Read(l.scratch[:])
		total += n
		if n == 0 || err != nil {
			return total, err
		}
	}
	return total, nil
}

func (l *serialLine) shut() {
	if l.port != nil {
		_ = l.port.ResetOutputBuffer() // Linux waits up to half a minute for bytes that nobody takes
		l.port.Close()
		l.port = nil
		unix.Close(l.lock) // last: until here nobody else can have it
	}
}

func (l *serialLine) interrupt() { l.interrupted.Store(true) }
