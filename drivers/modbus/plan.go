package modbus

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

// functions maps a space to the function that reads it (MODBUS Application
// Protocol V1.1b3, 6.1 to 6.4).
var functions = map[string]byte{
	"coil":     modbus.ReadCoils,
	"discrete": modbus.ReadDiscreteInputs,
	"holding":  modbus.ReadHoldingRegisters,
	"input":    modbus.ReadInputRegisters,
}

// block is a run of items in one space of one unit.
type block struct {
	unit     byte
	function byte
	start    int
	count    int
}

func (b block) end() int { return b.start + b.count }
func (b block) bits() bool {
	return b.function == modbus.ReadCoils || b.function == modbus.ReadDiscreteInputs
}
func (b block) limit() int {
	if b.bits() {
		return modbus.MaxBits
	}
	return modbus.MaxRegisters
}

// holds reports whether other lies within b.
func (b block) holds(other block) bool {
	return b.unit == other.unit && b.function == other.function && b.start <= other.start && other.end() <= b.end()
}

// place says where an item of so many registers stands.
func place(spec drivers.Spec, at drivers.Item, registers int) block {
	return block{
		unit:     byte(spec.Address + at.UnitPlus),
		function: functions[at.Space],
		start:    int(at.Address),
		count:    registers,
	}
}

// pace is what points must share to be read together.
type pace struct {
	every    time.Duration
	critical bool
}

// plan groups the points by pace, their items into requests, and what hangs
// together by shared requests into jobs.
func (d *Driver) plan(spec drivers.Spec) error {
	var paces []pace
	groups := make(map[pace][]*drivers.PointSpec)
	for i := range spec.Points {
		p := &spec.Points[i]
		if !readable(p) {
			continue
		}
		key := pace{every: period(spec, p), critical: p.Critical}
		if groups[key] == nil {
			paces = append(paces, key)
		}
		groups[key] = append(groups[key], p)
	}
	for _, key := range paces {
		if err := d.planGroup(spec, key, groups[key]); err != nil {
			return err
		}
	}
	return nil
}

// planGroup makes the jobs of one pace.
func (d *Driver) planGroup(spec drivers.Spec, key pace, points []*drivers.PointSpec) error {
	var items []block
	for _, p := range points {
		items = append(items, needs(spec, p)...)
	}
	blocks := coalesce(items, spec.Hole)
	sources := make([]source, len(blocks))
	for i, b := range blocks {
		r, err := d.readRequest(spec.Framing, b)
		if err != nil {
			return err
		}
		sources[i] = source{block: b, request: r}
	}
	plain := &special{}
	for _, members := range connect(spec, points, blocks) {
		j := &job{}
		public := drivers.Job{Every: key.every, Critical: key.critical}
		for _, i := range members.blocks {
			j.requests = append(j.requests, sources[i].request)
			public.TxBytes += len(sources[i].request.tx)
			public.RxBytes += sources[i].request.rxBytes
		}
		j.points, public.Points = make([]reader, len(members.points)), make([]point.ID, len(members.points))
		for i, p := range members.points {
			j.points[i], public.Points[i] = newReader(spec, p, sources, plain), p.ID
			j.ranged = j.ranged || j.points[i].high && p.Max != nil || j.points[i].low && p.Min != nil
		}
		d.jobs = append(d.jobs, j)
		d.public = append(d.public, public)
	}
	return nil
}

// needs lists every item a point's value depends on.
func needs(spec drivers.Spec, p *drivers.PointSpec) []block {
	items := []block{place(spec, p.At, width(p))}
	for _, l := range []*drivers.Lookup{p.Decimals, p.UnitFrom} {
		if l != nil {
			items = append(items, place(spec, l.At, 1))
		}
	}
	if s := statusOf(spec, p); s != nil {
		items = append(items, place(spec, s.At, width(s)))
	}
	return items
}

// coalesce joins neighbours and overlaps, and what is at most hole apart, into
// the fewest blocks that one request each can read.
func coalesce(items []block, hole int) []block {
	slices.SortFunc(items, func(a, b block) int {
		return cmp.Or(cmp.Compare(a.unit, b.unit), cmp.Compare(a.function, b.function),
			cmp.Compare(a.start, b.start), cmp.Compare(a.count, b.count))
	})
	var out []block
	for _, it := range items {
		if n := len(out); n > 0 {
			last := &out[n-1]
			end := max(last.end(), it.end())
			if last.unit == it.unit && last.function == it.function &&
				it.start <= last.end()+hole && end-last.start <= last.limit() {
				last.count = end - last.start
				continue
			}
		}
		out = append(out, it)
	}
	return out
}

// cluster is a set of points and the blocks they share.
type cluster struct {
	points []*drivers.PointSpec
	blocks []int
}

// connect finds which points must be read together because they share blocks.
func connect(spec drivers.Spec, points []*drivers.PointSpec, blocks []block) []cluster {
	root := make([]int, len(blocks))
	for i := range root {
		root[i] = i
	}
	find := func(i int) int {
		for root[i] != i {
			i = root[i]
		}
		return i
	}
	first := make([]int, len(points)) // a block of each point
	for n, p := range points {
		for k, it := range needs(spec, p) {
			i := slices.IndexFunc(blocks, func(b block) bool { return b.holds(it) })
			if k == 0 {
				first[n] = i
			}
			a, b := find(first[n]), find(i)
			root[max(a, b)] = min(a, b)
		}
	}
	var out []cluster
	for i := range blocks {
		if find(i) != i {
			continue
		}
		var c cluster
		for k := range blocks {
			if find(k) == i {
				c.blocks = append(c.blocks, k)
			}
		}
		for n, p := range points {
			if find(first[n]) == i {
				c.points = append(c.points, p)
			}
		}
		out = append(out, c)
	}
	return out
}

// readRequest builds the request for a block and keeps the shortest of each
// unit id as a probe.
func (d *Driver) readRequest(framing drivers.Framing, b block) (*request, error) {
	var data [4]byte
	binary.BigEndian.PutUint16(data[0:], uint16(b.start))
	binary.BigEndian.PutUint16(data[2:], uint16(b.count))
	r, err := newRequest(framing, b.unit, b.function, data[:]...)
	if err != nil {
		return nil, fmt.Errorf("reading %d items at %d: %w", b.count, b.start, err)
	}
	size := 2 * b.count
	if b.bits() {
		size = (b.count + 7) / 8
	}
	r.data, r.fresh = make([]byte, size), make([]byte, size)
	// The request's own wrapping, function and count come back around the data.
	r.rxBytes = len(r.tx) - 4 + 1 + size
	switch i := slices.IndexFunc(d.probes, func(p *request) bool { return p.unit == b.unit }); {
	case i < 0:
		d.probes = append(d.probes, r)
	case r.rxBytes < d.probes[i].rxBytes:
		d.probes[i] = r
	}
	return r, nil
}

// readable reports whether a point is polled: an output may be write-only.
func readable(p *drivers.PointSpec) bool { return p.Write == nil || p.At.Space != "" }

// period is how often a point is read.
func period(spec drivers.Spec, p *drivers.PointSpec) time.Duration {
	if p.Every > 0 {
		return p.Every
	}
	return spec.Every
}

// statusOf finds the State point that vouches for p, or nil.
func statusOf(spec drivers.Spec, p *drivers.PointSpec) *drivers.PointSpec {
	if p.StatusOf == "" {
		return nil
	}
	for i := range spec.Points {
		if spec.Points[i].ID.Name() == p.StatusOf {
			return &spec.Points[i]
		}
	}
	return nil
}
