package config

import (
	"time"

	profiles "gatehouse/firmware-profiles"
)

// registers places the points that the profile leaves to the site, once someone
// has signed for them.
func (l *loader) registers(key string, d *Device, p profiles.Profile) profiles.Profile {
	l.confirmed(key+".confirmed", d.Confirmed, p)
	for _, name := range p.PointNames() {
		at := key + ".points." + name + ".register"
		r := d.Points[name].Register
		pt, _ := p.Point(name)
		switch {
		case r != nil && !p.Confirm:
			l.Fail(at, "remove it, or write a profile of your own", "profile %s says where its points stand", p.Model)
		case r != nil:
			p = p.Place(l.Doc, at, name, d.Points[name].Role, *r)
		case pt.Open():
			l.Fail(at, "give it as the device's manual has it: {space: …, address: …}", "is missing: profile %s leaves open where point %s stands", p.Model, name)
		}
	}
	return p
}

// confirmed checks who answers for registers that no public source shows.
func (l *loader) confirmed(key string, c *Confirmation, p profiles.Profile) {
	switch {
	case c == nil && p.Confirm:
		l.Fail(key, "write {by: name, on: 2026-11-23, source: the manual and its page}", "is missing: someone must answer for what profile %s leaves open", p.Model)
	case c == nil:
	case !p.Confirm:
		l.Fail(key, "remove it", "profile %s leaves nothing open", p.Model)
	default:
		l.required(key+".by", c.By, "say who read the manual or saw the reading")
		l.required(key+".source", c.Source, "name the manual and its page, or the reading that showed it")
		on, err := time.Parse(time.DateOnly, c.On)
		switch {
		case !l.required(key+".on", c.On, "write it as 2026-11-23"):
		case err != nil:
			l.Fail(key+".on", "write it as 2026-11-23", "%q is no date", c.On)
		case on.After(l.now().Add(24 * time.Hour)):
			// No error: a box that lost its clock must still guard what was confirmed.
			l.warn(key+".on", "correct the date, or this box's clock", "%s is still to come", c.On)
		}
	}
}
