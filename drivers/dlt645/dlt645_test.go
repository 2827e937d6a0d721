package dlt645

import (
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/dlt645"
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

const number = "000000000010"

var meter = dlt645.Address{0x10}

// item is a number of one data id.
func item(name string, id uint32, kind string, size int, scale float64) drivers.PointSpec {
	return drivers.PointSpec{
		ID: point.MakeID("m", name), Kind: point.Number, At: drivers.Item{Space: "di", Address: id},
		Type: kind, Size: size, Scale: scale,
	}
}

func spec(points ...drivers.PointSpec) drivers.Spec {
	return drivers.Spec{Device: "m", Meter: number, Every: time.Second, Points: points}
}

func build(t testing.TB, s drivers.Spec, link drivers.Link) *Driver {
	t.Helper()
	d, err := New(s, drivers.Deps{Link: link})
	if err != nil {
		t.Fatal(err)
	}
	return d.(*Driver)
}

// reply is a frame of the meter, data given as the bytes before 33 is added.
func reply(t testing.TB, control byte, data string) []byte {
	return dlt645.Frame{Address: meter, Control: control, Data: unhex(t, data)}.Append(nil)
}

// refuse answers any question with error bits.
func refuse(request []byte) []byte {
	f, err := dlt645.Parse(request, nil)
	if err != nil {
		return nil
	}
	return dlt645.Frame{Address: meter, Control: f.Control | 0xC0, Data: []byte{byte(dlt645.NoSuchData)}}.Append(nil)
}

// house is a meter with every shape of point, and what it says.
func house(t testing.TB) drivertest.Contract {
	state := item("state", 0x04000501, "bcd", 2, 0)
	state.Kind, state.Bits = point.State, 0x00F0
	state.States = map[uint64]drivers.State{0: {Name: "mains", Class: drivers.ClassNormal}, 12: {Name: "battery", Class: drivers.ClassAlarm}}
	open := item("cover", 0x04000501, "bcd", 2, 0)
	open.Kind, open.Bits = point.Bool, 0x8000
	phase := item("volts_b", 0x0201FF00, "bcd", 6, 0.1)
	phase.Bits = 0x0000FFFF0000 // of a block of three
	read := func(id uint32) []byte { return dlt645.NewRead(meter, id).Bytes() }
	return drivertest.Contract{
		New: New, Checked: true, Refuse: refuse,
		Spec: spec(
			item("energy", 0, "bcd", 4, 0.01),
			item("volts", 0x02010100, "bcd", 2, 0.1),
			item("amps", 0x02020100, "sbcd", 3, 0.001),
			item("power", 0x02030000, "sbcd", 3, 0.0001),
			phase,
			state, open,
		),
		Want: map[point.ID]point.Value{
			"m/energy":  point.Float(12345.67),
			"m/volts":   point.Float(220.5),
			"m/amps":    point.Float(-1.005),
			"m/power":   point.Float(0.0003),
			"m/volts_b": point.Float(230.1),
			"m/state":   {Kind: point.State, Num: 12, Text: "battery"},
			"m/cover":   point.Truth(true),
		},
		Healthy: []drivertest.Step{
			{Request: read(0), Reply: unhex(t, "68 10 00 00 00 00 00 68 91 08 33 33 33 33 9A 78 56 34 E1 16")},
			{Request: unhex(t, "FE FE FE FE 68 10 00 00 00 00 00 68 11 04 33 34 34 35 C5 16"), Reply: unhex(t, "68 10 00 00 00 00 00 68 91 06 33 34 34 35 38 55 D4 16")},
			{Request: read(0x02020100), Reply: reply(t, 0x91, "00 01 02 02 05 10 80")},
			{Request: read(0x02030000), Reply: reply(t, 0x91, "00 00 03 02 03 00 00")},
			{Request: read(0x0201FF00), Reply: reply(t, 0x91, "00 FF 01 02 05 22 01 23 99 21")},
			{Request: read(0x04000501), Reply: reply(t, 0x91, "01 05 00 04 C0 80")},
		},
	}
}

func TestContract(t *testing.T) {
	house(t).Run(t)
}

func TestContractOfAMeterOfUnknownNumber(t *testing.T) {
	c := house(t)
	c.Spec.Meter = ""
	c.Healthy = append(c.Healthy, drivertest.Step{
		Request: unhex(t, "FE FE FE FE 68 AA AA AA AA AA AA 68 13 00 DF 16"), Reply: reply(t, 0x93, "10 00 00 00 00 00"),
	})
	c.Run(t)
}

func TestAJobIsWhatOneDataIDGives(t *testing.T) {
	quick := item("quick", 0x02010100, "bcd", 2, 0.1)
	quick.Every = 200 * time.Millisecond
	urgent := item("urgent", 0x02020100, "sbcd", 3, 0.001)
	urgent.Critical = true
	d := build(t, spec(item("slow", 0x02010100, "bcd", 2, 1), urgent, quick), &drivertest.Script{})
	want := []drivers.Job{
		{Points: []point.ID{"m/slow", "m/quick"}, Every: 200 * time.Millisecond, TxBytes: 20, RxBytes: 22},
		{Points: []point.ID{"m/urgent"}, Every: time.Second, Critical: true, TxBytes: 20, RxBytes: 23},
	}
	if got := d.Jobs(); !reflect.DeepEqual(got, want) {
		t.Errorf("jobs\n%+v, want\n%+v", got, want)
	}
}

func TestDecoding(t *testing.T) {
	tests := []struct {
		name    string
		p       drivers.PointSpec
		data    string // as sent, before 33 is added
		want    string
		quality point.Quality
	}{
		{"voltage", item("p", 0, "bcd", 2, 0.1), "05 22", "220.5", point.Good},
		{"energy to the last digit", item("p", 0, "bcd", 4, 0.01), "99 99 99 99", "999999.99", point.Good},
		{"negative", item("p", 0, "sbcd", 3, 0.0001), "03 00 80", "-0.0003", point.Good},
		{"negative at its largest", item("p", 0, "sbcd", 3, 0.001), "99 99 F9", "-799.999", point.Good},
		{"the sign is the top bit only", item("p", 0, "sbcd", 2, 0.001), "00 81", "-0.1", point.Good},
		{"minus nothing", item("p", 0, "sbcd", 2, 0.001), "00 80", "0", point.Good},
		{"no sign without sbcd", item("p", 0, "bcd", 2, 0.001), "00 81", "8.1", point.Good},
		{"a digit that is none", item("p", 0, "bcd", 2, 0.1), "0A 22", "-", point.Fault},
		{"all FF", item("p", 0, "bcd", 2, 0.1), "FF FF", "-", point.Fault},
		{"all FF with a sign", item("p", 0, "sbcd", 3, 0.1), "FF FF FF", "-", point.Fault},
		{"sentinel", drivers.PointSpec{Kind: point.Number, Type: "bcd", Size: 2, Sentinels: []uint64{0x9999}}, "99 99", "-", point.Fault},
		{"over its range", drivers.PointSpec{Kind: point.Number, Type: "bcd", Size: 2, Scale: 0.1, Max: float(400)}, "01 40", "400.1", point.Implausible},
		{"life safety over its range", drivers.PointSpec{Kind: point.Number, Type: "bcd", Size: 2, Role: "residual_current", Max: float(1000)}, "01 10", "1001", point.Good},
		{"a bit", drivers.PointSpec{Kind: point.Bool, Type: "bcd", Size: 2, Bits: 0x0100}, "00 01", "true", point.Good},
		{"a bit of all FF", drivers.PointSpec{Kind: point.Bool, Type: "bcd", Size: 2, Bits: 0x0100}, "FF FF", "-", point.Fault},
		{"inverted", drivers.PointSpec{Kind: point.Bool, Type: "bcd", Size: 1, Invert: true}, "00", "true", point.Good},
		{"active at 0", drivers.PointSpec{Kind: point.Bool, Type: "bcd", Size: 1, Active: new(uint64)}, "00", "true", point.Good},
		{"sixteen digits", item("p", 0, "bcd", 8, 1), "89 67 45 23 01 00 00 00", "123456789", point.Good},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.p
			p.ID, p.At = "m/p", drivers.Item{Space: "di", Address: 0x02010100}
			got, err := once(t, p, reply(t, 0x91, "00 01 01 02"+tt.data))
			if err != nil || len(got) != 1 || got[0].Value.String() != tt.want || got[0].Quality != tt.quality {
				t.Errorf("%s = %+v, %v; want %s (%v)", tt.data, got, err, tt.want, tt.quality)
			}
		})
	}
}

