package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gatehouse/drivers"
	"gatehouse/edge/internal/bus"
	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

// Bounds of what a site may say of a line.
const (
	minTimeout     = 10 * time.Millisecond
	maxTimeout     = 30 * time.Second
	maxGap         = time.Second
	defaultRetries = 1
	maxRetries     = 5
)

// anyLink is what a link looks like.
const anyLink = "serial:PATH?baud=9600&parity=none&stop=1, tcp://HOST:PORT or tcp-listen://:PORT?register=HEX"

func (l *loader) buses() {
	if len(l.cfg.Devices) == 0 {
		l.warn("devices", "add buses and devices as in configs/gateway-example.yaml", "no device is listed: nothing is watched")
	}
	ids, links := make(map[string]bool), make(map[string]bus.Link)
	for i := range l.cfg.Buses {
		b := &l.cfg.Buses[i]
		key := fmt.Sprintf("buses[%d]", i)
		l.identify(key, b.ID, ids)
		l.link(key, b, links)
	}
}

// identify checks an id and that it is the first of its kind.
func (l *loader) identify(key, id string, taken map[string]bool) {
	switch {
	case !l.required(key+".id", id, "give it an id of its own"):
	case !point.ValidName(id):
		l.Fail(key+".id", "use 1 to 64 letters, digits, '_', '.' or '-'", "%q is no id", id)
	case taken[id]:
		l.Fail(key+".id", "give each its own", "the id %q is taken", id)
	}
	taken[id] = true
}

func (l *loader) link(key string, b *Bus, links map[string]bus.Link) {
	if !l.required(key+".link", b.Link, "write "+anyLink) {
		return
	}
	link, err := bus.ParseLink(b.Link)
	if err != nil {
		l.badLink(key+".link", b.Link, err)
		return
	}
	l.port(key+".link", link)
	for _, id := range slices.Sorted(maps.Keys(links)) {
		if err := link.Conflict(links[id]); err != nil {
			l.conflict(key+".link", id, link, err)
			break
		}
	}
	links[b.ID] = link
	l.framing(key, b, link)
	l.pace(key, b)
}

// port checks that a serial port's name means the same port after a reboot.
func (l *loader) port(key string, link bus.Link) {
	if !link.Serial {
		return
	}
	better, stable := bus.StableName(link.Address)
	switch {
	case stable:
	case better == "":
		l.Fail(key, "name it by socket: ls -l /dev/serial/by-path", "%s may be another adapter after the next boot", link.Address)
	default:
		l.Fail(key, "write serial:"+better, "%s may be another adapter after the next boot", link.Address)
	}
}

// conflict reports that another bus has the same link, or listens where this
// one wants to.
func (l *loader) conflict(key, other string, link bus.Link, err error) {
	if !link.Listen {
		l.Fail(key, "put the devices of both on one bus", "bus %s already owns %s", other, link.Address)
		return
	}
	what, hint := wanted(strings.TrimPrefix(err.Error(), bus.ErrLink.Error()+" "))
	l.Fail(key, hint, "bus %s is in the way: %s", other, what)
}

// badLink reports each fault of a link on its own: what it says, and what the
// bus wants instead.
func (l *loader) badLink(key, link string, err error) {
	for fault := range strings.SplitSeq(err.Error(), "\n") {
		what, hint := wanted(strings.TrimPrefix(fault, fmt.Sprintf("%v %q: ", bus.ErrLink, link)))
		if what == "" {
			what = fmt.Sprintf("%q is no link", link)
		}
		if hint == "" {
			hint = "write " + anyLink
		}
		l.Fail(key, hint, "%s", what)
	}
}

// wanted splits a fault the bus found into what is wrong and what to do.
func wanted(fault string) (what, hint string) {
	what, want, _ := strings.Cut(": "+fault, ": want ")
	if want != "" {
		hint = "write " + want
	}
	return strings.TrimPrefix(what, ": "), hint
}

func (l *loader) framing(key string, b *Bus, link bus.Link) {
	switch {
	case b.Framing == "" && link.Serial:
		b.Framing = drivers.RTU
	case b.Framing == "" && link.Listen:
		l.Fail(key+".framing", "write rtu: what dials in is a serial server", "is missing")
	case b.Framing == "":
		l.Fail(key+".framing", "write tcp if the device itself speaks Modbus TCP, rtu if it hangs on a transparent serial server", "is missing")
	case b.Framing != drivers.RTU && b.Framing != drivers.TCP:
		l.Fail(key+".framing", strict.OneOf(b.Framing, []drivers.Framing{drivers.RTU, drivers.TCP}), "unknown framing %q", b.Framing)
	case b.Framing == drivers.TCP && link.Serial:
		l.Fail(key+".framing", "remove it: a serial line carries rtu", "tcp does not run on a serial line")
	case b.Framing == drivers.TCP && link.Listen:
		l.Fail(key+".framing", "write rtu: what dials in is a serial server", "a device that speaks Modbus TCP does not dial in")
	}
}

// pace checks timeout, gap and retries. What the site does not state stays
// zero: the bus knows what fits the speed of its line.
func (l *loader) pace(key string, b *Bus) {
	l.timing(key, b.Timeout, b.Gap)
	if b.Retries == nil {
		n := defaultRetries
		b.Retries = &n
	} else if *b.Retries < 0 || *b.Retries > maxRetries {
		l.Fail(key+".retries", "use 0 to 5", "%d is out of range", *b.Retries)
	}
}

// timing checks the two times of a bus or a device.
func (l *loader) timing(key string, timeout, gap time.Duration) {
	if l.Has(key+".timeout") && (timeout < minTimeout || timeout > maxTimeout) {
		l.Fail(key+".timeout", "use 10ms to 30s", "%v is out of range", timeout)
	}
	if gap < 0 || gap > maxGap {
		l.Fail(key+".gap", "use 0s to 1s", "%v is out of range", gap)
	}
}
