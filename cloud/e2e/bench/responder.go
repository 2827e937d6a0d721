package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The load: every connection has unitsPerConn slaves, every slave registers
// that all change at every poll.
const (
	unitsPerConn = 10
	registers    = 20
	columnStep   = 1000  // register i shows the poll count plus i*columnStep
	countLimit   = 40000 // where the count wraps, so that no register reaches highValue
	highValue    = 65000 // what register 0 shows while a slave is set high
)

// responder is a Modbus TCP slave made for load and nothing else: it answers
// function 3 without a register table, so that it takes as little as possible
// of the cores it shares with what is measured.
type responder struct {
	listeners []net.Listener
	slaves    [][unitsPerConn]slave // by connection
	polls     atomic.Uint64
	firstPoll atomic.Int64 // UnixNano of the first answer since reset
	jitter    jitter
	wg        sync.WaitGroup

	mu     sync.Mutex // guards the two below
	conns  map[net.Conn]struct{}
	closed bool
}

// slave is one unit id.
type slave struct {
	mu     sync.Mutex // guards all below
	count  uint64     // polls answered
	last   time.Time  // when the last poll came
	high   bool
	shown  bool      // a poll has been answered since high was set
	highAt time.Time // when that answer was handed to the socket
}

func newResponder(connections int) (*responder, error) {
	r := &responder{slaves: make([][unitsPerConn]slave, connections), conns: make(map[net.Conn]struct{})}
	for i := range connections {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.listeners = append(r.listeners, l)
		r.wg.Go(func() { r.accept(l, &r.slaves[i]) })
	}
	return r, nil
}

// Close ends every connection and waits.
func (r *responder) Close() error {
	r.mu.Lock()
	r.closed = true
	var errs []error
	for _, l := range r.listeners {
		errs = append(errs, l.Close())
	}
	for c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return errors.Join(errs...)
}

func (r *responder) addresses() []string {
	var out []string
	for _, l := range r.listeners {
		out = append(out, l.Addr().String())
	}
	return out
}

// links are the addresses as the daemon's configuration writes them.
func (r *responder) links() []string {
	var out []string
	for _, a := range r.addresses() {
		out = append(out, "tcp://"+a)
	}
	return out
}

func (r *responder) slave(conn, unit int) *slave { return &r.slaves[conn][unit-1] }

// counts returns how many polls every slave has answered, by connection.
func (r *responder) counts() [][unitsPerConn]uint64 {
	out := make([][unitsPerConn]uint64, len(r.slaves))
	for c := range r.slaves {
		for u := range r.slaves[c] {
			s := &r.slaves[c][u]
			s.mu.Lock()
			out[c][u] = s.count
			s.mu.Unlock()
		}
	}
	return out
}

// allPolled reports whether every slave has answered more often than in since.
func (r *responder) allPolled(since [][unitsPerConn]uint64) bool {
	for c, units := range r.counts() {
		for u, n := range units {
			if n <= since[c][u] {
				return false
			}
		}
	}
	return true
}

func (r *responder) accept(l net.Listener, units *[unitsPerConn]slave) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		if r.closed {
			c.Close()
		} else {
			r.conns[c] = struct{}{}
			r.wg.Go(func() { r.serve(c, units) })
		}
		r.mu.Unlock()
	}
}

func (r *responder) serve(c net.Conn, units *[unitsPerConn]slave) {
	defer func() {
		c.Close()
		r.mu.Lock()
		delete(r.conns, c)
		r.mu.Unlock()
	}()
	in := bufio.NewReader(c)
	var req [12]byte // MBAP header, function, address, quantity
	var out [9 + 2*125]byte
	for {
		if _, err := io.ReadFull(in, req[:]); err != nil {
			return
		}
		reply := r.answer(req, units, out[:])
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}

// answer makes the reply to one read of holding registers; everything else is
// refused, which the measured program must not ask for.
func (r *responder) answer(req [12]byte, units *[unitsPerConn]slave, out []byte) []byte {
	copy(out, req[:8])
	unit, first, count := int(req[6]), binary.BigEndian.Uint16(req[8:]), binary.BigEndian.Uint16(req[10:])
	if req[7] != 3 || unit < 1 || unit > unitsPerConn || count == 0 || int(first)+int(count) > registers {
		binary.BigEndian.PutUint16(out[4:], 3)
		out[7], out[8] = req[7]|0x80, 2
		return out[:9]
	}
	n := 9 + 2*int(count)
	binary.BigEndian.PutUint16(out[4:], uint16(n-6))
	out[8] = byte(2 * count)
	s := &units[unit-1]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	for i := range int(count) {
		v := uint16(s.count%countLimit) + (first+uint16(i))*columnStep
		if s.high && int(first)+i == 0 {
			v = highValue
		}
		binary.BigEndian.PutUint16(out[9+2*i:], v)
	}
	now := time.Now()
	if !s.last.IsZero() {
		r.jitter.add(now.Sub(s.last))
	}
	s.last = now
	if s.high && !s.shown {
		s.shown, s.highAt = true, now
	}
	r.polls.Add(1)
	r.firstPoll.CompareAndSwap(0, now.UnixNano())
	return out[:n]
}

// set moves register 0 of the slave above or below the alarm limit.
func (s *slave) set(high bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.high, s.shown = high, false
}

// crossed returns when the first answer above the limit was handed to the
// socket.
func (s *slave) crossed() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.highAt, s.high && s.shown
}