// once runs the only job against one answer.
func once(t testing.TB, p drivers.PointSpec, answer []byte) (got []point.Reading, err error) {
	t.Helper()
	d := build(t, spec(p), &drivertest.Script{Otherwise: func([]byte) []byte { return answer }})
	err = d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) })
	return got, err
}

func TestDataOfAnotherSizeIsNoValue(t *testing.T) {
	for _, data := range []string{"05", "05 22 00", "05 22 00 00 00 00 00 00 00 00 00"} {
		got, err := once(t, item("volts", 0x02010100, "bcd", 2, 0.1), reply(t, 0x91, "00 01 01 02"+data))
		if !errors.Is(err, drivers.ErrRefused) || len(got) != 1 || got[0].Quality != point.Fault {
			t.Errorf("%s: %+v, %v; want a fault, and the meter alive", data, got, err)
		}
	}
}

func TestDataOfTwoFramesIsJoined(t *testing.T) {
	steps := []drivertest.Step{
		{Request: dlt645.NewRead(meter, 0x0201FF00).Bytes(), Reply: reply(t, 0xB1, "00 FF 01 02 05 22")},
		{Request: dlt645.NewReadNext(meter, 0x0201FF00).Bytes(), Reply: reply(t, 0x92, "00 FF 01 02 01 23 99 21 01")},
	}
	p := item("volts_b", 0x0201FF00, "bcd", 6, 0.1)
	p.Bits = 0x0000FFFF0000
	read := func() (got []point.Reading, err error) {
		err = build(t, spec(p), &drivertest.Script{Steps: steps}).Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) })
		return got, err
	}
	got, err := read()
	if err != nil || len(got) != 1 || got[0].Value != point.Float(230.1) {
		t.Errorf("%+v, %v; want 230.1", got, err)
	}
	steps[1].Reply = reply(t, 0xB2, "00 FF 01 02 01 23 99 21 01") // as many as wanted, and yet more
	if got, err := read(); !errors.Is(err, drivers.ErrRefused) || len(got) != 1 || got[0].Quality != point.Fault {
		t.Errorf("%+v, %v; want a fault", got, err)
	}
	steps[1].Reply = nil
	if got, err := read(); !errors.Is(err, drivers.ErrNoReply) || len(got) > 0 {
		t.Errorf("%+v, %v; want nothing but ErrNoReply", got, err)
	}
}

