package modbus

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/point"
)

// typeNames are the types a register can have.
var typeNames = []string{"u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"}

// registersOf lays a number out as a device of that word and byte order does.
func registersOf(raw uint64, words int, low, swap bool) []byte {
	data := binary.BigEndian.AppendUint64(nil, raw)[8-2*words:]
	if low != swap { // the mirror image has both turned round, so one of them is
		for i := 0; i < len(data); i += 2 {
			data[i], data[i+1] = data[i+1], data[i]
		}
	}
	if low {
		slices.Reverse(data)
	}
	return data
}

// FuzzRoundTrip lays a number out in every type and order and reads it back.
func FuzzRoundTrip(f *testing.F) {
	for i := range typeNames {
		for _, low := range []bool{false, true} {
			for _, swap := range []bool{false, true} {
				f.Add(uint64(0x0102030405060708), byte(i), low, swap)
				f.Add(math.Float64bits(-230.1), byte(i), low, swap)
				f.Add(uint64(math.Float32bits(-230.1)), byte(i), low, swap)
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw uint64, kind byte, low, swap bool) {
		p := holding("p", 0)
		p.Type, p.Swap = typeNames[int(kind)%len(typeNames)], swap
		if low {
			p.Order = "LH"
		}
		var want, slack float64
		switch p.Type {
		case "u16":
			want = float64(uint16(raw))
		case "s16":
			want = float64(int16(raw))
		case "u32":
			want = float64(uint32(raw))
		case "s32":
			want = float64(int32(raw))
		case "u64":
			want = float64(raw)
		case "s64":
			want = float64(int64(raw))
		case "f32":
			want, slack = float64(math.Float32frombits(uint32(raw))), 5e-7
		case "f64":
			want, slack = math.Float64frombits(raw), 5e-15
		}
		got := readOne(t, spec(p), registersOf(raw, width(&p), low, swap))["d/p"]
		if math.IsNaN(want) || math.IsInf(want, 0) {
			if got.Quality != point.Fault {
				t.Errorf("%s %v: %+v, want a fault", p.Type, want, got)
			}
			return
		}
		if off := math.Abs(got.Value.Num - want); got.Quality != point.Good || off > slack*math.Abs(want) {
			t.Errorf("%s %v, low %v, swap %v: read as %+v", p.Type, want, low, swap, got)
		}
	})
}

// dice deal out fuzzed bytes as choices; past the end they are all zero.
type dice []byte

func (s *dice) next() byte {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return b
}

func (s *dice) below(n int) int { return int(s.next()) % n }

func (s *dice) number() uint64 {
	return uint64(s.next())<<uint(s.below(57)) | uint64(s.next())
}

func (s *dice) maybe() bool { return s.next()&1 != 0 }

func (s *dice) item() drivers.Item {
	spaces := []string{"holding", "input", "coil", "discrete"}
	return drivers.Item{Space: spaces[s.below(4)], Address: uint32(s.below(16)), UnitPlus: s.below(3)}
}

func (s *dice) lookup() *drivers.Lookup {
	if s.maybe() {
		return nil
	}
	l := &drivers.Lookup{At: s.item(), Bits: uint64(s.next())}
	if s.maybe() {
		l.Map = map[uint64]float64{0: 1, uint64(s.next()): float64(s.below(16))}
	}
	return l
}

func (s *dice) float() *float64 {
	if s.maybe() {
		return nil
	}
	return float(float64(int8(s.next())))
}

func (s *dice) code() *uint64 {
	if s.maybe() {
		return nil
	}
	return code(uint64(s.below(2)))
}

// point makes up one; most of them are without fault.
func (s *dice) point(n int) drivers.PointSpec {
	roles := []point.Role{"temperature", "gas", "oxygen", ""}
	p := drivers.PointSpec{
		ID: point.MakeID("d", fmt.Sprint("p", n)), At: s.item(), Kind: point.Kind(1 + s.below(3)), Role: roles[s.below(4)],
		Type: typeNames[s.below(len(typeNames))], Swap: s.maybe(), Invert: s.maybe(), Critical: s.maybe(),
		Scale: float64(int8(s.next())) / 100, Offset: float64(int8(s.next())),
	}
	if s.maybe() {
		p.Order = "LH"
	}
	if s.below(4) == 0 {
		p.Bits = s.number()
	}
	switch p.Kind {
	case point.Number:
		p.Decimals, p.UnitFrom, p.Min, p.Max, p.MaxStep = s.lookup(), s.lookup(), s.float(), s.float(), s.float()
		if p.MaxStep != nil {
			*p.MaxStep = 1 + math.Abs(*p.MaxStep)
		}
	case point.Bool:
		p.Active, p.Inactive = s.code(), s.code()
	case point.State:
		p.States = map[uint64]drivers.State{s.number(): {Name: "a", Class: drivers.ClassFault}, 0: {Name: "b", Class: drivers.ClassNormal}}
	}
	if s.maybe() {
		p.Sentinels = []uint64{uint64(s.below(2))}
	}
	if s.below(4) == 0 {
		p.StatusOf = fmt.Sprint("p", s.below(4))
	}
	return p
}

// FuzzSpec reads any device by any spec that New takes: every point of every
// job is emitted once each time, and its number is one.
func FuzzSpec(f *testing.F) {
	f.Add([]byte{}, []byte{0xFF})
	f.Add(slices.Repeat([]byte{0}, 200), []byte{1, 2, 3, 4})
	f.Add(slices.Repeat([]byte{1, 3, 7, 2}, 60), []byte{0, 0xFF, 9})
	f.Fuzz(func(t *testing.T, choices, registers []byte) {
		s := dice(choices)
		d := drivers.Spec{Device: "d", Framing: drivers.RTU, Address: 1, Every: time.Second, Hole: s.below(4)}
		for n := range 1 + s.below(4) {
			d.Points = append(d.Points, s.point(n))
		}
		asked := 0
		driver, err := New(d, drivers.Deps{Link: &drivertest.Script{Otherwise: func(request []byte) []byte {
			return drivertest.ReplyRTU(nil, request, func(_, _ byte, address uint16) uint16 {
				asked++
				if len(registers) == 0 {
					return 0
				}
				return uint16(registers[asked%len(registers)])<<8 | uint16(registers[int(address)%len(registers)])
			})
		}}})
		if err != nil {
			t.Skip()
		}
		for range 3 {
			for i, j := range driver.Jobs() {
				var ids []point.ID
				err := driver.Do(t.Context(), i, func(r point.Reading) {
					ids = append(ids, r.Point)
					if math.IsNaN(r.Value.Num) || math.IsInf(r.Value.Num, 0) {
						t.Errorf("%s = %v", r.Point, r.Value)
					}
				})
				if err != nil || !slices.Equal(ids, j.Points) {
					t.Errorf("job %d: emitted %v, err %v; want %v", i, ids, err, j.Points)
				}
			}
		}
	})
}
