package modbus

import (
	"context"
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
	"gatehouse/protocol/modbus"
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

func rtu(t testing.TB, s string) []byte { return drivertest.Seal(unhex(t, s), 0) }

func float(v float64) *float64 { return &v }

// holding is a number in a holding register.
func holding(name string, address uint32) drivers.PointSpec {
	return drivers.PointSpec{ID: point.MakeID("d", name), Kind: point.Number, At: drivers.Item{Space: "holding", Address: address}}
}

// gas is the layout of a 4MZ-HH4 channel.
var gasStates = map[uint64]drivers.State{
	0: {Name: "warming_up", Class: drivers.ClassWarmup},
	1: {Name: "normal", Class: drivers.ClassNormal},
	3: {Name: "sensor_fault", Class: drivers.ClassFault},
	6: {Name: "high_alarm", Class: drivers.ClassAlarm},
}

func gasPoints(prefix string, plus int) []drivers.PointSpec {
	at := func(address uint32) drivers.Item {
		return drivers.Item{Space: "holding", Address: address, UnitPlus: plus}
	}
	return []drivers.PointSpec{
		{ID: point.MakeID("d", prefix), Role: "septic_methane", Unit: point.PercentLEL, Kind: point.Number, Critical: true,
			At: at(0), Type: "u32", Bits: 0x00C0FFFF, StatusOf: prefix + "_state",
			Decimals: &drivers.Lookup{At: at(0), Bits: 0x0F00, Map: map[uint64]float64{0: 0, 4: 1, 8: 2, 12: 3}},
			UnitFrom: &drivers.Lookup{At: at(0), Bits: 0xF000, Map: map[uint64]float64{2: 1, 4: 20, 0: 0.002}},
			Max:      float(100)},
		{ID: point.MakeID("d", prefix+"_state"), Role: "detector_state", Kind: point.State, Critical: true,
			At: at(5), Bits: 0x00FF, States: gasStates},
	}
}

func spec(points ...drivers.PointSpec) drivers.Spec {
	return drivers.Spec{Device: "d", Framing: drivers.RTU, Address: 1, Every: time.Second, Points: points}
}

func build(t testing.TB, s drivers.Spec, link drivers.Link) *Driver {
	t.Helper()
	d, err := New(s, drivers.Deps{Link: link})
	if err != nil {
		t.Fatal(err)
	}
	return d.(*Driver)
}

// mixed is a device with every shape of point, and what it says.
func mixed(t testing.TB, framing drivers.Framing) drivertest.Contract {
	s := spec(append(gasPoints("ch4", 0),
		drivers.PointSpec{ID: "d/temp", Kind: point.Number, Type: "s16", Scale: 0.1, MaxStep: float(5), At: drivers.Item{Space: "input", Address: 1}},
		drivers.PointSpec{ID: "d/volt", Kind: point.Number, Type: "f32", At: drivers.Item{Space: "input", Address: 2}},
		drivers.PointSpec{ID: "d/di1", Kind: point.Bool, Invert: true, At: drivers.Item{Space: "discrete", Address: 0}},
		drivers.PointSpec{ID: "d/di2", Kind: point.Bool, At: drivers.Item{Space: "discrete", Address: 1}},
		drivers.PointSpec{ID: "d/ro1", Kind: point.Bool, At: drivers.Item{Space: "coil", Address: 3}, Write: &drivers.Output{At: drivers.Item{Space: "coil", Address: 3}}},
	)...)
	s.Framing, s.Hole = framing, 3
	healthy := []struct{ request, reply string }{
		{"01 03 0000 0006", "01 03 0C 2480 04D2 0000 0000 0000 0006"}, // 2 = %LEL, 4 = one decimal, bits 17..16 = 10b
		{"01 04 0001 0003", "01 04 06 FFE7 4366 199A"},
		{"01 02 0000 0002", "01 02 01 02"},
		{"01 01 0003 0001", "01 01 01 01"},
	}
	c := drivertest.Contract{New: New, Spec: s, Checked: framing == drivers.RTU,
		Want: map[point.ID]point.Value{
			"d/ch4":       point.Float(13230.6),
			"d/ch4_state": {Kind: point.State, Num: 6, Text: "high_alarm"},
			"d/temp":      point.Float(-2.5),
			"d/volt":      point.Float(230.1),
			"d/di1":       point.Truth(true),
			"d/di2":       point.Truth(true),
			"d/ro1":       point.Truth(true),
		},
		Refuse: func(request []byte) []byte {
			return drivertest.Exception(nil, request, modbus.IllegalDataAddress)
		},
	}
	for _, h := range healthy {
		step := drivertest.Step{Request: rtu(t, h.request), Reply: rtu(t, h.reply)}
		if framing == drivers.TCP {
			step = drivertest.Step{Request: mbap(unhex(t, h.request)), Reply: mbap(unhex(t, h.reply))}
		}
		c.Healthy = append(c.Healthy, step)
	}
	return c
}

func mbap(adu []byte) []byte {
	head := []byte{0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(head[4:], uint16(len(adu)))
	return append(head, adu...)
}

func TestContractOverRTU(t *testing.T) { mixed(t, drivers.RTU).Run(t) }
func TestContractOverTCP(t *testing.T) { mixed(t, drivers.TCP).Run(t) }

func TestNeighboursAreReadInOneRequestAndNothingElseIs(t *testing.T) {
	at := func(addresses ...uint32) (out []drivers.PointSpec) {
		for _, a := range addresses {
			p := holding(string(rune('a'+len(out)%26))+string(rune('a'+len(out)/26)), a)
			out = append(out, p)
		}
		return out
	}
	run := func(n int) (addresses []uint32) {
		for i := range n {
			addresses = append(addresses, uint32(i))
		}
		return addresses
	}
	long := holding("long", 2)
	long.Type = "u64"
	tests := []struct {
		name   string
		points []drivers.PointSpec
		hole   int
		want   []string // requests
	}{
		{"neighbours", at(0, 1, 2), 0, []string{"01 03 0000 0003"}},
		{"in any order", at(2, 0, 1), 0, []string{"01 03 0000 0003"}},
		{"overlaps", append(at(3, 4), long), 0, []string{"01 03 0002 0004"}},
		{"a hole is not read over", at(0, 2), 0, []string{"01 03 0000 0001", "01 03 0002 0001"}},
		{"unless the spec allows it", at(0, 2), 1, []string{"01 03 0000 0003"}},
		{"no more than 125", at(run(130)...), 0, []string{"01 03 0000 007D", "01 03 007D 0005"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(tt.points...)
			s.Hole = tt.hole
			link := &drivertest.Script{Record: true, Otherwise: func(request []byte) []byte {
				return drivertest.ReplyRTU(nil, request, func(_, _ byte, a uint16) uint16 { return a })
			}}
			d := build(t, s, link)
			for i := range d.Jobs() {
				if err := d.Do(t.Context(), i, func(point.Reading) {}); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, tx := range link.Sent {
				got = append(got, strings.ToUpper(hex.EncodeToString(tx[:6])))
			}
			for i, w := range tt.want {
				tt.want[i] = strings.ReplaceAll(w, " ", "")
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("requests %v, want %v", got, tt.want)
			}
		})
	}
}

func TestPointsOfAJobShareTheirPaceAndRequests(t *testing.T) {
	slow := holding("slow", 1)
	slow.Every = time.Minute
	urgent := holding("urgent", 2)
	urgent.Critical = true
	points := []drivers.PointSpec{holding("plain", 0), slow, urgent}
	points = append(points, gasPoints("ch4", 0)...)
	points = append(points, gasPoints("o2", 1)...)
	d := build(t, spec(points...), &drivertest.Script{})
	var got []string
	for _, j := range d.Jobs() {
		names := ""
		for _, p := range j.Points {
			names += " " + p.Name()
		}
		got = append(got, j.Every.String()+map[bool]string{true: " critical", false: ""}[j.Critical]+names)
	}
	want := []string{
		"1s plain",
		"1m0s slow",
		// The state at 5 vouches for the value at 0: read apart, emitted together.
		"1s critical urgent ch4 ch4_state",
		"1s critical o2 o2_state",
	}
	if !slices.Equal(got, want) {
		t.Errorf("jobs\n%q, want\n%q", got, want)
	}
}

func TestDecoding(t *testing.T) {
	f32 := func(v float32) string {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], math.Float32bits(v))
		return hex.EncodeToString(b[:])
	}
	tests := []struct {
		name    string
		p       drivers.PointSpec
		data    string
		want    string
		quality point.Quality
	}{
		{"u16", drivers.PointSpec{}, "FFFF", "65535", point.Good},
		{"s16", drivers.PointSpec{Type: "s16"}, "FFFF", "-1", point.Good},
		{"u32 high word first", drivers.PointSpec{Type: "u32"}, "00010002", "65538", point.Good},
		{"u32 low word first", drivers.PointSpec{Type: "u32", Order: "LH"}, "00010002", "131073", point.Good},
		{"s32", drivers.PointSpec{Type: "s32"}, "FFFFFFFE", "-2", point.Good},
		{"u64", drivers.PointSpec{Type: "u64"}, "0000000100000000", "4294967296", point.Good},
		{"s64 low word first", drivers.PointSpec{Type: "s64", Order: "LH"}, "FFFEFFFFFFFFFFFF", "-2", point.Good},
		{"f64", drivers.PointSpec{Type: "f64"}, "3FB999999999999A", "0.1", point.Good},
		{"f32 as the meter shows it", drivers.PointSpec{Type: "f32"}, f32(230.1), "230.1", point.Good},
		{"f32 low word first", drivers.PointSpec{Type: "f32", Order: "LH"}, "199A4366", "230.1", point.Good},
		{"f32 large", drivers.PointSpec{Type: "f32"}, f32(123456.7), "123456.7", point.Good},
		{"f32 in thousandths", drivers.PointSpec{Type: "f32", Scale: 0.001}, f32(5234), "5.234", point.Good},
		{"f32 NaN", drivers.PointSpec{Type: "f32"}, "7FC00000", "-", point.Fault},
		{"f32 infinite", drivers.PointSpec{Type: "f32"}, "7F800000", "-", point.Fault},
		{"scale 0.1", drivers.PointSpec{Scale: 0.1}, "00EB", "23.5", point.Good},
		{"scale 0.1 of three", drivers.PointSpec{Scale: 0.1}, "0003", "0.3", point.Good},
		{"scale 0.001", drivers.PointSpec{Scale: 0.001, Type: "u32"}, "0012D687", "1234.567", point.Good},
		{"scale 0.004884", drivers.PointSpec{Scale: 0.004884}, "0FFF", "19.99998", point.Good},
		{"scale 0.25", drivers.PointSpec{Scale: 0.25}, "0003", "0.75", point.Good},
		{"scale 10", drivers.PointSpec{Scale: 10}, "0003", "30", point.Good},
		{"scale -0.1", drivers.PointSpec{Scale: -0.1}, "0003", "-0.3", point.Good},
		{"offset", drivers.PointSpec{Scale: 0.1, Offset: -40}, "016F", "-3.3", point.Good},
		{"packed bits", drivers.PointSpec{Type: "u32", Bits: 0x00C0FFFF}, "0080FFFF", "196607", point.Good},
		{"signed bits", drivers.PointSpec{Type: "s16", Bits: 0x0FFF}, "7FFF", "-1", point.Good},
		{"sentinel", drivers.PointSpec{Sentinels: []uint64{0xFFFF}}, "FFFF", "-", point.Fault},
		{"sentinel of a signed value", drivers.PointSpec{Type: "s16", Sentinels: []uint64{0x8000}}, "8000", "-", point.Fault},
		{"above its range", drivers.PointSpec{Scale: 0.1, Max: float(85)}, "0352", "85", point.Good},
		{"over its range", drivers.PointSpec{Scale: 0.1, Max: float(85)}, "0353", "85.1", point.Implausible},
		{"under its range", drivers.PointSpec{Type: "s16", Min: float(0)}, "FFFF", "-1", point.Implausible},
		{"life safety under its range", drivers.PointSpec{Type: "s16", Role: "gas", Min: float(0)}, "FFFF", "-1", point.Implausible},
		{"life safety over its range", drivers.PointSpec{Role: "gas", Max: float(100)}, "0065", "101", point.Good},
		{"oxygen under its range", drivers.PointSpec{Type: "s16", Role: "oxygen", Min: float(0)}, "FFFF", "-1", point.Good},
		{"oxygen over its range", drivers.PointSpec{Role: "oxygen", Max: float(30)}, "001F", "31", point.Good},
		{"bit of a register", drivers.PointSpec{Kind: point.Bool, Type: "bit", Bits: 0x0004}, "0004", "true", point.Good},
		{"another bit", drivers.PointSpec{Kind: point.Bool, Bits: 0x0004}, "FFFB", "false", point.Good},
		{"normally closed contact", drivers.PointSpec{Kind: point.Bool, Invert: true}, "0000", "true", point.Good},
		{"both codes, active", drivers.PointSpec{Kind: point.Bool, Active: code(2), Inactive: code(1)}, "0002", "true", point.Good},
		{"both codes, inactive", drivers.PointSpec{Kind: point.Bool, Active: code(2), Inactive: code(1)}, "0001", "false", point.Good},
		{"both codes, neither", drivers.PointSpec{Kind: point.Bool, Active: code(2), Inactive: code(1)}, "0000", "-", point.Fault},
		{"both codes, neither, inverted", drivers.PointSpec{Kind: point.Bool, Invert: true, Active: code(2), Inactive: code(1)}, "0003", "-", point.Fault},
		{"both codes, inverted", drivers.PointSpec{Kind: point.Bool, Invert: true, Active: code(2), Inactive: code(1)}, "0002", "false", point.Good},
		{"active code, another", drivers.PointSpec{Kind: point.Bool, Active: code(2)}, "0001", "false", point.Good},
		{"active code", drivers.PointSpec{Kind: point.Bool, Active: code(2)}, "0002", "true", point.Good},
		{"active code of zero", drivers.PointSpec{Kind: point.Bool, Active: code(0)}, "0000", "true", point.Good},
		{"inactive code, another", drivers.PointSpec{Kind: point.Bool, Inactive: code(0x55)}, "0000", "true", point.Good},
		{"inactive code", drivers.PointSpec{Kind: point.Bool, Inactive: code(0x55)}, "0055", "false", point.Good},
		{"code of a part", drivers.PointSpec{Kind: point.Bool, Bits: 0x00F0, Active: code(0xA), Inactive: code(5)}, "FFAF", "true", point.Good},
		{"sentinel of a bool", drivers.PointSpec{Kind: point.Bool, Active: code(2), Sentinels: []uint64{0xFFFF}}, "FFFF", "-", point.Fault},
		{"u16 bytes swapped", drivers.PointSpec{Swap: true}, "0102", "513", point.Good},
		{"s16 bytes swapped", drivers.PointSpec{Type: "s16", Swap: true}, "FEFF", "-2", point.Good},
		{"bits of swapped bytes", drivers.PointSpec{Swap: true, Bits: 0xFF00}, "0102", "2", point.Good},
		{"u32 ABCD", drivers.PointSpec{Type: "u32"}, "01020304", "16909060", point.Good},
		{"u32 CDAB", drivers.PointSpec{Type: "u32", Order: "LH"}, "03040102", "16909060", point.Good},
		{"u32 BADC", drivers.PointSpec{Type: "u32", Swap: true}, "02010403", "16909060", point.Good},
		{"u32 DCBA", drivers.PointSpec{Type: "u32", Order: "LH", Swap: true}, "04030201", "16909060", point.Good},
		{"f32 DCBA", drivers.PointSpec{Type: "f32", Order: "LH", Swap: true}, "9A196643", "230.1", point.Good},
		{"f64 BADCFEHG", drivers.PointSpec{Type: "f64", Swap: true}, "B93F999999999A99", "0.1", point.Good},
		{"f64 HGFEDCBA", drivers.PointSpec{Type: "f64", Order: "LH", Swap: true}, "9A9999999999B93F", "0.1", point.Good},
		{"state", drivers.PointSpec{Kind: point.State, States: gasStates}, "0001", "normal", point.Good},
		{"alarm state", drivers.PointSpec{Kind: point.State, States: gasStates}, "0006", "high_alarm", point.Good},
		{"warm-up state", drivers.PointSpec{Kind: point.State, States: gasStates}, "0000", "warming_up", point.Unknown},
		{"fault state", drivers.PointSpec{Kind: point.State, States: gasStates}, "0003", "sensor_fault", point.Fault},
		{"state nobody knows", drivers.PointSpec{Kind: point.State, States: gasStates}, "0009", "code 9", point.Fault},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.p
			p.ID, p.At = "d/p", drivers.Item{Space: "holding", Address: 7}
			if p.Kind == point.None {
				p.Kind = point.Number
			}
			got := readOne(t, spec(p), unhex(t, tt.data))["d/p"]
			if got.Value.String() != tt.want || got.Quality != tt.quality {
				t.Errorf("%s = %v (%v), want %s (%v)", tt.data, got.Value, got.Quality, tt.want, tt.quality)
			}
		})
	}
}

