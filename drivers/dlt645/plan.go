package dlt645

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/internal/meaning"
	"gatehouse/protocol/dlt645"
	"gatehouse/protocol/point"
)

// maxSize is how many bytes a value can have: sixteen digits.
const maxSize = 8

// plan makes one job of each data id, at the pace of its hastiest point.
func (d *Driver) plan(spec drivers.Spec) {
	var ids []uint32
	groups := make(map[uint32][]*drivers.PointSpec)
	for i := range spec.Points {
		p := &spec.Points[i]
		if groups[p.At.Address] == nil {
			ids = append(ids, p.At.Address)
		}
		groups[p.At.Address] = append(groups[p.At.Address], p)
	}
	for _, id := range ids {
		points := groups[id]
		j := &job{
			read: newRequest(dlt645.NewRead(d.address, id)), next: newRequest(dlt645.NewReadNext(d.address, id)),
			size: points[0].Size, points: meaning.New(points), data: make([]byte, 0, 2*dlt645.MaxData),
		}
		public := drivers.Job{
			Every: period(spec, points[0]), TxBytes: len(j.read.Bytes()),
			RxBytes: dlt645.Wakeups + dlt645.Wrapping + dlt645.IDSize + j.size,
		}
		for _, p := range points {
			j.fields = append(j.fields, newField(p))
			public.Points = append(public.Points, p.ID)
			public.Every = min(public.Every, period(spec, p))
			public.Critical = public.Critical || p.Critical
		}
		if d.probe == nil || j.size < d.probe.size {
			d.probe = j
		}
		d.jobs = append(d.jobs, j)
		d.public = append(d.public, public)
	}
}

func newField(p *drivers.PointSpec) field {
	width := 8 * p.Size
	if p.Bits != 0 {
		width = bits.OnesCount64(p.Bits)
	}
	return field{bits: p.Bits, signed: p.Type == "sbcd", top: 1 << (width - 1), number: p.Kind == point.Number}
}

// period is how often a point is read.
func period(spec drivers.Spec, p *drivers.PointSpec) time.Duration {
	if p.Every > 0 {
		return p.Every
	}
	return spec.Every
}

// check reports every fault of a spec at once.
func check(spec drivers.Spec) error {
	errs := meaning.CheckSpec(spec)
	if spec.Framing == drivers.TCP {
		errs = append(errs, errors.New("framing tcp: that is Modbus TCP; a meter speaks through a transparent serial server"))
	}
	if spec.Meter != "" {
		if a, err := dlt645.ParseAddress(spec.Meter); err != nil {
			errs = append(errs, err)
		} else if !a.Valid() {
			errs = append(errs, fmt.Errorf("meter address %s: no meter answers a broadcast", spec.Meter))
		}
	}
	if spec.Frame != nil {
		errs = append(errs, errors.New("frame: DL/T 645 has its own"))
	}
	for i := range spec.Points {
		p := &spec.Points[i]
		for _, err := range checkPoint(spec, p) {
			errs = append(errs, fmt.Errorf("point %s: %w", p.ID, err))
		}
	}
	for i, err := range errs {
		errs[i] = fmt.Errorf("dlt645 device %s: %w", spec.Device, err)
	}
	return errors.Join(errs...)
}

func checkPoint(spec drivers.Spec, p *drivers.PointSpec) []error {
	errs := meaning.Check(p)
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.At.Space != "di" {
		fail("space %q: want di", p.At.Space)
	}
	if p.Type != "bcd" && p.Type != "sbcd" {
		fail("type %q: want bcd, or sbcd if the top bit is the sign", p.Type)
	}
	if p.Order == "LH" {
		fail("order LH: the order of bytes is the protocol's")
	}
	if p.Size < 1 || p.Size > maxSize {
		fail("size %d: want 1 to %d bytes", p.Size, maxSize)
	} else if n := bits.Len64(p.Bits); n > 8*p.Size {
		fail("bits 0x%X: bit %d is outside %d bytes", p.Bits, n-1, p.Size)
	}
	if p.Kind == point.Text {
		fail("kind text: a meter's value is a number, a bool or a state")
	}
	if p.Type == "sbcd" && p.Kind != point.Number {
		fail("type sbcd: only a number has a sign")
	}
	if period(spec, p) <= 0 {
		fail("no poll period: give the point or the device one")
	}
	for i := range spec.Points {
		if o := &spec.Points[i]; o.At == p.At && o.Size != p.Size {
			fail("size %d: point %s has %d for the same data; give the whole of it to both, and pick by bits", p.Size, o.ID, o.Size)
			break
		}
	}
	if s := meaning.Status(spec, p); p.StatusOf != "" && (s == nil || s.At != p.At) {
		fail("status_of %q: no state point of that name stands in the same data", p.StatusOf)
	}
	return errs
}
