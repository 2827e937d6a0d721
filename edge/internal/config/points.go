package config

import (
	"fmt"
	"slices"
	"time"

	"gatehouse/edge/internal/rule"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

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
		case o.Contact == contactNC && (p.Active != nil || p.Inactive != nil):
			l.Fail(key+".contact", "remove it: if the codes are the other way round, state so by active and inactive", "point %s has codes, not a contact", p.Name)
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

// doubts warns of what would keep a safety point silent, where the site wrote it: in
// the register of a device, or in a profile of its own.
func (l *loader) doubts(key string, d *Device, p profiles.Profile, pt profiles.Point, role point.Role) {
	for _, doubt := range p.Doubts(pt, role) {
		at, what := key+".profile", "point "+pt.Name+": "+doubt.What
		if register := key + ".points." + pt.Name + ".register"; l.Has(register + "." + doubt.Key) {
			at, what = register+"."+doubt.Key, doubt.What
		}
		l.warn(at, doubt.Hint, "%s", what)
	}
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
	case info.Safety && p.Active != nil && p.Inactive == nil:
		return fmt.Sprintf("point %s says what is active and not what is safe", p.Name), "give active and inactive: then any third code is a fault"
	case info.Safety && p.Kind() == point.Number && p.Scale <= 0:
		return fmt.Sprintf("point %s falls when what it measures rises", p.Name), "choose a role that nobody's life hangs on"
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
