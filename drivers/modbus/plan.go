package modbus

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
	"unique"

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

// planner builds what a driver does from a spec without fault.
type planner struct {
	spec   drivers.Spec
	encode encoder
	d      *Driver
	coded  map[codes]*special // of points that have codes and nothing else
}

// polls groups the points by pace, their items into requests, and what hangs
// together by shared requests into jobs.
func (p *planner) polls() error {
	var paces []pace
	groups := make(map[pace][]*drivers.PointSpec)
	for i := range p.spec.Points {
		ps := &p.spec.Points[i]
		if !readable(ps) {
			continue
		}
		key := pace{every: period(p.spec, ps), critical: ps.Critical}
		if groups[key] == nil {
			paces = append(paces, key)
		}
		groups[key] = append(groups[key], ps)
	}
	for _, key := range paces {
		if err := p.group(key, groups[key]); err != nil {
			return err
		}
	}
	p.d.jobs, p.d.public = slices.Clip(p.d.jobs), slices.Clip(p.d.public)
	p.d.probes = slices.Clip(p.d.probes)
	data, again := 0, 0
	for i := range p.d.jobs {
		size := 0
		for _, r := range p.d.jobs[i].requests {
			size += r.size
		}
		data = max(data, size)
		if p.d.jobs[i].watched {
			again = max(again, size)
		}
	}
	buffer := make([]byte, data+again)
	p.d.data, p.d.again = buffer[:data:data], buffer[data:]
	return nil
}

// group makes the jobs of one pace.
func (p *planner) group(key pace, points []*drivers.PointSpec) error {
	var items []block
	for _, ps := range points {
		items = append(items, needs(p.spec, ps)...)
	}
	blocks := coalesce(items, p.spec.Hole)
	for _, members := range connect(p.spec, points, blocks) {
		j := job{requests: make([]request, len(members.blocks))}
		public := drivers.Job{Every: key.every, Critical: key.critical, Points: make([]point.ID, len(members.points))}
		sources := make([]source, len(members.blocks))
		place := 0
		for i, b := range members.blocks {
			sources[i] = source{block: blocks[b], place: place}
			r := &j.requests[i]
			if err := p.reads(r, blocks[b]); err != nil {
				return err
			}
			place += r.size
			public.Requests++
			public.TxBytes += len(r.tx)
			public.RxBytes += r.rxBytes()
		}
		for i, ps := range members.points {
			public.Points[i] = ps.ID
		}
		j.runs = p.runs(members.points, sources)
		for i := range j.runs {
			s := j.runs[i].shape.Value()
			j.watched = j.watched || s.watched(j.runs[i].special)
		}
		p.d.jobs = append(p.d.jobs, j)
		p.d.public = append(p.d.public, public)
	}
	return nil
}

// source is a block and where its data stands in the data of its job.
type source struct {
	block block
	place int
}

// find returns where an item stands in the data of a job, in bytes or bits.
func find(sources []source, at block) int32 {
	i := slices.IndexFunc(sources, func(s source) bool { return s.block.holds(at) })
	s := sources[i]
	if at.bits() {
		return int32(8*s.place + at.start - s.block.start)
	}
	return int32(s.place + 2*(at.start-s.block.start))
}

// runs joins points that stand side by side and mean the same.
func (p *planner) runs(points []*drivers.PointSpec, sources []source) []run {
	var out []run
	for _, ps := range points {
		at := place(p.spec, ps.At, width(ps))
		s := newShape(ps, at)
		r := run{shape: unique.Make(s), special: p.special(ps, sources), place: find(sources, at), count: 1}
		if n := len(out); n > 0 {
			last := &out[n-1]
			if last.special == r.special && last.shape == r.shape && int(last.place)+int(last.count)*s.step() == int(r.place) {
				last.count++
				continue
			}
		}
		out = append(out, r)
	}
	return slices.Clone(out)
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

// reads makes r the request for a block, and a probe if it is the shortest of
// its unit id.
func (p *planner) reads(r *request, b block) error {
	var data [4]byte
	binary.BigEndian.PutUint16(data[0:], uint16(b.start))
	binary.BigEndian.PutUint16(data[2:], uint16(b.count))
	var err error
	if r.tx, err = p.encode(b.unit, b.function, data[:]...); err != nil {
		return fmt.Errorf("reading %d items at %d: %w", b.count, b.start, err)
	}
	r.size = 2 * b.count
	if b.bits() {
		r.size = (b.count + 7) / 8
	}
	switch i := slices.IndexFunc(p.d.probes, func(o *request) bool { return p.d.unit(o.tx) == b.unit }); {
	case i < 0:
		p.d.probes = append(p.d.probes, r)
	case r.size < p.d.probes[i].size:
		p.d.probes[i] = r
	}
	return nil
}

// rxBytes is the size of the reply: the request's own wrapping, function and
// count come back around the data.
func (r *request) rxBytes() int { return len(r.tx) - 4 + 1 + r.size }

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
