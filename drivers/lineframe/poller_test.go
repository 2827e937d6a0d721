package lineframe

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/point"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func float(v float64) *float64 { return &v }

// at is a number in a frame.
func at(name string, offset uint32, kind string, scale float64) drivers.PointSpec {
	return drivers.PointSpec{
		ID: point.MakeID("d", name), Kind: point.Number, At: drivers.Item{Space: "frame", Address: offset}, Type: kind, Scale: scale,
	}
}

// gas is the 4-in-1 module: 9 bytes ask, 11 answer.
func gas(t testing.TB) drivers.Spec {
	s := drivers.Spec{
		Device: "d", Every: time.Second,
		Frame: &drivers.Frame{
			Request: unhex(t, "FF 01 86 00 00 00 00 00 79"), Start: unhex(t, "FF 86"), Size: 11,
			Check: drivers.Check{Kind: "neg8", From: 1, Until: 10, At: -1},
		},
		Points: []drivers.PointSpec{at("co", 2, "u16", 1), at("h2s", 4, "u16", 1), at("o2", 6, "u16", 0.1), at("ch4", 8, "u16", 1)},
	}
	for i, role := range []point.Role{"co", "h2s", "oxygen", "septic_methane"} {
		s.Points[i].Role, s.Points[i].Critical = role, true
	}
	return s
}

// answer is what the module sends.
func answer(co, h2s, o2, ch4 uint16) []byte {
	b := []byte{0xFF, 0x86}
	for _, v := range []uint16{co, h2s, o2, ch4} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	var sum byte
	for _, c := range b[1:] {
		sum += c
	}
	return append(b, -sum)
}

func build(t testing.TB, s drivers.Spec, link drivers.Link) drivers.Driver {
	t.Helper()
	d, err := New(s, drivers.Deps{Link: link, Card: func(b []byte) string { return "<" + string(b) + ">" }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	s := gas(t)
	drivertest.Contract{
		New: New, Spec: s, Checked: true,
		Healthy: []drivertest.Step{{Request: s.Frame.Request, Reply: unhex(t, "FF 86 00 05 00 02 00 D1 00 03 9F")}},
		Want: map[point.ID]point.Value{
			"d/co": point.Float(5), "d/h2s": point.Float(2), "d/o2": point.Float(20.9), "d/ch4": point.Float(3),
		},
	}.Run(t)
}

func TestOneRequestReadsAllPoints(t *testing.T) {
	s := gas(t)
	s.Points[1].Every = 500 * time.Millisecond
	d := build(t, s, &drivertest.Script{})
	jobs := d.Jobs()
	if len(jobs) != 1 {
		t.Fatalf("%d jobs, want 1", len(jobs))
	}
	j := jobs[0]
	if j.TxBytes != 9 || j.RxBytes != 11 || j.Every != 500*time.Millisecond || !j.Critical || len(j.Points) != 4 {
		t.Errorf("%+v", j)
	}
	if _, ok := d.(drivers.Source); ok {
		t.Error("a device that is asked takes the line for itself")
	}
}

func TestALifeSafetyOverRangeIsReadAgainAtOnce(t *testing.T) {
	tests := []struct {
		name    string
		answers [][]byte
		want    float64
		err     error
	}{
		{"in range: once", [][]byte{answer(5, 0, 209, 0)}, 5, nil},
		{"a spike is gone", [][]byte{answer(0xFFFF, 0, 209, 0), answer(6, 0, 209, 0)}, 6, nil},
		{"a leak repeats", [][]byte{answer(2000, 0, 209, 0), answer(2001, 0, 209, 0)}, 2001, nil},
		{"what cannot be checked stands", [][]byte{answer(2000, 0, 209, 0)}, 2000, drivers.ErrNoReply},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, left := gas(t), tt.answers
			s.Points[0].Max = float(1000)
			d := build(t, s, &drivertest.Script{Otherwise: func([]byte) (next []byte) {
				if len(left) > 0 {
					next, left = left[0], left[1:]
				}
				return next
			}})
			var got []point.Reading
			err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) })
			if !errors.Is(err, tt.err) || len(got) != 4 || got[0].Value.Num != tt.want || got[0].Quality != point.Good || len(left) > 0 {
				t.Errorf("%+v, %v, %d answers left; want %v", got, err, len(left), tt.want)
			}
		})
	}
}

