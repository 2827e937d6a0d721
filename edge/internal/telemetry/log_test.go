package telemetry

import (
	"encoding/binary"
	"math"
	"testing"

	"gatehouse/protocol/point"
)

// What a log gives back is what went in, bit by bit, whatever came and in
// whatever order.
func FuzzCellLog(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add([]byte("\x00\x00\x00\x01@\x59\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01@\x59\x00\x00\x00\x00\x00\x00"), uint16(1))
	f.Add([]byte("\xff\xff\x77\x03\x7f\xf8\x00\x00\x00\x00\x00\x01\x00\x00\xfe\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint16(19))
	f.Fuzz(func(t *testing.T, in []byte, last uint16) {
		var l cellLog
		columns := int(last) + 1
		l.reset(columns)
		var cells []cell
		var values []float64
		before := make(map[uint16]float64)
		for ; len(in) >= 12; in = in[12:] {
			c := cell{column: uint16(int(binary.BigEndian.Uint16(in)) % columns), row: in[2], quality: point.Quality(in[3])}
			v := math.Float64frombits(binary.BigEndian.Uint64(in[4:]))
			l.add(c, v, before[c.column])
			before[c.column] = v
			cells, values = append(cells, c), append(values, v)
		}
		gotCells, gotValues := l.read(nil, nil, make([]uint64, columns))
		if len(gotCells) != len(cells) || len(gotValues) != len(values) {
			t.Fatalf("%d cells came back, want %d", len(gotCells), len(cells))
		}
		for i := range cells {
			if gotCells[i] != cells[i] || math.Float64bits(gotValues[i]) != math.Float64bits(values[i]) {
				t.Fatalf("cell %d: got %v %v, want %v %v", i, gotCells[i], gotValues[i], cells[i], values[i])
			}
		}
	})
}

func TestACellOfASteadyPollTakesThreeBytes(t *testing.T) {
	points, poll := compound(1)
	o := Options{Append: (&sink{}).append, Record: newRecord}
	var slots []int32
	for i, r := range poll {
		o.Points, slots = append(o.Points, Point{r.Point, points[r.Point]}), append(slots, int32(i))
	}
	c := New(o)
	c.begun = start
	for second := range 60 {
		for i := range poll {
			poll[i].At, poll[i].Value.Num = at(1000*second), float64(1000*i+second)
		}
		c.Observe(poll, slots)
	}
	if n := len(c.devices[0].log.bytes); n > 60*20*3+20*6 {
		t.Errorf("60 polls of 20 registers take %d bytes", n)
	}
}
