package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gatehouse/drivers"
	"gatehouse/edge/internal/bus"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/firmware-profiles/strict"
)

// Bounds of how often a device may be asked.
const (
	shortestPoll  = 10 * time.Millisecond
	longestPoll   = time.Hour
	slowestSafety = 10 * time.Second // NFPA 72, EN 54-2: input to local alert
)

func (l *loader) devices() {
	plans := make([]BusPlan, len(l.cfg.Buses))
	lines := make([]line, len(plans))
	index := make(map[string]int, len(plans))
	for i, b := range l.cfg.Buses {
		plans[i].Bus = b
		if b.ID != "" {
			index[b.ID] = i
		}
	}
	ids := make(map[string]bool)
	for i := range l.cfg.Devices {
		d := &l.cfg.Devices[i]
		key := fmt.Sprintf("devices[%d]", i)
		l.identify(key, d.ID, ids)
		l.required(key+".place", d.Place, "say where an alarm of it should send people: building/unit/room")
		setDefault(&d.Name, d.ID)
		at, known := index[d.Bus]
		l.deviceBus(key, d.Bus, known)
		profile, ok := l.profile(key, d)
		if !ok {
			continue
		}
		on := &line{} // of its own, if its bus is not known
		var b Bus
		if known {
			on, b = &lines[at], l.cfg.Buses[at]
		}
		l.join(key, d, profile, b, on)
		plan := l.device(key, d, profile, b)
		if known {
			plans[at].Devices = append(plans[at].Devices, plan)
		}
	}
	l.plan.Buses = plans
	l.cardKey()
}

func (l *loader) deviceBus(key, id string, known bool) {
	if known || !l.required(key+".bus", id, "name one of buses") {
		return
	}
	ids := make([]string, len(l.cfg.Buses))
	for i, b := range l.cfg.Buses {
		ids[i] = b.ID
	}
	l.Fail(key+".bus", strict.OneOf(id, ids), "there is no bus %q", id)
}

// profile loads the device's profile in the variant it asks for.
func (l *loader) profile(key string, d *Device) (profiles.Profile, bool) {
	if !l.required(key+".profile", d.Profile, "name the device's model, as firmware-profiles lists them, or the path of a .yaml of your own") {
		return profiles.Profile{}, false
	}
	p, cached := l.profiles[d.Profile]
	if !cached {
		var ok bool
		if p, ok = l.loadProfile(key+".profile", d.Profile); !ok {
			return profiles.Profile{}, false
		}
		l.profiles[d.Profile] = p
	}
	with, err := p.With(d.Variant)
	if err != nil {
		hint := "remove it: the profile has no variants"
		if names := slices.Sorted(maps.Keys(p.Variants)); len(names) > 0 {
			hint = strict.OneOf(d.Variant, names)
		}
		l.Fail(key+".variant", hint, "%v", err)
		return p, true // its points are still worth checking
	}
	return with, true
}

// loadProfile returns a shipped profile by its name, or the site's own by the
// path of its file.
func (l *loader) loadProfile(key, name string) (profiles.Profile, bool) {
	var p profiles.Profile
	var err error
	switch {
	case strings.HasSuffix(name, ".yaml"):
		data, _, readErr := l.read(l.path(name))
		if readErr != nil {
			l.Fail(key, "name an existing profile file, or one of the shipped profiles without .yaml", "%v", readErr)
			return p, false
		}
		p, err = profiles.Parse(l.path(name), data)
	case slices.Contains(profiles.Names(), name):
		p, err = profiles.Load(name)
	default:
		l.Fail(key, strict.OneOf(name, profiles.Names()), "unknown profile %q", name)
		return p, false
	}
	var problems Errors
	if errors.As(err, &problems) {
		l.elsewhere = append(l.elsewhere, problems...)
	}
	return p, err == nil
}

// device checks what the site says about the device and its points, and
// compiles the rest.
func (l *loader) device(key string, d *Device, p profiles.Profile, b Bus) DevicePlan {
	l.poll(key, d, p)
	p = l.registers(key, d, p)
	overrides := make(map[string]Override, len(d.Points))
	for name, site := range d.Points {
		at := key + ".points." + name
		pt, ok := p.Point(name)
		if !ok {
			l.Fail(at, strict.OneOf(name, p.PointNames()), "profile %s has no point %q", p.Model, name)
			continue
		}
		overrides[name] = l.override(at, site, pt)
	}
	for _, pt := range p.Points {
		l.doubts(key, d, p, pt, overrides[pt.Name].role(pt))
	}
	target := Target{Device: d.ID, Address: d.Address, Every: d.Poll, Framing: b.Framing, AllowClear: d.ClearText}
	if d.Meter != anyMeter {
		target.Meter = d.Meter
	}
	spec := Compile(p, target, overrides)
	if d.Poll > slowestSafety && !p.Unasked() && slices.ContainsFunc(spec.Points, func(p drivers.PointSpec) bool { return p.Critical }) {
		l.warn(key+".poll", fmt.Sprintf("use %v or less", slowestSafety), "an alarm of this device may be %v late", d.Poll)
	}
	for i, ps := range spec.Points {
		l.plan.Points[ps.ID] = l.info(ps.ID, d, p.Points[i], overrides[p.Points[i].Name], p)
	}
	return DevicePlan{
		Driver: p.Driver, Spec: spec, Offline: p.Timing.Offline,
		Timing: l.deviceTiming(key, d, p, b, spec), KeyFile: l.door(key, d, p, spec),
	}
}

