package config

import (
	"fmt"
	"regexp"
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

// unstable are device paths that another adapter may have after the next boot.
var unstable = regexp.MustCompile(`^/dev/tty(USB|ACM)[0-9]+$`)

func (l *loader) buses() {
	if len(l.cfg.Devices) == 0 {
		l.warn("devices", "add buses and devices as in configs/gateway-example.yaml", "no device is listed: nothing is watched")
	}
	ids, links := make(map[string]bool), make(map[string]string)
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

func (l *loader) link(key string, b *Bus, links map[string]string) {
	if !l.required(key+".link", b.Link, "write serial:PATH?baud=9600&parity=none&stop=1 or tcp://HOST:PORT") {
		return
	}
	link, err := bus.ParseLink(b.Link)
	if err != nil {
		l.badLink(key+".link", b.Link, err)
		return
	}
	if link.Serial && unstable.MatchString(link.Address) {
		l.Fail(key+".link", "name it by socket: ls -l /dev/serial/by-path", "%s may be another adapter after the next boot", link.Address)
	}
	if other, ok := links[link.Address]; ok {
		l.Fail(key+".link", "put the devices of both on one bus", "bus %s already owns %s", other, link.Address)
	}
	links[link.Address] = b.ID
	l.framing(key, b, link)
	l.pace(key, b)
}

// badLink reports each fault of a link on its own: what it says, and what the
// bus wants instead.
func (l *loader) badLink(key, link string, err error) {
	for fault := range strings.SplitSeq(err.Error(), "\n") {
		fault = strings.TrimPrefix(fault, fmt.Sprintf("%v %q: ", bus.ErrLink, link))
		what, want, _ := strings.Cut(": "+fault, ": want ")
		if what = strings.TrimPrefix(what, ": "); what == "" {
			what = fmt.Sprintf("%q is no link", link)
		}
		if want == "" {
			want = "serial:PATH?baud=9600&parity=none&stop=1 or tcp://HOST:PORT"
		}
		l.Fail(key, "write "+want, "%s", what)
	}
}

func (l *loader) framing(key string, b *Bus, link bus.Link) {
	switch {
	case b.Framing == "" && link.Serial:
		b.Framing = drivers.RTU
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