// readOne runs every job against registers that begin at the lowest address asked.
func readOne(t testing.TB, s drivers.Spec, data []byte) map[point.ID]point.Reading {
	t.Helper()
	link := &drivertest.Script{Otherwise: func(request []byte) []byte {
		return drivertest.Seal(append([]byte{request[0], request[1], byte(len(data))}, data...), 0)
	}}
	d := build(t, s, link)
	got := make(map[point.ID]point.Reading)
	for i := range d.Jobs() {
		if err := d.Do(t.Context(), i, func(r point.Reading) { got[r.Point] = r }); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func TestAFourGasModuleIsReadAsItsManualSays(t *testing.T) {
	tests := []struct {
		name, registers string
		value           string
		quality         point.Quality
	}{
		{"12.5 %LEL", "2400 007D 0000 0000 0000 0001", "12.5", point.Good},
		{"0.5 %vol is 10 %LEL", "4400 0005 0000 0000 0000 0001", "10", point.Good},
		{"bits 17 and 16", "2040 0001 0000 0000 0000 0006", "65537", point.Good},
		{"warming up", "2400 007D 0000 0000 0000 0000", "12.5", point.Unknown},
		{"sensor fault", "2400 007D 0000 0000 0000 0003", "12.5", point.Fault},
		{"a state nobody knows hides no gas", "2400 03B6 0000 0000 0000 0010", "95", point.Good},
		{"a decimals code nobody knows", "2100 007D 0000 0000 0000 0001", "-", point.Fault},
		{"a unit code nobody knows", "8400 007D 0000 0000 0000 0001", "-", point.Fault},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(gasPoints("ch4", 0)...)
			s.Hole = 3
			got := readOne(t, s, unhex(t, tt.registers))["d/ch4"]
			if got.Value.String() != tt.value || got.Quality != tt.quality {
				t.Errorf("%v (%v), want %s (%v)", got.Value, got.Quality, tt.value, tt.quality)
			}
		})
	}
}

