package bus

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrLink occurs when a link cannot be parsed, or cannot be used beside another.
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

// Direction is who switches an RS-485 port between sending and listening.
type Direction string

// The directions.
const (
	DirectionOwn     Direction = ""         // the hardware by itself, or as the system set it up
	DirectionOff     Direction = "off"      // the hardware by itself; what the system set up is switched off
	DirectionRTSHigh Direction = "rts-high" // the kernel: RTS is on while sending
	DirectionRTSLow  Direction = "rts-low"  // the kernel: RTS is off while sending
)

// maxPacket bounds registration and heartbeat packets; serial servers take up
// to 40 bytes (USR-TCP232-T2 manual).
const maxPacket = 64

// Link is a parsed link address.
type Link struct {
	Serial  bool
	Listen  bool   // the serial server (a DTU) dials in
	Address string // device path, host:port, or [address]:port to listen on
	Mode
	RS485 Direction // of a local port

	// Heartbeat is the packet a serial server sends now and then by itself.
	Heartbeat string
	// Register is what a DTU sends first to say which it is: one of these. Empty:
	// whoever dials in from an allowed address is the one.
	Register []string
	// Allow is where a DTU may dial in from; empty: from anywhere.
	Allow []netip.Prefix
}

// String returns the part of a link a person recognises it by. It parses.
func (l Link) String() string {
	switch {
	case l.Serial:
		return "serial:" + l.Address
	case !l.Listen:
		return "tcp://" + l.Address
	}
	var query []string
	if len(l.Register) > 0 {
		var packets []string
		for _, r := range l.Register {
			packets = append(packets, hex.EncodeToString([]byte(r)))
		}
		query = append(query, "register="+strings.Join(packets, ","))
	}
	if len(l.Allow) > 0 {
		var sources []string
		for _, p := range l.Allow {
			sources = append(sources, p.String())
		}
		query = append(query, "allow="+strings.Join(sources, ","))
	}
	return "tcp-listen://" + l.Address + "?" + strings.Join(query, "&")
}

// ParseLink reads serial:PATH?baud=9600&parity=none&stop=1, tcp://HOST:PORT or
// tcp-listen://:PORT?register=HEX&allow=CIDR.
func ParseLink(s string) (Link, error) {
	address, query, _ := strings.Cut(s, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return Link{}, fmt.Errorf("%w %q: what stands behind '?' is not key=value&key=value", ErrLink, s)
	}
	l := Link{Mode: Mode{Parity: ParityNone, StopBits: 1}}
	var faults []error
	switch {
	case strings.HasPrefix(address, "serial:"):
		l.Serial, l.Baud = true, 9600
		l.Address = strings.TrimPrefix(address, "serial:")
		if !strings.HasPrefix(l.Address, "/") {
			faults = append(faults, errors.New("want serial:/dev/serial/by-path/...; an absolute path that survives a reboot"))
		}
	case strings.HasPrefix(address, "tcp://"):
		l.Address = strings.TrimPrefix(address, "tcp://")
		host, port, err := net.SplitHostPort(l.Address)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			faults = append(faults, errors.New("want tcp://HOST:PORT, as in tcp://10.0.0.8:502"))
		}
	case strings.HasPrefix(address, "tcp-listen://"):
		l.Listen = true
		if l.Address, err = listenAddress(strings.TrimPrefix(address, "tcp-listen://")); err != nil {
			faults = append(faults, err)
		}
		if !values.Has("register") && !values.Has("allow") {
			faults = append(faults, errors.New("it is not said who may dial in: want register=HEX, the registration packet of the DTU, or allow=CIDR, where it dials in from, or both"))
		}
	default:
		return Link{}, fmt.Errorf("%w %q: want serial:PATH?baud=9600&parity=none&stop=1, tcp://HOST:PORT or tcp-listen://:PORT?register=HEX", ErrLink, s)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		given := values[key]
		if len(given) > 1 {
			faults = append(faults, fmt.Errorf("%s is given %d times: want it once, several values with a comma", key, len(given)))
			continue
		}
		if err := l.set(key, given[len(given)-1]); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		for i, fault := range faults {
			faults[i] = fmt.Errorf("%w %q: %w", ErrLink, s, fault)
		}
		return Link{}, errors.Join(faults...)
	}
	return l, nil
}

// listenAddress writes an address to listen on the one way it is compared in.
func listenAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err == nil && perr == nil && n > 0 {
		if host == "" {
			return ":" + strconv.FormatUint(n, 10), nil
		}
		if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
			return netip.AddrPortFrom(a.Unmap(), uint16(n)).String(), nil
		}
	}
	return "", errors.New("want tcp-listen://:PORT or tcp-listen://ADDRESS:PORT, as in tcp-listen://:9000?register=5A01; the address is one of this box")
}