// TestAMeterThatNeverEndsGivesTheLineBack: a byte a frame would be eight frames,
// twice that for a second look, while a gas detector on the same line waits.
func TestAMeterThatNeverEndsGivesTheLineBack(t *testing.T) {
	link := &drivertest.Script{Record: true, Otherwise: func(request []byte) []byte {
		f, err := dlt645.Parse(request, nil)
		if err != nil {
			return nil
		}
		data := []byte{0, 0, 0, 0, 0x10}
		if f.Control == dlt645.ReadNext {
			data = append(data, f.Data[dlt645.IDSize])
		}
		return dlt645.Frame{Address: meter, Control: f.Control | dlt645.ReplyBit | dlt645.MoreBit, Data: data}.Append(nil)
	}}
	p := item("energy", 0, "bcd", 8, 0.01)
	p.MaxStep = float(1e-9)
	d := build(t, spec(p), link)
	for range 3 {
		link.Sent = nil
		var got []point.Reading
		err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) })
		if !errors.Is(err, drivers.ErrRefused) || len(got) != 1 || got[0].Quality != point.Fault {
			t.Errorf("%+v, %v; want a fault, and the meter alive", got, err)
		}
		if len(link.Sent) != 2 {
			t.Errorf("%d questions for one value, want 2", len(link.Sent))
		}
	}
}