// TestAStateNobodyDeclared: only what is declared to be a fault may keep a
// life-safety value from raising an alarm; of others the value is a fault too.
func TestAStateNobodyDeclared(t *testing.T) {
	states := map[uint64]drivers.State{1: {Name: "normal", Class: drivers.ClassNormal}, 3: {Name: "broken", Class: drivers.ClassFault}}
	for _, tt := range []struct {
		role  point.Role
		state string
		want  point.Quality
		own   string
	}{
		{"gas", "0001", point.Good, "normal"}, {"gas", "0003", point.Fault, "broken"}, {"gas", "0010", point.Good, "code 16"},
		{"gas", "FFFF", point.Fault, "-"}, // a declared sentinel
		{"temperature", "0010", point.Fault, "code 16"}, {"temperature", "0001", point.Good, "normal"},
	} {
		value, state := holding("p", 0), holding("state", 1)
		value.Role, value.StatusOf = tt.role, "state"
		state.Kind, state.States, state.Sentinels = point.State, states, []uint64{0xFFFF}
		got := readOne(t, spec(value, state), unhex(t, "005F"+tt.state))
		if r := got["d/p"]; r.Value.Num != 95 || r.Quality != tt.want {
			t.Errorf("%s, state %s: %v (%v), want 95 (%v)", tt.role, tt.state, r.Value, r.Quality, tt.want)
		}
		if r := got["d/state"]; r.Value.String() != tt.own || (r.Quality == point.Good) != (tt.own == "normal") {
			t.Errorf("state %s: %v (%v), want %s", tt.state, r.Value, r.Quality, tt.own)
		}
	}
}

