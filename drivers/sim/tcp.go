package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/simonvetter/modbus"
)

// Lengths of the Modbus TCP frame (Modbus Messaging on TCP/IP V1.0b, 3.1.3).
const (
	mbapLen  = 7
	maxFrame = 260
)

// tcpListener is one public address. The library's server answers behind it;
// between them stands a relay, because the library can neither listen on a
// port chosen by the system and say which, nor leave a request unanswered, nor
// take the coil values of a timed pulse.
type tcpListener struct {
	units  map[uint8]*unit
	log    *slog.Logger
	front  net.Listener
	server *modbus.ModbusServer
	back   string // where the server listens
	wg     sync.WaitGroup

	mu     sync.Mutex // guards the two below
	conns  map[net.Conn]struct{}
	closed bool
}

func listenTCP(addr string, units map[uint8]*unit, log *slog.Logger) (*tcpListener, error) {
	t := &tcpListener{units: units, log: log, conns: make(map[net.Conn]struct{})}
	var err error
	if t.server, t.back, err = startServer(units, log); err != nil {
		return nil, err
	}
	if t.front, err = net.Listen("tcp", addr); err != nil {
		return nil, errors.Join(err, t.server.Stop())
	}
	t.wg.Go(t.accept)
	return t, nil
}

// startServer starts the library's server on a free port of loopback. The port
// is found by asking for one and giving it back, so another process may take
// it in between: then the next one is tried.
func startServer(units map[uint8]*unit, lg *slog.Logger) (*modbus.ModbusServer, string, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", err
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, "", err
		}
		srv, err := modbus.NewServer(&modbus.ServerConfiguration{
			URL: "tcp://" + addr, Timeout: 24 * time.Hour, MaxClients: 1024,
			Logger: log.New(slogWriter{lg}, "", 0),
		}, handler{units})
		if err != nil {
			return nil, "", err
		}
		err = srv.Start()
		if err == nil {
			return srv, addr, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, "", err
		}
	}
}

type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(p []byte) (int, error) {
	w.log.Debug("modbus server", "said", string(p))
	return len(p), nil
}

func (t *tcpListener) addr() string { return t.front.Addr().String() }

// Close ends every connection and waits.
func (t *tcpListener) Close() error {
	t.mu.Lock()
	t.closed = true
	err := t.front.Close()
	for c := range t.conns {
		c.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
	return errors.Join(err, t.server.Stop())
}

// track remembers c until it is closed; false when the listener is closing.
func (t *tcpListener) track(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.conns[c] = struct{}{}
	}
	return !t.closed
}

func (t *tcpListener) drop(c net.Conn) {
	c.Close()
	t.mu.Lock()
	delete(t.conns, c)
	t.mu.Unlock()
}

func (t *tcpListener) accept() {
	for {
		c, err := t.front.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.log.Warn("accept failed", "error", err)
			continue
		}
		t.wg.Go(func() { t.relay(c) })
	}
}

// relay serves one client until either side closes.
func (t *tcpListener) relay(client net.Conn) {
	defer t.drop(client)
	server, err := net.Dial("tcp", t.back)
	if err != nil {
		t.log.Warn("modbus server is not reachable", "error", err)
		return
	}
	defer t.drop(server)
	if !t.track(client) || !t.track(server) {
		return
	}
	var mu sync.Mutex // guards writes to client: both directions may answer
	var back sync.WaitGroup
	gone := make(chan struct{})
	back.Go(func() {
		defer client.Close()
		t.forward(server, func(f []byte) error {
			mu.Lock()
			defer mu.Unlock()
			_, err := client.Write(f)
			return err
		})
	})
	t.forward(client, func(f []byte) error {
		replies, pass := t.intercept(f)
		if pass {
			_, err := server.Write(f)
			return err
		}
		for _, r := range replies {
			back.Go(func() {
				if !sleep(gone, r.after) {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if _, err := client.Write(r.bytes); err != nil {
					t.log.Debug("reply not written", "error", err)
				}
			})
		}
		return nil
	})
	close(gone)
	server.Close()
	back.Wait()
}

// forward hands whole frames from c to give until one side fails.
func (t *tcpListener) forward(c net.Conn, give func([]byte) error) {
	buf := make([]byte, maxFrame)
	for {
		f, err := readFrame(c, buf)
		if err == nil {
			err = give(f)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				t.log.Debug("connection ended", "error", err)
			}
			return
		}
	}
}

// readFrame reads one MBAP frame into buf.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, buf[:mbapLen]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(buf[4:])) + mbapLen - 1 // the length counts the unit id
	if n <= mbapLen || n > len(buf) {
		return nil, fmt.Errorf("frame of %d bytes", n)
	}
	_, err := io.ReadFull(r, buf[mbapLen:n])
	return buf[:n], err
}

// intercept counts the request and answers in the server's place if the unit is
// to misbehave, or the request is a timed pulse.
func (t *tcpListener) intercept(f []byte) (replies []reply, pass bool) {
	u, ok := t.units[f[6]]
	if !ok {
		return nil, true // the server refuses it
	}
	fault, pdu := u.asked(), f[mbapLen:]
	pulse := pdu[0] == fcWriteCoil && u.pulseAt(pdu)
	if fault == (Fault{}) && !pulse {
		return nil, true
	}
	if pdu = u.obey(pdu, fault); pdu == nil {
		return nil, false
	}
	adu := append(slices.Clone(f[:mbapLen-1]), fault.name(u.id))
	binary.BigEndian.PutUint16(adu[4:], uint16(len(pdu)+1))
	return fault.replies(append(adu, pdu...)), false
}

// handler answers the library's server from the tables.
type handler struct{ units map[uint8]*unit }

func (h handler) HandleCoils(r *modbus.CoilsRequest) ([]bool, error) {
	return h.bits(r.UnitId, Coil, r.Addr, r.Quantity, r.IsWrite, r.Args)
}

func (h handler) HandleDiscreteInputs(r *modbus.DiscreteInputsRequest) ([]bool, error) {
	return h.bits(r.UnitId, Discrete, r.Addr, r.Quantity, false, nil)
}

func (h handler) HandleHoldingRegisters(r *modbus.HoldingRegistersRequest) ([]uint16, error) {
	return h.words(r.UnitId, Holding, r.Addr, r.Quantity, r.IsWrite, r.Args)
}

func (h handler) HandleInputRegisters(r *modbus.InputRegistersRequest) ([]uint16, error) {
	return h.words(r.UnitId, Input, r.Addr, r.Quantity, false, nil)
}

func (h handler) bits(id uint8, space Space, addr, count uint16, write bool, args []bool) ([]bool, error) {
	in := make([]uint16, len(args))
	for i, on := range args {
		in[i] = bit(on)
	}
	words, err := h.words(id, space, addr, count, write, in)
	out := make([]bool, len(words))
	for i, w := range words {
		out[i] = w != 0
	}
	return out, err
}

func (h handler) words(id uint8, space Space, addr, count uint16, write bool, args []uint16) ([]uint16, error) {
	u, ok := h.units[id]
	if !ok {
		return nil, modbus.ErrGWTargetFailedToRespond
	}
	var out []uint16
	var err error
	if write {
		err = u.write(space, addr, args)
	} else {
		out, err = u.read(space, addr, count)
	}
	if errors.Is(err, errNoAddress) {
		return nil, modbus.ErrIllegalDataAddress
	}
	return out, err
}