func TestDecoding(t *testing.T) {
	sized := func(kind string, size int) drivers.PointSpec {
		return drivers.PointSpec{Kind: point.Number, Type: kind, Size: size}
	}
	states := map[uint64]drivers.State{1: {Name: "normal", Class: drivers.ClassNormal}, 2: {Name: "broken", Class: drivers.ClassFault}}
	code := func(v uint64) *uint64 { return &v }
	tests := []struct {
		name    string
		p       drivers.PointSpec
		data    string
		want    string
		quality point.Quality
	}{
		{"u8", drivers.PointSpec{Type: "u8"}, "FF", "255", point.Good},
		{"s8", drivers.PointSpec{Type: "s8", Scale: 0.5}, "FF", "-0.5", point.Good},
		{"u16", drivers.PointSpec{Type: "u16"}, "01 02", "258", point.Good},
		{"u16 low byte first", drivers.PointSpec{Type: "u16", Order: "LH"}, "01 02", "513", point.Good},
		{"s16", drivers.PointSpec{Type: "s16", Scale: 0.1}, "FF FE", "-0.2", point.Good},
		{"u32", drivers.PointSpec{Type: "u32"}, "00 01 00 00", "65536", point.Good},
		{"s32 low byte first", drivers.PointSpec{Type: "s32", Order: "LH"}, "FE FF FF FF", "-2", point.Good},
		{"f32", drivers.PointSpec{Type: "f32"}, "43 66 19 9A", "230.1", point.Good},
		{"f32 low byte first", drivers.PointSpec{Type: "f32", Order: "LH"}, "9A 19 66 43", "230.1", point.Good},
		{"f32 not a number", drivers.PointSpec{Type: "f32"}, "7F C0 00 00", "-", point.Fault},
		{"bcd", sized("bcd", 3), "12 34 56", "123456", point.Good},
		{"bcd low byte first", drivers.PointSpec{Type: "bcd", Size: 2, Order: "LH", Scale: 0.1}, "05 22", "220.5", point.Good},
		{"bcd of no digits", sized("bcd", 2), "1A 00", "-", point.Fault},
		{"decimal text", drivers.PointSpec{Type: "decimal", Size: 6, Scale: 10}, hex.EncodeToString([]byte("-01.25")), "-12.5", point.Good},
		{"decimal text up to the end", sized("decimal", 0), hex.EncodeToString([]byte(" 42 ")), "42", point.Good},
		{"no decimal text", sized("decimal", 3), hex.EncodeToString([]byte("ERR")), "-", point.Fault},
		{"hexadecimal text", sized("hex", 4), hex.EncodeToString([]byte("00fF")), "255", point.Good},
		{"no hexadecimal text", sized("hex", 2), hex.EncodeToString([]byte("--")), "-", point.Fault},
		{"bits", drivers.PointSpec{Type: "u16", Bits: 0x0FF0}, "1234", "35", point.Good},
		{"signed bits", drivers.PointSpec{Type: "s16", Bits: 0x0FFF}, "7FFF", "-1", point.Good},
		{"sentinel", drivers.PointSpec{Type: "u16", Sentinels: []uint64{0xFFFF}}, "FFFF", "-", point.Fault},
		{"over its range", drivers.PointSpec{Type: "u8", Max: float(100)}, "65", "101", point.Implausible},
		{"offset", drivers.PointSpec{Type: "u8", Offset: -40}, "0A", "-30", point.Good},
		{"bool", drivers.PointSpec{Kind: point.Bool, Type: "u8", Bits: 0x04}, "04", "true", point.Good},
		{"active code", drivers.PointSpec{Kind: point.Bool, Type: "u8", Active: code(0xAA), Inactive: code(0x55)}, "AA", "true", point.Good},
		{"inactive code", drivers.PointSpec{Kind: point.Bool, Type: "u8", Active: code(0xAA), Inactive: code(0x55)}, "55", "false", point.Good},
		{"neither code", drivers.PointSpec{Kind: point.Bool, Type: "u8", Active: code(0xAA), Inactive: code(0x55)}, "00", "-", point.Fault},
		{"state", drivers.PointSpec{Kind: point.State, Type: "u8", States: states}, "01", "normal", point.Good},
		{"state of a fault", drivers.PointSpec{Kind: point.State, Type: "u8", States: states}, "02", "broken", point.Fault},
		{"text", drivers.PointSpec{Kind: point.Text, Type: "text"}, hex.EncodeToString([]byte("V1.2 ")), "V1.2", point.Good},
		{"text that is none", drivers.PointSpec{Kind: point.Text, Type: "text"}, "01 02", "-", point.Fault},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, data := tt.p, unhex(t, tt.data)
			p.ID, p.At = "d/p", drivers.Item{Space: "frame", Address: 2}
			if p.Kind == point.None {
				p.Kind = point.Number
			}
			frame := append([]byte{0xAA, byte(len(data))}, data...)
			s := drivers.Spec{Device: "d", Every: time.Second, Points: []drivers.PointSpec{p}, Frame: &drivers.Frame{
				Request: []byte{0x55}, Start: []byte{0xAA}, Max: 64, Length: &drivers.Length{At: 1, Size: 1, Add: 2},
			}}
			d := build(t, s, &drivertest.Script{Otherwise: func([]byte) []byte { return frame }})
			var got []point.Reading
			err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) })
			if err != nil || len(got) != 1 || got[0].Value.String() != tt.want || got[0].Quality != tt.quality || got[0].Kind != point.Level {
				t.Errorf("%s = %+v, %v; want %s (%v)", tt.data, got, err, tt.want, tt.quality)
			}
		})
	}
}