func TestAnUndeclaredStateDoesNotAllocate(t *testing.T) {
	state := holding("state", 0)
	state.Kind, state.States = point.State, map[uint64]drivers.State{1: {Name: "normal", Class: drivers.ClassNormal}}
	reply := drivertest.ReplyRTU(nil, rtu(t, "01 03 0000 0001"), func(_, _ byte, _ uint16) uint16 { return 4711 })
	d := build(t, spec(state), linkFunc(func(_ []byte, f drivers.Framer) ([]byte, error) {
		_, err := f(reply)
		return reply, err
	}))
	emit, ctx := func(point.Reading) {}, t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Do(ctx, 0, emit); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a poll", n)
	}
}

// sequence answers each request with the next register value; past the end it
// is silent.
func sequence(values ...uint16) (*drivertest.Script, *int) {
	asked := new(int)
	return &drivertest.Script{Otherwise: func(request []byte) []byte {
		*asked++
		if *asked > len(values) {
			return nil
		}
		return drivertest.ReplyRTU(nil, request, func(_, _ byte, _ uint16) uint16 { return values[*asked-1] })
	}}, asked
}

func TestALifeSafetyOverRangeIsReadAgainAtOnce(t *testing.T) {
	gas := holding("gas", 0)
	gas.Role, gas.Max = "gas", float(100)
	tests := []struct {
		name   string
		values []uint16
		want   float64
		asked  int
		err    error
	}{
		{"in range: once", []uint16{50}, 50, 1, nil},
		{"a spike is gone", []uint16{65535, 12}, 12, 2, nil},
		{"a leak repeats", []uint16{140, 141}, 141, 2, nil},
		{"what cannot be checked stands", []uint16{140}, 140, 2, drivers.ErrNoReply},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			link, asked := sequence(tt.values...)
			d := build(t, spec(gas), link)
			var got []point.Reading
			err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) })
			if !errors.Is(err, tt.err) {
				t.Errorf("err %v, want %v", err, tt.err)
			}
			if len(got) != 1 || got[0].Value.Num != tt.want || got[0].Quality != point.Good {
				t.Errorf("emitted %+v, want %v once, good", got, tt.want)
			}
			if *asked != tt.asked {
				t.Errorf("asked %d times, want %d", *asked, tt.asked)
			}
		})
	}
}