// poll checks and fills how often the device is asked.
func (l *loader) poll(key string, d *Device, p profiles.Profile) {
	given := l.Has(key + ".poll")
	if !given {
		d.Poll = p.Timing.Poll
	}
	slowest := p.SlowestPoll()
	switch offline := p.Timing.Offline; {
	case given && p.Unasked():
		l.Fail(key+".poll", "remove it", "nobody asks a device that talks by itself")
	case given && (d.Poll < shortestPoll || d.Poll > longestPoll):
		l.Fail(key+".poll", "use 10ms to 1h", "%v is out of range", d.Poll)
	case given && slowest > 0 && d.Poll > slowest:
		l.Fail(key+".poll", fmt.Sprintf("ask at least every %v", slowest), "the device takes a silence like %v for the end", d.Poll)
	case given && offline > 0 && d.Poll >= offline:
		l.Fail(key+".poll", fmt.Sprintf("ask more often than every %v", offline), "the device counts as lost after %v of silence", offline)
	}
}

// deviceTiming is how the device wants to be spoken to.
func (l *loader) deviceTiming(key string, d *Device, p profiles.Profile, b Bus, spec drivers.Spec) bus.Timing {
	l.timing(key, d.Timeout, d.Gap)
	t := bus.Timing{Timeout: patience(p, b), Gap: p.Timing.Gap, Mode: l.mode(key, d, b), Reveal: reveal(p.Driver, spec)}
	if d.Timeout > 0 {
		t.Timeout = d.Timeout
	}
	if d.Timeout > longWait {
		l.warn(key+".timeout", "give no more than the device needs", "while %s does not answer, an alarm of its neighbours on bus %s may be %v late", d.ID, d.Bus, d.Timeout)
	}
	if d.Gap > 0 {
		t.Gap = d.Gap
	}
	if w := p.Timing.Wake; w != nil {
		t.Wake, t.WakePause = w.Bytes, w.Pause
	}
	return t
}

// longWait is a timeout that leaves too little of the ten seconds in which an
// alarm must be told.
const longWait = 5 * time.Second

// networkShare is what a network may add to a device's reply, as in a bus's own
// default.
const networkShare = time.Second

// patience is how long the device may take by its profile, and by what the site
// says of its bus; 0 is the bus's own default. A profile knows the device and not
// the way to it.
func patience(p profiles.Profile, b Bus) time.Duration {
	timeout := p.Timing.Timeout
	if timeout == 0 {
		return 0
	}
	if link, err := bus.ParseLink(b.Link); err == nil && !link.Serial {
		timeout += networkShare
	}
	return max(timeout, b.Timeout)
}

// mode is the device's own line setting: the zero Mode if it has none.
func (l *loader) mode(key string, d *Device, b Bus) bus.Mode {
	s := d.Serial
	if s == nil {
		return bus.Mode{}
	}
	key += ".serial"
	if link, err := bus.ParseLink(b.Link); err == nil && !link.Serial {
		l.Fail(key, "give the device the setting of its bus, or a local port", "one speed rules behind a serial server, for all devices")
		return bus.Mode{}
	}
	setDefault(&s.Parity, string(bus.ParityNone))
	setDefault(&s.Stop, 1)
	if s.Baud < 300 || s.Baud > 4_000_000 {
		l.Fail(key+".baud", "write a line speed such as 9600", "%d is none", s.Baud)
	}
	if parities := []string{"none", "even", "odd"}; !slices.Contains(parities, s.Parity) {
		l.Fail(key+".parity", strict.OneOf(s.Parity, parities), "unknown parity %q", s.Parity)
	}
	if s.Stop != 1 && s.Stop != 2 {
		l.Fail(key+".stop", "1 or 2", "%d is no number of stop bits", s.Stop)
	}
	return bus.Mode{Baud: s.Baud, Parity: bus.Parity(s.Parity), StopBits: s.Stop}
}