// set applies one parameter of the query.
func (l *Link) set(key, value string) error {
	switch {
	case key == "baud":
		return l.setBaud(value)
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
	case key == "rs485" && l.Serial:
		l.RS485 = Direction(value)
		if l.RS485 != DirectionOff && l.RS485 != DirectionRTSHigh && l.RS485 != DirectionRTSLow {
			return fmt.Errorf("rs485=%s: want off, rts-high or rts-low", value)
		}
	case key == "heartbeat" && !l.Serial:
		packet, ok := packet(value)
		if !ok {
			return fmt.Errorf("heartbeat=%s: want 1 to %d bytes in hexadecimal, such as FE01", value, maxPacket)
		}
		l.Heartbeat = packet
	case key == "register" && l.Listen:
		return l.setRegister(value)
	case key == "allow" && l.Listen:
		return l.setAllow(value)
	case l.Serial:
		return fmt.Errorf("unknown parameter %q: a serial link has baud, parity, stop and rs485", key)
	case l.Listen:
		return fmt.Errorf("unknown parameter %q: a link that is dialled in to has register, allow, heartbeat and baud", key)
	default:
		return fmt.Errorf("unknown parameter %q: a TCP link has baud (of the line behind a serial server) and heartbeat", key)
	}
	return nil
}

func (l *Link) setBaud(value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 300 || n > 4_000_000 {
		return fmt.Errorf("baud=%s: want a line speed such as 9600", value)
	}
	l.Baud = n
	return nil
}

func (l *Link) setRegister(value string) error {
	for part := range strings.SplitSeq(value, ",") {
		packet, ok := packet(part)
		if !ok {
			return fmt.Errorf("register=%s: want registration packets of 1 to %d bytes in hexadecimal, such as 5A01 or 5A01,5A02", value, maxPacket)
		}
		if other, ok := beginsAlike(packet, l.Register); ok {
			return fmt.Errorf("register=%s: %x and %x begin alike: want packets that can be told apart", value, other, packet)
		}
		l.Register = append(l.Register, packet)
	}
	return nil
}

func (l *Link) setAllow(value string) error {
	for part := range strings.SplitSeq(value, ",") {
		prefix, err := netip.ParsePrefix(part)
		if a, aerr := netip.ParseAddr(part); aerr == nil && a.Zone() == "" {
			prefix, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
		}
		if err != nil || prefix.Addr().Is4In6() {
			return fmt.Errorf("allow=%s: want networks such as 10.8.0.0/16 or 10.8.0.0/16,192.0.2.7", value)
		}
		l.Allow = append(l.Allow, prefix.Masked())
	}
	return nil
}

// packet reads hexadecimal digits, with or without spaces, colons or dashes
// between the bytes.
func packet(s string) (string, bool) {
	raw, err := hex.DecodeString(strings.NewReplacer(" ", "", ":", "", "-", "").Replace(s))
	return string(raw), err == nil && len(raw) > 0 && len(raw) <= maxPacket
}

// beginsAlike finds a packet that is the beginning of p or begins with p.
func beginsAlike(p string, packets []string) (string, bool) {
	for _, other := range packets {
		if strings.HasPrefix(other, p) || strings.HasPrefix(p, other) {
			return other, true
		}
	}
	return "", false
}

// Conflict says why two links cannot both be in use, or is nil. Two buses share
// a port that DTUs dial in to if their registrations tell them apart.
func (l Link) Conflict(other Link) error {
	if l.Serial != other.Serial || l.Listen != other.Listen {
		return nil
	}
	if !l.Listen {
		if l.Address == other.Address {
			return fmt.Errorf("%w %q is used twice: put the devices of both on one bus", ErrLink, l)
		}
		return nil
	}
	host, port, _ := net.SplitHostPort(l.Address)
	otherHost, otherPort, _ := net.SplitHostPort(other.Address)
	switch {
	case port != otherPort, host != otherHost && !wildcard(host) && !wildcard(otherHost):
		return nil
	case host != otherHost:
		return fmt.Errorf("%w %q and %q: one port, of all addresses and of one of them: want the same address in both", ErrLink, l, other)
	case len(l.Register) == 0 || len(other.Register) == 0:
		return fmt.Errorf("%w %q and %q share a port: want register=HEX in both, or another port", ErrLink, l, other)
	}
	for _, r := range l.Register {
		if same, ok := beginsAlike(r, other.Register); ok {
			return fmt.Errorf("%w %q and %q share a port, and their registrations %x and %x begin alike: want packets that can be told apart", ErrLink, l, other, r, same)
		}
	}
	return nil
}

// wildcard reports whether a host to listen on is every address of this box.
func wildcard(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// admits reports whether a DTU may dial in from there.
func (l Link) admits(source netip.Addr) bool {
	return len(l.Allow) == 0 || slices.ContainsFunc(l.Allow, func(p netip.Prefix) bool { return p.Contains(source) })
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
