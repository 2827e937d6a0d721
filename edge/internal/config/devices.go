package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse/drivers"
	"gatehouse/edge/internal/bus"
	"gatehouse/edge/internal/rule"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

// span is the addresses one device takes on its bus.
type span struct {
	first, last int
	device      string
}

func (l *loader) devices() {
	plans := make([]BusPlan, len(l.cfg.Buses))
	index := make(map[string]int, len(plans))
	for i, b := range l.cfg.Buses {
		plans[i].Bus = b
		if b.ID != "" {
			index[b.ID] = i
		}
	}
	ids, spans := make(map[string]bool), make(map[string][]span)
	for i := range l.cfg.Devices {
		d := &l.cfg.Devices[i]
		key := fmt.Sprintf("devices[%d]", i)
		l.identify(key, d.ID, ids)
		l.required(key+".place", d.Place, "say where an alarm of it should send people: building/unit/room")
		setDefault(&d.Name, d.ID)
		at, known := index[d.Bus]
		l.deviceBus(key, d.Bus, known)
		profile, ok := l.profile(key, d)
		l.address(key, d, max(profile.Link.Addresses, 1), spans)
		if !ok {
			continue
		}
		var framing drivers.Framing
		if known {
			framing = plans[at].Framing
		}
		plan := l.device(key, d, profile, framing)
		if known {
			plans[at].Devices = append(plans[at].Devices, plan)
		}
	}
	l.plan.Buses = plans
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
	if !l.required(key+".profile", d.Profile, strict.OneOf("", profiles.Names())) {
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
		if names := variantNames(p); len(names) > 0 {
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

func variantNames(p profiles.Profile) []string {
	names := make([]string, 0, len(p.Variants))
	for n := range p.Variants {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (l *loader) address(key string, d *Device, count int, spans map[string][]span) {
	mine := span{d.Address, d.Address + count - 1, d.ID}
	if !l.Has(key + ".address") {
		l.Fail(key+".address", "give the address set on the device, 1 to 247", "is missing")
		return
	}
	if mine.first < 1 || mine.last > lastUnitAddress {
		what := "%v cannot be set on a device"
		if count > 1 {
			what = "the device would take %v"
		}
		l.Fail(key+".address", fmt.Sprintf("use 1 to %d", lastUnitAddress-count+1), what, mine)
		return
	}
	for _, s := range spans[d.Bus] {
		if mine.first <= s.last && s.first <= mine.last {
			l.Fail(key+".address", "give each device addresses of its own", "device %s takes %s, and this one %s, on bus %s", s.device, s, mine, d.Bus)
			break
		}
	}
	spans[d.Bus] = append(spans[d.Bus], mine)
}

// String prints 7 or 1 to 4.
func (s span) String() string {
	if s.first == s.last {
		return fmt.Sprint(s.first)
	}
	return fmt.Sprintf("%d to %d", s.first, s.last)
}

// device checks what the site says about the points and compiles the rest.
func (l *loader) device(key string, d *Device, p profiles.Profile, framing drivers.Framing) DevicePlan {
	if !l.Has(key + ".poll") {
		d.Poll = p.Timing.Poll
	}
	if d.Poll < shortestPoll || d.Poll > time.Hour {
		l.Fail(key+".poll", "use 100ms to 1h", "%v is out of range", d.Poll)
	}
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
	spec := Compile(p, Target{Device: d.ID, Address: d.Address, Every: d.Poll, Framing: framing}, overrides)
	if d.Poll > slowestSafety && slices.ContainsFunc(spec.Points, func(p drivers.PointSpec) bool { return p.Critical }) {
		l.warn(key+".poll", fmt.Sprintf("use %v or less", slowestSafety), "an alarm of this device may be %v late", d.Poll)
	}
	for i, ps := range spec.Points {
		l.plan.Points[ps.ID] = l.info(ps.ID, d, p.Points[i], overrides[p.Points[i].Name], p)
	}
	return DevicePlan{Driver: p.Driver, Spec: spec, Timing: bus.Timing{Timeout: p.Timing.Timeout, Gap: p.Timing.Gap}}
}

// override checks one point of the site against the profile's.
func (l *loader) override(key string, site DevicePoint, p profiles.Point) Override {
	o := Override{Role: site.Role, Contact: site.Contact, Pulse: site.Pulse}
	if site.Role != "" {
		if fault, hint := roleFits(site.Role, p); fault != "" {
			l.Fail(key+".role", hint, "%s", fault)
			o.Role = ""
		} else if point.Roles[p.Role].Safety && !point.Roles[site.Role].Safety {
			l.warn(key+".role", "keep role "+string(p.Role)+" unless someone answers for it", "takes point %s out of the watch over life safety", p.Name)
		}
	}
	if o.Contact != "" {
		switch {
		case p.Kind() != point.Bool || p.Write != nil:
			l.Fail(key+".contact", "remove it", "point %s is no contact", p.Name)
			o.Contact = ""
		case o.Contact != contactNO && o.Contact != contactNC:
			l.Fail(key+".contact", "no: closes to alarm; nc: opens to alarm", "unknown contact sense %q", o.Contact)
			o.Contact = ""
		}
	}
	if l.Has(key + ".pulse") {
		if fault, hint := pulseFits(o.Pulse, p); fault != "" {
			l.Fail(key+".pulse", hint, "%s", fault)
			o.Pulse = 0
		}
	}
	return o
}

// roleFits says why a point of the profile cannot play a role, or nothing.
func roleFits(role point.Role, p profiles.Point) (fault, hint string) {
	info, known := point.Roles[role]
	output := p.Write != nil
	switch {
	case !known:
		return fmt.Sprintf("unknown role %q", role), strict.OneOf(role, profiles.RoleNames())
	case info.Output != output && output:
		return fmt.Sprintf("role %s is read, but point %s is an output", role, p.Name), "use siren or relay"
	case info.Output != output:
		return fmt.Sprintf("role %s is commanded, but point %s is an input", role, p.Name), "choose an output"
	case info.Kind != point.None && info.Kind != p.Kind():
		return fmt.Sprintf("role %s does not fit: point %s is of another kind (%s)", role, p.Name, p.Role), "choose a role like " + string(p.Role)
	case info.Units != nil && !slices.Contains(info.Units, p.Unit):
		return fmt.Sprintf("role %s does not come in %q, the unit of point %s", role, p.Unit, p.Name), "choose a role like " + string(p.Role)
	}
	return "", ""
}

func pulseFits(pulse time.Duration, p profiles.Point) (fault, hint string) {
	switch {
	case p.Write == nil || p.Write.PulseAddress == nil:
		return fmt.Sprintf("point %s has no pulse of its own", p.Name), "remove it"
	case pulse <= 0 || pulse > p.Write.PulseMax || pulse%(100*time.Millisecond) != 0:
		return fmt.Sprintf("%v is no pulse", pulse), fmt.Sprintf("use a multiple of 100ms up to %v", p.Write.PulseMax)
	}
	return "", ""
}

// info is what rules and people know of a point.
func (l *loader) info(id point.ID, d *Device, p profiles.Point, o Override, of profiles.Profile) *rule.PointInfo {
	site := d.Points[p.Name]
	info := &rule.PointInfo{
		ID:   id,
		Name: site.Name, Place: site.Place, Zone: site.Zone, Label: site.Label,
		Role: o.role(p), Unit: p.Unit, Kind: p.Kind(), Every: d.Poll,
	}
	setDefault(&info.Name, d.Name+" "+p.Names.ZH)
	setDefault(&info.Place, d.Place)
	setDefault(&info.Zone, d.Zone)
	for _, s := range of.States[p.States] {
		if s.Class == "alarm" {
			info.AlarmStates = append(info.AlarmStates, s.Name)
		}
	}
	slices.Sort(info.AlarmStates)
	return info
}
