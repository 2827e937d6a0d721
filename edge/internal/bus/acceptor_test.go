package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/point"
)

// quay is an acceptor whose every port is a free one of loopback.
type quay struct {
	*Acceptor
	log *logBuffer

	lock  sync.Mutex
	where map[string]string // the address of each port that was opened
}

func newQuay(t *testing.T) *quay {
	t.Helper()
	q := &quay{log: &logBuffer{}, where: make(map[string]string)}
	q.Acceptor = NewAcceptor(slog.New(slog.NewTextHandler(q.log, nil)))
	q.Acceptor.listen = func(address string) (net.Listener, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			q.lock.Lock()
			q.where[address] = l.Addr().String()
			q.lock.Unlock()
		}
		return l, err
	}
	t.Cleanup(q.Close)
	return q
}

// line makes the line of a link and opens its port.
func (q *quay) line(t *testing.T, s string) *listenLine {
	t.Helper()
	link, err := ParseLink(s)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newListenLine(link, q.Acceptor)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.ensure(l.claim); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.shut(); l.interrupt() })
	return l
}

// dial is a DTU that connects to a port and sends bytes, each as its own packet.
func (q *quay) dial(t *testing.T, port string, packets ...string) net.Conn {
	t.Helper()
	q.lock.Lock()
	address := q.where[port]
	q.lock.Unlock()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, p := range packets {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func open(t *testing.T, l *listenLine) {
	t.Helper()
	if err := l.open(t.Context()); err != nil {
		t.Fatalf("nobody came to %s: %v", l.claim.link, err)
	}
}

// reads checks what the next bytes of a line are.
func reads(t *testing.T, l *listenLine, want string) {
	t.Helper()
	var got []byte
	buf := make([]byte, 64)
	for deadline := time.Now().Add(5 * time.Second); len(got) < len(want) && time.Now().Before(deadline); {
		n, err := l.receive(buf, deadline)
		if err != nil {
			t.Fatalf("%s after %q: %v", l.claim.link, got, err)
		}
		got = append(got, buf[:n]...)
	}
	if string(got) != want {
		t.Errorf("%s received %q, want %q", l.claim.link, got, want)
	}
}

// closed checks that the other end hangs up.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, syscall.EAGAIN) || err == nil {
		t.Errorf("read %d, %v; want a closed connection", n, err)
	} else if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		t.Error("still open")
	}
}

func (q *quay) count(reason string) float64 {
	return testutil.ToFloat64(q.refused.WithLabelValues(reason))
}

func TestARegistrationNamesTheBusAndIsStrippedOnce(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	east := q.line(t, "tcp-listen://:9000?register=5A01")        // Z 1
	west := q.line(t, "tcp-listen://:9000?register=5A0203,515A") // Z 2 3, QZ
	c := q.dial(t, ":9000", "Z", "\x01")
	open(t, east)
	q.dial(t, ":9000", "Z\x02\x03Z\x02\x03rest") // glued, and a second one, which is the line's
	open(t, west)
	reads(t, west, "Z\x02\x03rest")
	io.WriteString(c, "hello")
	reads(t, east, "hello")
	if err := east.send([]byte("ask")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ask" {
		t.Errorf("%q, %v", buf, err)
	}
}

func TestTheNewestConnectionWins(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	l := q.line(t, "tcp-listen://:9000?register=5A01")
	for i := range 5 {
		c := q.dial(t, ":9000", "Z\x01")
		if i > 0 { // the bus reads on the old one, which ends
			if _, err := l.receive(make([]byte, 8), time.Now().Add(5*time.Second)); err == nil {
				t.Fatal("the old connection lives on")
			}
			l.shut()
		}
		open(t, l)
		io.WriteString(c, fmt.Sprint(i))
		reads(t, l, fmt.Sprint(i))
	}
	// Two that come before the bus looks: the first is closed.
	l.shut()
	first := q.dial(t, ":9000", "Z\x01")
	drivertest.Eventually(t, 5*time.Second, "first", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return l.claim.pending != nil })
	second := q.dial(t, ":9000", "Z\x01")
	closed(t, first)
	open(t, l)
	io.WriteString(second, "x")
	reads(t, l, "x")
	if n := strings.Count(q.log.String(), "dialled in again"); n != 1 {
		t.Errorf("%d lines about it:\n%s", n, q.log)
	}
}

func TestStrangersAreTurnedAway(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	q.line(t, "tcp-listen://:9000?register=5A01")
	q.line(t, "tcp-listen://:9000?register=5B01&allow=192.0.2.0/24")
	q.line(t, "tcp-listen://:9001?allow=192.0.2.0/24")
	closed(t, q.dial(t, ":9000", "GET / HTTP/1.1\r\n\r\n"))
	closed(t, q.dial(t, ":9000", "Z\x02"))
	closed(t, q.dial(t, ":9000", "[\x01"))
	closed(t, q.dial(t, ":9001"))
	if q.count("registration") != 2 || q.count("source") != 2 {
		t.Errorf("counted %v and %v", q.count("registration"), q.count("source"))
	}
	if n := strings.Count(q.log.String(), "turned away"); n != 1 {
		t.Errorf("%d lines about one source:\n%s", n, q.log)
	}
	if !strings.Contains(q.log.String(), "474554") {
		t.Errorf("what it sent is not shown:\n%s", q.log)
	}
}

// Whoever is silent is hung up on in the end.
func TestASilentStrangerIsHungUpOn(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	q.line(t, "tcp-listen://:9000?register=5A01")
	closed(t, q.dial(t, ":9000", "Z"))
	drivertest.Eventually(t, 5*time.Second, "count", func() bool { return q.count("silent") == 1 })
}

