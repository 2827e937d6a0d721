package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of what somebody who has not said who he is can cost.
const (
	maxStrangers   = 64
	maxPerSource   = 8                      // of them: DTUs behind one router dial in together
	registerWithin = 5 * time.Second        // for the whole registration packet
	curiosity      = 300 * time.Millisecond // for the rest of a packet nobody knows, to show it in the log
	acceptPause    = time.Second            // after the system refused to accept (no descriptors left)
)

// Acceptor owns the ports that DTUs dial in to, for all buses of the process.
//
// It guarantees: a connection reaches a bus only from an address that this bus
// allows and, where the bus has registrations, after one of them arrived whole
// within five seconds, which is taken off once; nothing behind it is lost. Of
// two connections for one bus the newer is kept: the DTU has dialled in again.
// At most 64 connections are unidentified at a time, 8 from one address; who is one
// too many takes the place of the oldest of his address, or else of the address that
// has most: no host can keep the others out. Whoever is turned away is counted,
// and logged once an hour per source.
type Acceptor struct {
	log     *slog.Logger
	refused *prometheus.CounterVec
	storm   storm
	listen  func(address string) (net.Listener, error)

	mu        sync.Mutex // guards all below, and what ports and claims hold
	ports     map[string]*port
	strangers map[*net.TCPConn]stranger
	closed    bool
	wg        sync.WaitGroup // of every goroutine
}

// stranger is a connection that has not said who it is.
type stranger struct {
	source netip.Addr
	port   *port
	since  time.Time
}

// port is an address that is listened on while a bus has a claim on it.
type port struct {
	address  string
	claims   []*claim
	listener net.Listener  // nil: not open
	done     chan struct{} // closed with the listener
}

// claim is what one bus expects on a port.
type claim struct {
	link    Link
	port    *port
	signal  chan struct{} // something is pending; has room for one
	gone    chan struct{} // closed at release
	pending *net.TCPConn  // came, and was not yet taken
	taken   *net.TCPConn  // is the bus's now
}

// NewAcceptor returns an Acceptor without ports. Close it behind the buses. It is
// also a prometheus.Collector.
func NewAcceptor(log *slog.Logger) *Acceptor {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Acceptor{
		log:       log,
		listen:    func(address string) (net.Listener, error) { return net.Listen("tcp", address) },
		ports:     make(map[string]*port),
		strangers: make(map[*net.TCPConn]stranger),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gatehouse_dtu_refused_total",
			Help: "Connections to a listening link that were turned away, by reason."}, []string{"reason"}),
	}
}

// Describe implements prometheus.Collector.
func (a *Acceptor) Describe(to chan<- *prometheus.Desc) { a.refused.Describe(to) }

// Collect implements prometheus.Collector.
func (a *Acceptor) Collect(to chan<- prometheus.Metric) { a.refused.Collect(to) }

// Close closes every port and connection and returns when all is quiet.
func (a *Acceptor) Close() {
	a.mu.Lock()
	a.closed = true
	for c := range a.strangers {
		c.Close()
	}
	for _, p := range a.ports {
		for _, c := range slices.Clone(p.claims) {
			a.drop(c)
		}
	}
	a.mu.Unlock()
	a.wg.Wait()
}

// claim notes what a bus expects. It does no I/O.
func (a *Acceptor) claim(link Link) (*claim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, net.ErrClosed
	}
	var errs []error
	for _, p := range a.ports {
		for _, other := range p.claims {
			errs = append(errs, link.Conflict(other.link))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p := a.ports[link.Address]
	if p == nil {
		p = &port{address: link.Address}
		a.ports[link.Address] = p
	}
	c := &claim{link: link, port: p, signal: make(chan struct{}, 1), gone: make(chan struct{})}
	p.claims = append(p.claims, c)
	return c, nil
}

// release ends a claim, its connection, and the port nobody else wants.
func (a *Acceptor) release(c *claim) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(c)
}

// drop is release with the lock held.
func (a *Acceptor) drop(c *claim) {
	p := c.port
	at := slices.Index(p.claims, c)
	if at < 0 {
		return
	}
	p.claims = slices.Delete(p.claims, at, at+1)
	close(c.gone)
	for _, conn := range []*net.TCPConn{c.pending, c.taken} {
		if conn != nil {
			conn.Close()
		}
	}
	c.pending, c.taken = nil, nil
	if len(p.claims) > 0 {
		return
	}
	delete(a.ports, p.address)
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
		close(p.done)
	}
}

// ensure opens the port of a claim if it is not open.
func (a *Acceptor) ensure(c *claim) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := c.port
	switch {
	case !slices.Contains(p.claims, c):
		return net.ErrClosed
	case p.listener != nil:
		return nil
	}
	listener, err := a.listen(p.address)
	if err != nil {
		return err
	}
	p.listener, p.done = listener, make(chan struct{})
	done := p.done
	a.wg.Go(func() { a.accept(p, listener, done) })
	return nil
}

// take returns the connection that came for a claim, or nil.
func (a *Acceptor) take(c *claim) *net.TCPConn {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.pending == nil {
		return nil
	}
	c.taken, c.pending = c.pending, nil
	return c.taken
}

// leave says that the bus has no use for its connection any more.
func (a *Acceptor) leave(c *claim, conn *net.TCPConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.taken == conn {
		c.taken = nil
	}
}

// accept lets connections in until the listener is closed.
func (a *Acceptor) accept(p *port, listener net.Listener, done <-chan struct{}) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if n, due := a.storm.tell("accept "+p.address, time.Now()); due {
				a.log.Error("connections cannot be accepted", "port", p.address, "err", err, "count", n,
					"hint", "if too many files are open, raise the limit of the service (LimitNOFILE)")
			}
			select {
			case <-done:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		if c, ok := conn.(*net.TCPConn); ok {
			a.admit(p, c)
			continue
		}
		conn.Close()
	}
}

