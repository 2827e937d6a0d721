package rule

import (
	"strings"
	"time"

	"gatehouse/protocol/point"
)

// Catalogue is what is known of every point that is read, by its slot. It is
// asked when an alarm rises or a person looks, and kept for years: so points
// that say the same share it, and a name is kept as the name of its device and
// what follows that.
type Catalogue struct {
	*point.Index
	entries []listed // slot by slot
	words   []string
	kinds   []kind
}

// listed is one point: numbers of words and of a kind.
type listed struct {
	before, last uint32 // of its name; before is noWord if there is only last
	kind         uint32
}

const noWord = ^uint32(0)

// kind is what points share, each of them with many others.
type kind struct {
	place, zone, label string
	role               point.Role
	unit               point.Unit
	kind               point.Kind
	every              time.Duration
	states             string // the alarm states, by NUL
}

// NewCatalogue lists points in their order. No id may come twice.
func NewCatalogue(infos []*PointInfo) (*Catalogue, error) {
	ids := make([]point.ID, len(infos))
	for slot, info := range infos {
		ids[slot] = info.ID
	}
	index, err := point.NewIndex(ids)
	if err != nil {
		return nil, err
	}
	c := &Catalogue{Index: index, entries: make([]listed, len(infos))}
	words, kinds := make(map[string]uint32), make(map[kind]uint32)
	word := func(s string) uint32 {
		n, known := words[s]
		if !known {
			n = uint32(len(c.words))
			s = strings.Clone(s)
			words[s], c.words = n, append(c.words, s)
		}
		return n
	}
	for slot, info := range infos {
		e := &c.entries[slot]
		e.before, e.last = noWord, 0
		if cut := strings.LastIndexByte(info.Name, ' '); cut >= 0 {
			e.before, e.last = word(info.Name[:cut]), word(info.Name[cut+1:])
		} else {
			e.last = word(info.Name)
		}
		k := kind{
			place: info.Place, zone: info.Zone, label: info.Label, role: info.Role, unit: info.Unit, kind: info.Kind,
			every: info.Every, states: strings.Join(info.AlarmStates, "\x00"),
		}
		n, known := kinds[k]
		if !known {
			n = uint32(len(c.kinds))
			kinds[k], c.kinds = n, append(c.kinds, k)
		}
		e.kind = n
	}
	return c, nil
}

// Info returns what is known of the point of one slot.
func (c *Catalogue) Info(slot int32) PointInfo {
	e := c.entries[slot]
	k := &c.kinds[e.kind]
	name := c.words[e.last]
	if e.before != noWord {
		name = c.words[e.before] + " " + name
	}
	info := PointInfo{
		ID: c.ID(slot), Name: name, Place: k.place, Zone: k.zone, Label: k.label, Role: k.role, Unit: k.unit, Kind: k.kind, Every: k.every,
	}
	if k.states != "" {
		info.AlarmStates = strings.Split(k.states, "\x00")
	}
	return info
}
