package bus

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"go.bug.st/serial"
)

// serialLine is a local port. It stays open through every fault of framing;
// only an I/O error (an adapter pulled out) closes it.
type serialLine struct {
	link        Link
	port        serial.Port
	interrupted atomic.Bool
	scratch     [512]byte
}

func (l *serialLine) open(context.Context) error {
	port, err := serial.Open(l.link.Address, l.link.Mode.port())
	if err != nil {
		return err
	}
	l.port = port
	return nil
}

func (l *serialLine) configure(m Mode) error { return l.port.SetMode(m.port()) }

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

// send empties the output queue first: a write has no deadline, and would
// block for ever behind bytes that nobody takes.
func (l *serialLine) send(tx []byte) error {
	if err := l.port.ResetOutputBuffer(); err != nil {
		return err
	}
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
		l.port.Close()
		l.port = nil
	}
}

func (l *serialLine) interrupt() { l.interrupted.Store(true) }