// admit sends a new connection to the one bus of the port, asks who it is, or
// turns it away.
func (a *Acceptor) admit(p *port, conn *net.TCPConn) {
	source := sourceOf(conn)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case len(p.claims) == 0:
		conn.Close()
	case !slices.ContainsFunc(p.claims, func(c *claim) bool { return c.link.admits(source) }):
		a.refuse(p, conn, "source", "no bus on this port allows this address: add it to allow=, or find out who this is")
	case len(p.claims[0].link.Register) == 0: // then it is the only one
		a.deliver(p.claims[0], conn)
	case a.closed:
		conn.Close()
	default:
		a.makeWay(source)
		a.strangers[conn] = stranger{source: source, port: p, since: time.Now()}
		claims := slices.Clone(p.claims)
		a.wg.Go(func() { a.identify(p, claims, conn, source) })
	}
}

// makeWay closes the stranger whose place a newcomer takes, if there is no room. The
// lock is held.
func (a *Acceptor) makeWay(newcomer netip.Addr) {
	count := make(map[netip.Addr]int)
	for _, s := range a.strangers {
		count[s.source]++
	}
	from := newcomer
	if count[newcomer] < maxPerSource {
		if len(a.strangers) < maxStrangers {
			return
		}
		for source, n := range count {
			if n > count[from] {
				from = source
			}
		}
	}
	var oldest *net.TCPConn
	for conn, s := range a.strangers {
		if s.source == from && (oldest == nil || s.since.Before(a.strangers[oldest].since)) {
			oldest = conn
		}
	}
	if oldest == nil {
		return
	}
	p := a.strangers[oldest].port
	delete(a.strangers, oldest)
	a.refuse(p, oldest, "crowded", "too many connections have not said who they are: narrow allow=, or keep strangers away by the router")
}

// identify reads the registration packet and not one byte more.
func (a *Acceptor) identify(p *port, claims []*claim, conn *net.TCPConn, source netip.Addr) {
	var buf [maxPacket]byte
	n, c, err := register(conn, claims, buf[:])
	a.mu.Lock()
	defer a.mu.Unlock()
	_, waits := a.strangers[conn]
	delete(a.strangers, conn)
	switch {
	case !waits: // it had to make way
		conn.Close()
	case a.closed:
		conn.Close()
	case err != nil:
		a.refuse(p, conn, "silent", fmt.Sprintf("it sent %x and no whole registration packet (%v): set the DTU to send one when it connects", buf[:n], err))
	case c == nil:
		a.refuse(p, conn, "registration", fmt.Sprintf("it registered as %x, which no bus on this port has: compare register=", buf[:n]))
	case !c.link.admits(source):
		a.refuse(p, conn, "source", fmt.Sprintf("%s does not allow this address", c.link))
	default:
		a.deliver(c, conn)
	}
}

// register returns whose packet came, or nobody and the n bytes that came instead.
func register(conn *net.TCPConn, claims []*claim, buf []byte) (n int, c *claim, err error) {
	if err := conn.SetDeadline(time.Now().Add(registerWithin)); err != nil {
		return 0, nil, err
	}
	for {
		c, missing := match(claims, string(buf[:n]))
		switch {
		case c != nil:
			return n, c, conn.SetDeadline(time.Time{})
		case missing == 0:
			conn.SetDeadline(time.Now().Add(curiosity))
			more, _ := conn.Read(buf[n:])
			return n + more, nil, nil
		}
		more, err := conn.Read(buf[n : n+missing])
		n += more
		if err != nil && more == 0 {
			return n, nil, err
		}
	}
}

// match finds the claim whose registration came, or says how many bytes can be
// read without reading past the shortest that is still possible; 0: none is.
func match(claims []*claim, came string) (c *claim, missing int) {
	for _, c := range claims {
		for _, r := range c.link.Register {
			switch {
			case r == came:
				return c, 0
			case len(r) > len(came) && r[:len(came)] == came && (missing == 0 || len(r)-len(came) < missing):
				missing = len(r) - len(came)
			}
		}
	}
	return nil, missing
}

// deliver hands a connection to its bus; the one before is closed. The lock is held.
func (a *Acceptor) deliver(c *claim, conn *net.TCPConn) {
	if !slices.Contains(c.port.claims, c) {
		conn.Close()
		return
	}
	if err := watch(conn); err != nil { // it was reset meanwhile
		conn.Close()
		return
	}
	for _, old := range []*net.TCPConn{c.pending, c.taken} {
		if old == nil {
			continue
		}
		if n, due := a.storm.tell("again "+c.link.String(), time.Now()); due {
			a.log.Info("a DTU dialled in again, its old connection is closed", "link", c.link.String(),
				"from", conn.RemoteAddr().String(), "before", old.RemoteAddr().String(), "count", n,
				"hint", "if this goes on, two DTUs have the same registration")
		}
		old.Close()
	}
	c.pending, c.taken = conn, nil
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// refuse closes a connection, counts it, and says so once an hour.
func (a *Acceptor) refuse(p *port, conn *net.TCPConn, reason, hint string) {
	source := sourceOf(conn).String()
	conn.Close()
	a.refused.WithLabelValues(reason).Inc()
	if n, due := a.storm.tell(source, time.Now()); due {
		a.log.Warn("turned away a connection", "port", p.address, "source", source, "reason", reason, "count", n, "hint", hint)
	}
}

// sourceOf is where a connection comes from.
func sourceOf(conn *net.TCPConn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
