package profiles

import (
	"maps"
	"slices"

	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

// Place returns the profile with one point standing where a site's register
// says. What is wrong with the register, for a point that the site gives a role
// ("" keeps the profile's), is added to d under its key.
func (p Profile) Place(d *strict.Doc, key, name string, role point.Role, r Register) Profile {
	i := slices.IndexFunc(p.Points, func(pt Point) bool { return pt.Name == name })
	if i < 0 {
		return p
	}
	c := checker{Doc: d, p: &p, way: wayOf(p.Driver)}
	pt := r.apply(p.Driver, p.Points[i])
	if point.Roles[role].Kind == pt.Kind() {
		pt.Role = role // for the units that go with it; whether the role fits is not a question of the register
	}
	if p.Points[i].Open() && r.Address == nil {
		c.Fail(key+".address", "give the zero-based address", "is missing")
	}
	if pt.Open() {
		c.Fail(key+".space", strict.OneOf("", c.way.spaces), "is missing")
	}
	if r.States != nil {
		pt.States = "register of " + name
		p.States = maps.Clone(p.States)
		if p.States == nil {
			p.States = make(map[string]StateSet)
		}
		p.States[pt.States] = r.States
		c.stateSet(key+".states", r.States)
	}
	switch isState := pt.Kind() == point.State; {
	case r.States != nil && !isState:
		c.Fail(key+".states", "remove it", "role %s has no states", pt.Role)
	case isState && len(p.States[pt.States]) == 0:
		c.Fail(key+".states", "name the codes: {0: {name: normal, class: normal}, …}", "is missing")
	}
	if r.Scale != nil && *r.Scale == 0 {
		c.Fail(key+".scale", scaleHint, "is zero")
		pt.Scale = 1 // one finding is enough
	}
	c.value(key, &pt)
	c.table(key, p.States[pt.States], &pt)
	pt.Role = p.Points[i].Role
	p.Points = slices.Clone(p.Points)
	p.Points[i] = pt
	c.together(func(n int) string {
		if n == i {
			return key
		}
		return ""
	})
	return p
}
