package sim

import (
	"bytes"
	"encoding/hex"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func meter(t *testing.T, opts MeterOptions) *Meter {
	t.Helper()
	m, err := NewMeter(opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// framed is a request as a reader of meters sends it.
func framed(m *Meter, control byte, data ...byte) []byte {
	return (&Meter{address: m.address}).frame(Fault{}, control, data)
}

// tell returns control code and data of the reply to a request.
func tell(t *testing.T, line meters, request []byte) (control byte, data []byte) {
	t.Helper()
	got := line.answer(request)
	if len(got) != 1 {
		t.Fatalf("%x: %d replies", request, len(got))
	}
	f := bytes.TrimLeft(got[0].bytes, "\xFE")
	if line.split(f) != len(f) {
		t.Fatalf("reply %x is no frame", f)
	}
	for _, b := range f[meterHead : len(f)-2] {
		data = append(data, b-meterOffset)
	}
	return f[8], data
}

func TestMeterAnswersAsTheFactsSay(t *testing.T) {
	m := meter(t, MeterOptions{Address: "000000000010", Values: map[string]float64{"voltage_a": 220.5, "energy": 12345.67}})
	line := meters{m.address: m}
	for _, c := range []struct{ ask, want string }{
		{"68 10 00 00 00 00 00 68 11 04 33 34 34 35 C5 16", "68 10 00 00 00 00 00 68 91 06 33 34 34 35 38 55 D4 16"},
		{"68 10 00 00 00 00 00 68 11 04 33 33 33 33 C1 16", "68 10 00 00 00 00 00 68 91 08 33 33 33 33 9A 78 56 34 E1 16"},
		{"68 10 00 00 00 00 00 68 11 04 33 34 35 35 C6 16", "68 10 00 00 00 00 00 68 D1 01 35 E7 16"},
		{"68 AA AA AA AA AA AA 68 13 00 DF 16", "68 10 00 00 00 00 00 68 93 06 43 33 33 33 33 33"},
	} {
		ask := unhex(t, c.ask)
		if n := line.split(ask); n != len(ask) {
			t.Fatalf("%s is split at %d", c.ask, n)
		}
		if got := line.answer(ask); len(got) != 1 || !bytes.HasPrefix(got[0].bytes, unhex(t, c.want)) {
			t.Errorf("%s brings %v, want %s", c.ask, got, c.want)
		}
	}
	if got := line.answer(unhex(t, "68 99 99 99 99 99 99 68 11 04 33 34 34 35 00 16")); got != nil {
		t.Errorf("a broadcast is answered: %v", got)
	}
	if control, data := tell(t, line, framed(m, 0x14, 1, 2, 3, 4)); control != 0xD4 || data[0] != meterErrOther {
		t.Errorf("a write: %02x %x", control, data)
	}
	m.SetFault(Fault{Refuse: 0x04})
	if control, data := tell(t, line, framed(m, meterRead, 0, 1, 1, 2)); control != 0xD1 || data[0] != 0x04 {
		t.Errorf("injected error: %02x %x", control, data)
	}
}

func TestMeterValuesHaveTheirFormats(t *testing.T) {
	m := meter(t, MeterOptions{Address: "123456789012"})
	line := meters{m.address: m}
	for _, c := range []struct {
		name string
		v    float64
		di   []byte
		want []byte
	}{
		{"power", -1.2345, []byte{0, 0, 3, 2}, []byte{0x45, 0x23, 0x81}},
		{"power", 79.9999, []byte{0, 0, 3, 2}, []byte{0x99, 0x99, 0x79}},
		{"current_c", 5.001, []byte{0, 3, 2, 2}, []byte{0x01, 0x50, 0x00}},
		{"power_factor", -0.95, []byte{0, 0, 6, 2}, []byte{0x50, 0x89}},
		{"frequency", 49.98, []byte{2, 0, 0x80, 2}, []byte{0x98, 0x49}},
		{"voltage_b", math.NaN(), []byte{0, 2, 1, 2}, []byte{0xFF, 0xFF}},
	} {
		if err := m.Set(c.name, c.v); err != nil {
			t.Error(err)
		}
		control, data := tell(t, line, framed(m, meterRead, c.di...))
		if control != 0x91 || !bytes.Equal(data, slices.Concat(c.di, c.want)) {
			t.Errorf("%s %g: %02x %x", c.name, c.v, control, data)
		}
		if back, err := m.Get(c.name); err != nil || back != c.v && !math.IsNaN(c.v) {
			t.Errorf("%s is %g, %v; want %g", c.name, back, err, c.v)
		}
	}
	for name, v := range map[string]float64{"power": 80, "voltage_a": -1, "energy": 1e6, "frequency": math.Inf(1), "colour": 1} {
		if err := m.Set(name, v); err == nil {
			t.Errorf("%s takes %g", name, v)
		}
	}
}

func TestABlockComesInFollowingFrames(t *testing.T) {
	m := meter(t, MeterOptions{Address: "000000000010", Frame: 9, Preamble: 4, Values: map[string]float64{
		"current_a": 1.001, "current_b": 2.002, "current_c": -3.003,
	}})
	line := meters{m.address: m}
	block := []byte{0, 0xFF, 2, 2}
	control, all := tell(t, line, framed(m, meterRead, block...))
	if control != 0xB1 {
		t.Fatalf("control %02x, want B1: more follows", control)
	}
	for part := byte(1); control&meterMore != 0; part++ {
		var data []byte
		control, data = tell(t, line, framed(m, meterFollowing, append(block, part)...))
		if data[len(data)-1] != part {
			t.Fatalf("part %d ends with %x", part, data)
		}
		all = append(all, data[4:len(data)-1]...)
	}
	if want := unhex(t, "00FF0202 011000 022000 033080"); !bytes.Equal(all, want) {
		t.Errorf("block %x, want %x", all, want)
	}
	if control, _ := tell(t, line, framed(m, meterFollowing, append(block, 9)...)); control != 0xD2 {
		t.Errorf("a part that is not there: %02x", control)
	}
}

func TestMetersShareALineAndOnlyOneAloneTellsItsAddress(t *testing.T) {
	one, two := meter(t, MeterOptions{Address: "000000000001", Preamble: 2}), meter(t, MeterOptions{Address: "000000000002"})
	anyone := unhex(t, "FE FE 68 AA AA AA AA AA AA 68 13 00 DF 16")
	conn := pipeLine(t, one, two)
	conn.Write(anyone)
	conn.Write(framed(two, meterAddress))
	got := make([]byte, 18)
	if _, err := io.ReadFull(conn, got); err != nil || got[1] != 2 {
		t.Errorf("reply %x, %v", got, err)
	}
	alone := pipeLine(t, one)
	alone.Write(anyone)
	if _, err := io.ReadFull(alone, got); err != nil || !bytes.HasPrefix(got, []byte{0xFE, 0xFE, 0x68, 1}) {
		t.Errorf("reply %x, %v", got, err)
	}
}

func TestWrongMeterOptionsAreToldAllAtOnce(t *testing.T) {
	_, err := NewMeter(MeterOptions{Address: "12", Preamble: 5, Frame: 7, Values: map[string]float64{"colour": 1}})
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("errors: %v", err)
	}
}

func FuzzMeter(f *testing.F) {
	good, _ := hex.DecodeString("6810000000000068110433343435C516")
	f.Add(good)
	f.Add([]byte("\xFE\xFEh\xAA\xAA\xAA\xAA\xAA\xAAh\x13\x00\xDF\x16"))
	f.Fuzz(func(t *testing.T, noise []byte) {
		m, err := NewMeter(MeterOptions{Address: "000000000010", Values: map[string]float64{"voltage_a": 220.5}})
		if err != nil {
			t.Fatal(err)
		}
		var out replies
		e := &end{line: &Line{station: meters{m.address: m}}, rw: &out}
		if rest := e.consume(slices.Clone(noise)); len(rest) > meterHead+meterMax+2 {
			t.Errorf("%d bytes are kept as a frame that may come", len(rest))
		}
		e.consume(slices.Clone(good)) // after silence
		if want, _ := hex.DecodeString("6810000000000068910633343435" + "3855D416"); !bytes.HasSuffix(out.Bytes(), want) {
			t.Errorf("reply %x", out.Bytes())
		}
	})
}