func TestAGatewayThatAnswersForADeadDeviceIsNoAnswer(t *testing.T) {
	link := &drivertest.Script{Otherwise: func(request []byte) []byte {
		return drivertest.Exception(nil, request, modbus.GatewayTarget)
	}}
	d := build(t, spec(holding("a", 0)), link)
	emitted := 0
	err := d.Do(t.Context(), 0, func(point.Reading) { emitted++ })
	if !errors.Is(err, drivers.ErrNoReply) || errors.Is(err, drivers.ErrRefused) || emitted > 0 {
		t.Errorf("err %v, %d readings; want ErrNoReply and none", err, emitted)
	}
	if err := d.Probe(t.Context()); !errors.Is(err, drivers.ErrNoReply) {
		t.Errorf("probe: %v, want ErrNoReply", err)
	}
}

// FuzzDo checks that no reply, whatever its bytes, makes the driver panic or
// emit a point twice, and that numbers are finite.
func FuzzDo(f *testing.F) {
	f.Add([]byte{1, 3, 12, 0x24, 0x80, 4, 0xD2, 0, 0, 0, 0, 0, 0, 0, 6}, true)
	f.Add([]byte{1, 0x83, 2}, true)
	f.Fuzz(func(t *testing.T, reply []byte, seal bool) {
		c := mixed(t, drivers.RTU)
		d := build(t, c.Spec, &drivertest.Script{Otherwise: func([]byte) []byte {
			if seal {
				return drivertest.Seal(slices.Clone(reply), 0)
			}
			return reply
		}})
		seen := make(map[point.ID]bool)
		for i := range d.Jobs() {
			d.Do(context.Background(), i, func(r point.Reading) {
				if seen[r.Point] {
					t.Errorf("%s emitted twice", r.Point)
				}
				seen[r.Point] = true
				if math.IsNaN(r.Value.Num) || math.IsInf(r.Value.Num, 0) {
					t.Errorf("%s = %v", r.Point, r.Value)
				}
			})
		}
	})
}

// BenchmarkDo polls twenty registers of one shape; BenchmarkDoMixed of twenty.
func BenchmarkDo(b *testing.B)      { benchmark(b, func(int) float64 { return 0.1 }) }
func BenchmarkDoMixed(b *testing.B) { benchmark(b, func(i int) float64 { return float64(i + 1) }) }

func benchmark(b *testing.B, scale func(int) float64) {
	points := make([]drivers.PointSpec, 20)
	for i := range points {
		points[i] = holding(string(rune('a'+i)), uint32(i))
		points[i].Scale = scale(i)
	}
	s := spec(points...)
	request := rtu(b, "01 03 0000 0014")
	reply := drivertest.ReplyRTU(nil, request, func(_, _ byte, a uint16) uint16 { return a })
	d := build(b, s, linkFunc(func(_ []byte, f drivers.Framer) ([]byte, error) {
		_, err := f(reply)
		return reply, err
	}))
	emit := func(point.Reading) {}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Do(ctx, 0, emit); err != nil {
			b.Fatal(err)
		}
	}
}

type linkFunc func(tx []byte, f drivers.Framer) ([]byte, error)

func (l linkFunc) Exchange(_ context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	return l(tx, f)
}
