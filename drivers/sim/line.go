package sim

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// frameSilence ends a frame that is not complete. It is far above 3.5
// characters because neither a pseudo-terminal nor a network keeps time.
const frameSilence = 50 * time.Millisecond

// redial is how long a serial server waits before it dials again.
const redial = 500 * time.Millisecond

// Device is what hangs on a line: a Reader, Meter, GasModule or TextReader. One
// line carries devices of one kind.
type Device interface {
	// join adds the device to what hangs on its line already (nil: nothing yet).
	join(station) (station, error)
}

// station is all that hangs on one line. It knows its frames and its devices.
type station interface {
	// split says what begins in rx: a frame of n bytes (n > 0), what may become a
	// frame (0), or nothing, so that -n bytes are to be skipped.
	split(rx []byte) int
	// answer obeys a frame.
	answer(frame []byte) []reply
}

// Place is where a line is reached: exactly one field is set.
type Place struct {
	PTY    *string            // path of a link to a pseudo-terminal; "" makes no link
	TCP    string             // address on which a serial server listens
	Dial   string             // address to which a serial server dials out
	Stream io.ReadWriteCloser // an end that is open already, in memory for one
}

// Server is what a serial server adds to a line that is reached by TCP.
type Server struct {
	Chop      int           `yaml:"chop"`      // bytes sent at a time; 0: all
	Pause     time.Duration `yaml:"pause"`     // between them
	Latency   time.Duration `yaml:"latency"`   // before each reply
	Heartbeat string        `yaml:"heartbeat"` // sent unasked
	Every     time.Duration `yaml:"every"`     // so often
	Register  string        `yaml:"register"`  // sent once when it has dialled out
}

// Line is devices that answer at one place.
type Line struct {
	station station
	talker  *TextReader // nil: nothing talks unasked
	server  Server
	log     *slog.Logger
	pty     *pty
	front   net.Listener
	done    chan struct{} // closed by Close
	wg      sync.WaitGroup
	dialled atomic.Uint64

	mu     sync.Mutex // guards the two below
	ends   map[*end]struct{}
	closed bool
}

// Open lets devices answer at a place until the line is closed.
func Open(at Place, server Server, log *slog.Logger, devices ...Device) (*Line, error) {
	var s station
	var errs []error
	for _, d := range devices {
		var err error
		if s, err = d.join(s); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	if s == nil {
		return nil, errors.New("sim: a line without devices")
	}
	return openLine(at, server, log, s)
}

func openLine(at Place, server Server, log *slog.Logger, s station) (*Line, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Line{station: s, server: server, log: log, done: make(chan struct{}), ends: make(map[*end]struct{})}
	l.talker, _ = s.(*TextReader)
	var err error
	switch {
	case at.PTY != nil:
		if l.pty, err = openPTY(*at.PTY); err != nil {
			return nil, err
		}
		l.serve(terminal{l.pty.master}, "")
	case at.Stream != nil:
		l.serve(at.Stream, "")
	case at.Dial != "":
		l.wg.Go(func() { l.dial(at.Dial) })
	default:
		if l.front, err = net.Listen("tcp", at.TCP); err != nil {
			return nil, err
		}
		l.wg.Go(l.accept)
	}
	return l, nil
}

// TCP returns where the line listens, or "" if it does not.
func (l *Line) TCP() string {
	if l.front == nil {
		return ""
	}
	return l.front.Addr().String()
}

// PTY returns the terminal a client opens, or "" if there is none.
func (l *Line) PTY() string {
	if l.pty == nil {
		return ""
	}
	return l.pty.path
}

// Dialled counts the connections made by dialling out.
func (l *Line) Dialled() uint64 { return l.dialled.Load() }

// Drop cuts every connection; a line that dials out dials again. A terminal has
// no connection to cut.
func (l *Line) Drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.ends {
		e.rw.Close()
	}
}

// Close takes the line down and waits for all of it.
func (l *Line) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	close(l.done)
	var errs []error
	if l.front != nil {
		errs = append(errs, l.front.Close())
	}
	if l.pty != nil {
		errs = append(errs, l.pty.Close())
	}
	l.Drop()
	l.wg.Wait()
	return errors.Join(errs...)
}