func TestAStateVouchesForTheOthers(t *testing.T) {
	s := gas(t)
	s.Points = slices.Delete(s.Points, 0, 1)
	state := at("state", 3, "u8", 0)
	state.Kind, state.States = point.State, map[uint64]drivers.State{0: {Name: "warming_up", Class: drivers.ClassWarmup}}
	s.Points[0].StatusOf = "state"
	s.Points = append(s.Points, state)
	d := build(t, s, &drivertest.Script{Otherwise: func([]byte) []byte { return answer(0, 2, 209, 3) }})
	got := make(map[point.ID]point.Quality)
	if err := d.Do(t.Context(), 0, func(r point.Reading) { got[r.Point] = r.Quality }); err != nil {
		t.Fatal(err)
	}
	if got["d/h2s"] != point.Unknown || got["d/ch4"] != point.Good || got["d/state"] != point.Unknown {
		t.Errorf("%v; want h2s and its state unknown while it warms up", got)
	}
}

func TestEveryFaultOfASpecIsReported(t *testing.T) {
	one := func(change func(*drivers.Spec, *drivers.PointSpec)) drivers.Spec {
		s := gas(t)
		s.Points = s.Points[:1]
		change(&s, &s.Points[0])
		return s
	}
	tests := []struct {
		name string
		s    drivers.Spec
		want []string
	}{
		{"all at once", one(func(s *drivers.Spec, p *drivers.PointSpec) {
			s.Framing, s.Frame.Start, s.Frame.Check = drivers.TCP, nil, drivers.Check{}
			s.Points = append(s.Points, *p)
			p.Type = "u64"
		}), []string{"framing tcp", "nothing tells a frame from noise", "listed twice", `type "u64"`}},
		{"no frame", one(func(s *drivers.Spec, _ *drivers.PointSpec) { s.Frame = nil }), []string{"frame: nothing says"}},
		{"space", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.At.Space = "holding" }), []string{"want frame"}},
		{"offset", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.At.Address = 10 }), []string{"fields take 12 bytes"}},
		{"far offset", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.At.Address = math.MaxUint32 }), []string{"offset 4294967295"}},
		{"text behind the end", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.At.Address, p.Type = 11, "decimal" }), []string{"fields take 12 bytes"}},
		{"size", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.Size = 3 }), []string{"a u16 has 2"}},
		{"bcd size", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.Type, p.Size = "bcd", 9 }), []string{"want 1 to 8 bytes"}},
		{"bits", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.Bits = 1 << 16 }), []string{"bit 16 is outside"}},
		{"text number", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.Type, p.Size = "text", 2 }), []string{"a text is read as text"}},
		{"float bool", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.Kind, p.Type = point.Bool, "f32" }), []string{"whole number"}},
		{"period", one(func(s *drivers.Spec, _ *drivers.PointSpec) { s.Every = 0 }), []string{"no poll period"}},
		{"status", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.StatusOf = "x" }), []string{"no state point"}},
		{"polled card", one(func(_ *drivers.Spec, p *drivers.PointSpec) { p.Role, p.Kind, p.Type = "card", point.Text, "hex" }),
			[]string{"only a device that talks unasked", "nothing to hash them with"}},
		{"unasked step", one(func(s *drivers.Spec, p *drivers.PointSpec) { s.Frame.Request, p.MaxStep = nil, float(1) }), []string{"cannot be asked again"}},
		{"unasked, by size alone", one(func(s *drivers.Spec, _ *drivers.PointSpec) { s.Frame.Request, s.Frame.Check = nil, drivers.Check{} }),
			[]string{"give its end bytes or its check value"}},
		{"unasked, by length alone", one(func(s *drivers.Spec, p *drivers.PointSpec) {
			s.Frame.Request, s.Frame.Check, s.Frame.Size = nil, drivers.Check{}, 0
			s.Frame.Max, s.Frame.Length = 20, &drivers.Length{At: 1, Size: 1, Add: 2}
			p.Size = 3
		}), []string{"give its end bytes or its check value", "a u16 has 2"}},
		{"typed hex", one(func(s *drivers.Spec, p *drivers.PointSpec) {
			s.Frame.Request, p.Role, p.Kind, p.Type = nil, "keypad", point.Text, "hex"
		}), []string{"a typed code is text or decimal"}},
		{"float card", one(func(s *drivers.Spec, p *drivers.PointSpec) {
			s.Frame.Request, p.Role, p.Kind, p.Type = nil, "card", point.Number, "f32"
		}), []string{"a card is hex or decimal digits", "a card or a code is a text"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.s, drivers.Deps{Link: &drivertest.Script{}})
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

// FuzzDo checks that no answer, whatever its bytes, makes the driver panic, emit
// a point twice, or emit what is no number.
func FuzzDo(f *testing.F) {
	f.Add([]byte{0, 5, 0, 2, 0, 0xD1, 0, 3}, "12.5")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		frame := append(append([]byte{0xAA}, data...), text...)
		frame = append(frame, '\r')
		s := drivers.Spec{Device: "d", Every: time.Second, Frame: &drivers.Frame{Request: []byte{1}, Start: []byte{0xAA}, End: []byte{'\r'}, Max: 64}}
		s.Points = []drivers.PointSpec{at("u", 1, "u16", 0.1), at("f", 1, "f32", 1), at("b", 1, "bcd", 0.01), at("d", 3, "decimal", 0.1), at("h", 3, "hex", 1)}
		s.Points[2].Size = 4
		d := build(t, s, &drivertest.Script{Otherwise: func([]byte) []byte { return frame }})
		seen := make(map[point.ID]bool)
		err := d.Do(t.Context(), 0, func(r point.Reading) {
			if seen[r.Point] || math.IsNaN(r.Value.Num) || math.IsInf(r.Value.Num, 0) {
				t.Errorf("%+v", r)
			}
			seen[r.Point] = true
		})
		if (err == nil) != (len(seen) == len(s.Points)) {
			t.Errorf("%v with %v", err, seen)
		}
	})
}