// from dials a port from an address of this host and says nothing.
func (q *quay) from(t *testing.T, host byte) *net.TCPConn {
	t.Helper()
	q.lock.Lock()
	address := q.where[":9000"]
	q.lock.Unlock()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}}
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// waiting is how many have not said who they are.
func (q *quay) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.strangers)
}

// One silent host, and many, keep no DTU out.
func TestACrowdOfStrangersKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	l := q.line(t, "tcp-listen://:9000?register=5A01")
	var crowd []*net.TCPConn
	for range 3 * maxPerSource {
		crowd = append(crowd, q.from(t, 2))
	}
	drivertest.Eventually(t, 4*time.Second, "the oldest of one host closed", func() bool { return q.count("crowded") == 2*maxPerSource })
	if n := q.waiting(); n != maxPerSource {
		t.Errorf("%d wait from one host", n)
	}
	closed(t, crowd[0])
	q.dial(t, ":9000", "Z\x01")
	open(t, l)
	for host := range byte(maxStrangers) {
		q.from(t, 3+host)
	}
	drivertest.Eventually(t, 4*time.Second, "full house", func() bool { return q.waiting() == maxStrangers })
	l.shut()
	q.dial(t, ":9000", "Z\x01")
	open(t, l)
}

func TestAPortOfOneBusNeedsNoRegistration(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	l := q.line(t, "tcp-listen://:9000?allow=127.0.0.0/8")
	q.dial(t, ":9000", "data")
	open(t, l)
	reads(t, l, "data")
}

func TestAListeningLineIsInterrupted(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	l := q.line(t, "tcp-listen://:9000?register=01")
	done := make(chan error)
	go func() { done <- l.open(context.Background()) }()
	l.interrupt()
	if err := <-done; err == nil {
		t.Error("opened")
	}
	if len(q.ports) != 0 {
		t.Error("the port is still claimed")
	}
	again := q.line(t, "tcp-listen://:9000?register=01")
	if err := again.open(t.Context()); !errors.Is(err, errNobodyDialled) || !strings.Contains(openHint(again.claim.link, err), "TCP client") {
		t.Errorf("%v", err)
	}
	// With a connection in use, a read ends.
	q.dial(t, ":9000", "\x01")
	open(t, again)
	again.interrupt()
	if _, err := again.receive(make([]byte, 1), time.Now().Add(5*time.Second)); err == nil {
		t.Error("reads on")
	}
}

func TestAPortThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	working := q.listen
	q.listen = func(string) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}
	}
	link, err := ParseLink("tcp-listen://:9000?register=01")
	if err != nil {
		t.Fatal(err)
	}
	l, err := newListenLine(link, q.Acceptor)
	if err != nil {
		t.Fatal(err)
	}
	defer l.interrupt()
	if err := l.open(t.Context()); !strings.Contains(openHint(link, err), "ss -ltnp") {
		t.Errorf("%v", err)
	}
	q.listen = working
	if err := l.open(t.Context()); !errors.Is(err, errNobodyDialled) {
		t.Errorf("%v", err)
	}
	q.dial(t, ":9000", "\x01")
	open(t, l)
	l.shut()
}

func TestBusesThatCannotShareAPortAreToldAtOnce(t *testing.T) {
	a := NewAcceptor(nil)
	options := func(id, link string) Options {
		opts := Options{ID: id, Link: link, Acceptor: a}
		opts.Emit = func([]point.Reading) {}
		return opts
	}
	if _, err := New(options("a", "tcp-listen://:9000?register=5A01")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(options("b", "tcp-listen://:9000?register=5A")); err == nil || !strings.Contains(err.Error(), "begin alike") {
		t.Errorf("%v", err)
	}
	without := options("c", "tcp-listen://:9000?register=5B")
	without.Acceptor = nil
	if _, err := New(without); err == nil || !strings.Contains(err.Error(), "Acceptor") {
		t.Errorf("%v", err)
	}
	a.Close()
	if _, err := New(options("d", "tcp-listen://:9001?register=5B")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A hostile flood with the acceptor closed in the middle leaves nothing behind.
func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	q := newQuay(t)
	l := q.line(t, "tcp-listen://:9000?register=5A01")
	for range 20 {
		q.dial(t, ":9000", "Z")
	}
	c := q.dial(t, ":9000", "Z\x01")
	open(t, l)
	q.Close()
	closed(t, c)
	q.Close()
	if err := l.open(t.Context()); err == nil {
		t.Error("opened after Close")
	}
}

// FuzzRegistration checks that only a whole registration names a bus, and that
// nothing is read past it.
func FuzzRegistration(f *testing.F) {
	f.Add("Z\x01", "Q", "Z\x01rest")
	f.Add("", "long packet", "long pack")
	f.Fuzz(func(t *testing.T, one, two, came string) {
		if one == "" || two == "" || len(one) > maxPacket || len(two) > maxPacket {
			return
		}
		if _, alike := beginsAlike(one, []string{two}); alike {
			return
		}
		claims := []*claim{{link: Link{Register: []string{one}}}, {link: Link{Register: []string{two}}}}
		n := 0
		for {
			c, missing := match(claims, came[:n])
			if c != nil {
				if want := c.link.Register[0]; came[:n] != want {
					t.Errorf("%q is taken for %q", came[:n], want)
				}
				return
			}
			if missing == 0 {
				if strings.HasPrefix(came, one) || strings.HasPrefix(came, two) {
					t.Errorf("%q is not known by %q and %q", came, one, two)
				}
				return
			}
			if n+missing > maxPacket {
				t.Fatalf("wants %d more after %d", missing, n)
			}
			if n+missing > len(came) {
				if strings.HasPrefix(came, one) || strings.HasPrefix(came, two) {
					t.Errorf("%q is not seen in %q", came, []string{one, two})
				}
				return
			}
			n += missing
		}
	})
}
