package bus

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrLink occurs when a link cannot be parsed.
var ErrLink = errors.New("link")

// Parity is the parity of a serial line.
type Parity string

// The parities.
const (
	ParityNone Parity = "none"
	ParityEven Parity = "even"
	ParityOdd  Parity = "odd"
)

// Mode is how characters look on a line; the zero Mode is the link's own.
type Mode struct {
	// Baud is the line speed. On a TCP link it is what stands behind the serial
	// server, for gap and budget; 0 if nobody said.
	Baud     int
	Parity   Parity
	StopBits int
}

// Link is a parsed link address.
type Link struct {
	Serial  bool
	Listen  bool   // the serial server dials in
	Address string // device path, or host:port
	Mode
}

// String returns the part of a link a person recognises it by.
func (l Link) String() string {
	if l.Serial {
		return "serial:" + l.Address
	}
	return "tcp://" + l.Address
}

// ParseLink reads serial:PATH?baud=9600&parity=none&stop=1 or tcp://HOST:PORT.
func ParseLink(s string) (Link, error) {
	address, query, _ := strings.Cut(s, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return Link{}, fmt.Errorf("%w %q: what stands behind '?' is not key=value&key=value", ErrLink, s)
	}
	l := Link{Mode: Mode{Parity: ParityNone, StopBits: 1}}
	var errs []error
	switch {
	case strings.HasPrefix(address, "serial:"):
		l.Serial, l.Baud = true, 9600
		l.Address = strings.TrimPrefix(address, "serial:")
		if !strings.HasPrefix(l.Address, "/") {
			errs = append(errs, fmt.Errorf("%w %q: want serial:/dev/serial/by-path/...; an absolute path that survives a reboot", ErrLink, s))
		}
	case strings.HasPrefix(address, "tcp://"):
		l.Address = strings.TrimPrefix(address, "tcp://")
		host, port, err := net.SplitHostPort(l.Address)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			errs = append(errs, fmt.Errorf("%w %q: want tcp://HOST:PORT, as in tcp://10.0.0.8:502", ErrLink, s))
		}
	default:
		return Link{}, fmt.Errorf("%w %q: want serial:PATH?baud=9600&parity=none&stop=1 or tcp://HOST:PORT", ErrLink, s)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		given := values[key]
		if err := l.set(key, given[len(given)-1]); err != nil {
			errs = append(errs, fmt.Errorf("%w %q: %w", ErrLink, s, err))
		}
	}
	if len(errs) > 0 {
		return Link{}, errors.Join(errs...)
	}
	return l, nil
}

// set applies one parameter of the query.
func (l *Link) set(key, value string) error {
	switch {
	case key == "baud":
		n, err := strconv.Atoi(value)
		if err != nil || n < 300 || n > 4_000_000 {
			return fmt.Errorf("baud=%s: want a line speed such as 9600", value)
		}
		l.Baud = n
	case key == "parity" && l.Serial:
		l.Parity = Parity(value)
		if l.Parity != ParityNone && l.Parity != ParityEven && l.Parity != ParityOdd {
			return fmt.Errorf("parity=%s: want none, even or odd", value)
		}
	case key == "stop" && l.Serial:
		if value != "1" && value != "2" {
			return fmt.Errorf("stop=%s: want 1 or 2", value)
		}
		l.StopBits = int(value[0] - '0')
	case l.Serial:
		return fmt.Errorf("unknown parameter %q: a serial link has baud, parity and stop", key)
	default:
		return fmt.Errorf("unknown parameter %q: a TCP link has baud (of the line behind a serial server)", key)
	}
	return nil
}

// charTime is how long n characters take on the line: a start bit, 8 data
// bits, parity, stop bits. Nothing is known of a TCP link without a baud rate.
func (m Mode) charTime(n int) time.Duration {
	if m.Baud == 0 {
		return 0
	}
	return time.Duration(n) * time.Duration(m.bits()) * time.Second / time.Duration(m.Baud)
}

// bits is how many of them a character takes.
func (m Mode) bits() int {
	bits := 1 + 8 + m.StopBits
	if m.Parity != ParityNone && m.Parity != "" {
		bits++
	}
	return bits
}