// TestOneDoAsksFewTimes: the most one turn can take is two frames and as many
// again for the second look.
func TestOneDoAsksFewTimes(t *testing.T) {
	var v byte
	link := &drivertest.Script{Record: true, Otherwise: func(request []byte) []byte {
		f, err := dlt645.Parse(request, nil)
		if err != nil {
			return nil
		}
		if f.Control == dlt645.Read {
			v = (v + 0x10) % 0x80
			return dlt645.Frame{Address: meter, Control: 0xB1, Data: []byte{0, 0, 0, 0, v}}.Append(nil)
		}
		return dlt645.Frame{Address: meter, Control: 0x92, Data: append(f.Data[:4:4], v, v, v, v, v, v, v, 1)}.Append(nil)
	}}
	p := item("energy", 0, "bcd", 8, 0.01)
	p.MaxStep = float(1e-9)
	d := build(t, spec(p), link)
	for want := 2; want <= 4; want += 2 {
		link.Sent = nil
		if err := d.Do(t.Context(), 0, func(point.Reading) {}); err != nil {
			t.Fatal(err)
		}
		if len(link.Sent) != want {
			t.Errorf("%d questions, want %d", len(link.Sent), want)
		}
	}
}

func TestALostMeterIsAskedForItsNumberAgain(t *testing.T) {
	meters, current := []dlt645.Address{{0x10}, {0x11}}, 0
	link := &drivertest.Script{Record: true, Otherwise: func(request []byte) []byte {
		f, err := dlt645.Parse(request, nil)
		if err != nil || f.Address != dlt645.Any && f.Address != meters[current] {
			return nil
		}
		f.Address, f.Data = meters[current], append(f.Data, 0x05, 0x22)
		if f.Control == dlt645.ReadAddress {
			f.Data = meters[current][:]
		}
		f.Control |= dlt645.ReplyBit
		return f.Append(unhex(t, "FE FE"))
	}}
	s := spec(item("volts", 0x02010100, "bcd", 2, 0.1))
	s.Meter = ""
	d := build(t, s, link)
	var errs []error
	var got []string
	for i := range 4 {
		if i == 2 {
			current = 1 // the meter was replaced
		}
		errs = append(errs, d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r.Value.String()) }))
	}
	if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], drivers.ErrNoReply) || errs[3] != nil {
		t.Errorf("errors %v, want one when the meter was gone", errs)
	}
	if want := []string{"220.5", "220.5", "220.5"}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	var asked []byte
	for _, tx := range link.Sent {
		asked = append(asked, tx[12])
	}
	if want := []byte{0x13, 0x11, 0x11, 0x11, 0x13, 0x11}; !slices.Equal(asked, want) {
		t.Errorf("sent % X, want % X", asked, want)
	}
	if err := d.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
}

func TestAStepIsReadTwiceBeforeItIsBelieved(t *testing.T) {
	values := []string{"05 22", "00 90", "10 22", "00 90", "00 91"}
	link := &drivertest.Script{Otherwise: func([]byte) []byte {
		if len(values) == 0 {
			return nil
		}
		v := values[0]
		values = values[1:]
		return reply(t, 0x91, "00 01 01 02"+v)
	}}
	p := item("volts", 0x02010100, "bcd", 2, 0.1)
	p.MaxStep = float(100)
	d := build(t, spec(p), link)
	var got []string
	for range 3 {
		if err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r.Value.String()) }); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"220.5", "221", "910"}; !slices.Equal(got, want) || len(values) > 0 {
		t.Errorf("read %v, %d answers left; want %v, and all asked for", got, len(values), want)
	}
}

// FuzzDo checks that no answer, whatever its bytes, makes the driver panic, emit
// a point twice, or emit what is no number.
func FuzzDo(f *testing.F) {
	f.Add(byte(0x91), []byte{0, 1, 1, 2, 5, 0x22})
	f.Add(byte(0xD1), []byte{2})
	f.Add(byte(0xB1), []byte{0, 1, 1, 2, 5})
	f.Fuzz(func(t *testing.T, control byte, data []byte) {
		answer := dlt645.Frame{Address: meter, Control: control, Data: data}.Append(nil)
		s := spec(item("volts", 0x02010100, "bcd", 2, 0.1), item("same", 0x02010100, "sbcd", 2, 0.001))
		d := build(t, s, &drivertest.Script{Otherwise: func([]byte) []byte { return answer }})
		seen := make(map[point.ID]bool)
		err := d.Do(t.Context(), 0, func(r point.Reading) {
			if seen[r.Point] || math.IsNaN(r.Value.Num) || math.IsInf(r.Value.Num, 0) {
				t.Errorf("%+v", r)
			}
			seen[r.Point] = true
		})
		if (err == nil || errors.Is(err, drivers.ErrRefused)) != (len(seen) == 2) {
			t.Errorf("%v with %v", err, seen)
		}
	})
}
