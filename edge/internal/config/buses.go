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

// Defaults of a bus. A reply deadline must outlast the longest reply.
const (
	thinkTime       = 200 * time.Millisecond // what a serial slave may take before it begins to answer
	longestFrame    = 256                    // bytes of the longest Modbus RTU frame, MODBUS over serial line V1.02, 2.5.1.1
	bitsPerChar     = 11                     // on the line, the same document, 2.5.1
	networkTimeout  = time.Second
	defaultBaud     = 9600 // behind a serial server that nobody described
	defaultRetries  = 1
	fastBaud        = 19200 // above it the silence is fixed, 2.5.1.1
	fastGap         = 1750 * time.Microsecond
	maxTimeout      = 30 * time.Second
	maxGap          = time.Second
	maxRetries      = 5
	shortestPoll    = 100 * time.Millisecond
	slowestSafety   = 10 * time.Second // NFPA 72, EN 54-2: input to local alert
	lastUnitAddress = 247              // MODBUS over serial line V1.02, 2.2
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
	l.pace(key, b, link)
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
	}
}

// pace checks and fills timeout, gap and retries.
func (l *loader) pace(key string, b *Bus, link bus.Link) {
	if l.Has(key+".timeout") && (b.Timeout < 10*time.Millisecond || b.Timeout > maxTimeout) {
		l.Fail(key+".timeout", "use 10ms to 30s", "%v is out of range", b.Timeout)
	}
	if b.Gap < 0 || b.Gap > maxGap {
		l.Fail(key+".gap", "use 0s to 1s", "%v is out of range", b.Gap)
	}
	if b.Retries == nil {
		n := defaultRetries
		b.Retries = &n
	} else if *b.Retries < 0 || *b.Retries > maxRetries {
		l.Fail(key+".retries", "use 0 to 5", "%d is out of range", *b.Retries)
	}
	timeout, gap := defaultPace(link, b.Framing)
	setDefault(&b.Timeout, timeout)
	if !l.Has(key + ".gap") {
		b.Gap = gap
	}
}

// defaultPace is the reply deadline and the silence between frames of a link
// of which nobody said more.
func defaultPace(link bus.Link, framing drivers.Framing) (timeout, gap time.Duration) {
	if framing == drivers.TCP {
		return networkTimeout, 0
	}
	baud := link.Baud
	if baud == 0 {
		baud = defaultBaud
	}
	char := time.Second * bitsPerChar / time.Duration(baud)
	gap = fastGap
	if baud <= fastBaud {
		gap = char * 7 / 2
	}
	timeout = thinkTime + longestFrame*char
	if !link.Serial {
		timeout += networkTimeout
	}
	return timeout.Round(time.Millisecond), gap
}
