package config

import (
	"fmt"
	"math"
	"strings"

	"gatehouse/drivers"
	profiles "gatehouse/firmware-profiles"
)

// anyMeter asks the only DL/T 645 meter of a line, whatever its address.
const anyMeter = "any"

// everyMeter is the address of a broadcast, which none answers, DL/T 645-2007, 5.2.3.
const everyMeter = "999999999999"

// span is the addresses one device takes on its bus.
type span struct {
	first, last int
	device      string
}

// String prints 7 or 1 to 4.
func (s span) String() string {
	if s.first == s.last {
		return fmt.Sprint(s.first)
	}
	return fmt.Sprintf("%d to %d", s.first, s.last)
}

// line is who is on one bus so far.
type line struct {
	devices  []tenant
	spans    []span
	meters   map[string]string // device by meter
	requests map[string]string // device by what asks a line-frame device
}

// tenant is one of them.
type tenant struct {
	device string
	driver string
	lone   string // why it must have the line for itself; "" if it need not
}

// join puts a device on its line, and checks that it can be told from those
// already there.
func (l *loader) join(key string, d *Device, p profiles.Profile, b Bus, on *line) {
	if b.Framing == drivers.TCP && p.Driver != "modbus" {
		l.Fail(key+".bus", "put it on a bus with framing: rtu", "driver %s does not run in Modbus TCP, the framing of bus %s", p.Driver, b.ID)
	}
	if b.Framing == drivers.TCP && p.Timing.Wake != nil {
		l.Fail(key+".bus", "put it on a bus with framing: rtu", "nothing wakes a device through Modbus TCP, the framing of bus %s", b.ID)
	}
	l.address(key, d, p, b, on)
	l.meter(key, d, p, on)
	l.request(key, d, p, on)

	me := tenant{device: d.ID, driver: p.Driver}
	switch {
	case p.Unasked():
		me.lone = "talks unasked"
	case p.Driver == "dlt645" && d.Meter == anyMeter:
		me.lone = "answers for any meter"
	}
	for _, other := range on.devices {
		if fault, hint := neighbours(me, other); fault != "" {
			l.Fail(key+".bus", hint, "%s, on bus %s", fault, d.Bus)
			break
		}
	}
	on.devices = append(on.devices, me)
}

// neighbours says why two devices cannot share a line, or nothing.
func neighbours(me, other tenant) (fault, hint string) {
	const own = "give it a bus of its own"
	switch {
	case me.lone != "":
		return fmt.Sprintf("device %s %s, and device %s is there too", me.device, me.lone, other.device), own
	case other.lone != "":
		return fmt.Sprintf("device %s is there, which %s", other.device, other.lone), own
	case me.driver != other.driver && (me.driver == "osdp" || other.driver == "osdp"):
		return fmt.Sprintf("device %s is there, and door readers share a line with door readers only", other.device), own
	}
	return "", ""
}

// address checks the address set on the device. Over Modbus TCP it is a unit id,
// and devices that need none want 0 or 255 (MODBUS Messaging on TCP/IP V1.0b).
func (l *loader) address(key string, d *Device, p profiles.Profile, b Bus, on *line) {
	key += ".address"
	first, last, has := p.Addresses()
	if b.Framing == drivers.TCP && p.Driver == "modbus" {
		first, last = 0, math.MaxUint8
	}
	if !has {
		if l.Has(key) {
			l.Fail(key, "remove it", "a device of driver %s has none", p.Driver)
		}
		return
	}
	if !l.Has(key) {
		l.Fail(key, fmt.Sprintf("give the address set on the device, %d to %d", first, last), "is missing")
		return
	}
	mine := span{d.Address, d.Address + p.Link.Addresses - 1, d.ID}
	if mine.first < first || mine.last > last {
		what := "%v cannot be set on a device"
		if p.Link.Addresses > 1 {
			what = "the device would take %v"
		}
		l.Fail(key, fmt.Sprintf("use %d to %d", first, last-p.Link.Addresses+1), what, mine)
		return
	}
	for _, s := range on.spans {
		if mine.first <= s.last && s.first <= mine.last {
			l.Fail(key, "give each device addresses of its own", "device %s takes %s, and this one %s, on bus %s", s.device, s, mine, d.Bus)
			break
		}
	}
	on.spans = append(on.spans, mine)
}

// meter checks the address of a DL/T 645 meter.
func (l *loader) meter(key string, d *Device, p profiles.Profile, on *line) {
	key += ".meter"
	if p.Driver != "dlt645" {
		if l.Has(key) {
			l.Fail(key, "remove it", "a device of driver %s is no DL/T 645 meter", p.Driver)
		}
		return
	}
	if !l.required(key, d.Meter, "give the 12 digits on the meter, in quotes, or any if it is alone on its line") || d.Meter == anyMeter {
		return
	}
	if len(d.Meter) != 12 || strings.Trim(d.Meter, "0123456789") != "" || d.Meter == everyMeter {
		l.Fail(key, "give the 12 digits on the meter, zeros in front too", "%q is no meter address", d.Meter)
		return
	}
	if other, taken := on.meters[d.Meter]; taken {
		l.Fail(key, "give each device a meter of its own", "device %s is this meter", other)
		return
	}
	if on.meters == nil {
		on.meters = make(map[string]string)
	}
	on.meters[d.Meter] = d.ID
}

// request checks that only one device answers a request that carries no address.
func (l *loader) request(key string, d *Device, p profiles.Profile, on *line) {
	if p.Driver != "lineframe" || p.Unasked() {
		return
	}
	request := string(p.Frame.Request)
	if other, taken := on.requests[request]; taken {
		l.Fail(key+".bus", "give it a bus of its own", "device %s answers the same request, on bus %s", other, d.Bus)
		return
	}
	if on.requests == nil {
		on.requests = make(map[string]string)
	}
	on.requests[request] = d.ID
}