func (l *Line) accept() {
	for {
		c, err := l.front.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("accept failed", "error", err)
			if !sleep(l.done, redial) {
				return
			}
			continue
		}
		l.serve(c, "")
	}
}

// dial keeps one connection to addr.
func (l *Line) dial(addr string) {
	for {
		c, err := net.DialTimeout("tcp", addr, 2*time.Second)
		if err != nil {
			l.log.Debug("dialling out failed", "error", err)
		} else if e := l.serve(c, l.server.Register); e != nil {
			l.dialled.Add(1)
			<-e.gone
		}
		if !sleep(l.done, redial) {
			return
		}
	}
}

// sleep returns false if gone was closed before d passed.
func sleep(gone <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-gone:
		return false
	case <-t.C:
		return true
	}
}

// terminal is the master side of a pseudo-terminal, which the line itself closes.
type terminal struct{ *os.File }

func (terminal) Close() error { return nil }

// end is one connection to a line.
type end struct {
	line *Line
	rw   io.ReadWriteCloser
	gone chan struct{} // closed when nothing more is read

	mu sync.Mutex // held while bytes are sent, so that frames do not mix
}

// serve answers what comes from rw; nil if the line is closing.
func (l *Line) serve(rw io.ReadWriteCloser, greeting string) *end {
	e := &end{line: l, rw: rw, gone: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		rw.Close()
		return nil
	}
	l.ends[e] = struct{}{}
	arrived := make(chan []byte)
	l.wg.Go(func() { e.read(arrived) })
	l.wg.Go(func() { e.run(arrived, greeting) })
	return e
}

// read passes on what arrives until the connection ends.
func (e *end) read(arrived chan<- []byte) {
	defer close(arrived)
	for {
		buf := make([]byte, maxFrame)
		n, err := e.rw.Read(buf)
		if n > 0 {
			arrived <- buf[:n]
		}
		if err != nil {
			return // closed; a terminal's other side is held open by us
		}
	}
}

// run answers whole frames and drops what stays incomplete.
func (e *end) run(arrived <-chan []byte, greeting string) {
	l := e.line
	e.send([]byte(greeting))
	if l.talker != nil {
		defer l.talker.attach(e.send)()
	}
	if l.server.Every > 0 {
		l.wg.Go(e.beat)
	}
	defer func() {
		close(e.gone)
		e.rw.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.ends, e)
	}()
	silence := time.NewTimer(frameSilence)
	defer silence.Stop()
	var rx []byte
	for {
		select {
		case p, open := <-arrived:
			if !open {
				return
			}
			rx = e.consume(append(rx, p...))
			silence.Reset(frameSilence)
		case <-silence.C:
			if len(rx) > 0 {
				l.log.Debug("incomplete frame dropped", "bytes", len(rx))
			}
			rx = nil
		}
	}
}

// consume answers every frame in rx and returns what may begin the next one.
func (e *end) consume(rx []byte) []byte {
	for len(rx) > 0 {
		n := e.line.station.split(rx)
		if n == 0 {
			break
		}
		if n > 0 {
			for _, r := range e.line.station.answer(rx[:n]) {
				e.reply(r)
			}
		}
		rx = rx[max(n, -n):]
	}
	return rx
}

// reply sends r at its time. A device that is late does not keep its
// neighbours from answering.
func (e *end) reply(r reply) {
	after := r.after + e.line.server.Latency
	if after == 0 {
		e.send(r.bytes)
		return
	}
	e.line.wg.Go(func() {
		if sleep(e.gone, after) {
			e.send(r.bytes)
		}
	})
}

// beat sends the heartbeat of a serial server.
func (e *end) beat() {
	for sleep(e.gone, e.line.server.Every) {
		e.send([]byte(e.line.server.Heartbeat))
	}
}

// send writes p, in pieces if the server chops.
func (e *end) send(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(p) > 0 {
		n := len(p)
		if c := e.line.server.Chop; c > 0 {
			n = min(n, c)
		}
		if _, err := e.rw.Write(p[:n]); err != nil {
			e.line.log.Debug("reply not written", "error", err)
			return
		}
		if p = p[n:]; len(p) > 0 && e.line.server.Pause > 0 && !sleep(e.gone, e.line.server.Pause) {
			return
		}
	}
}
