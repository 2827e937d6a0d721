package wire

import (
	"bytes"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire/wirepb"
)

// generated returns t in the bytes that package proto writes.
func generated(t *testing.T, tel Telemetry) []byte {
	t.Helper()
	m := &wirepb.Telemetry{Device: tel.Device, Start: tel.Rows[0].UnixMilli()}
	for i, at := range tel.Rows[1:] {
		m.Step = append(m.Step, uint32(step(tel.Rows[i], at)))
	}
	for _, c := range tel.Columns {
		p := &wirepb.Column{Point: c.Point, Unit: string(c.Unit), Role: string(c.Role), Kind: wirepb.Value_Kind(c.Kind), Rows: c.Rows, Texts: c.Texts}
		if scale, ok := decimals(c.Nums); ok {
			p.Scale = uint32(scale)
			last := int64(0)
			for _, v := range c.Nums {
				n := int64(math.Round(v * pow10[scale]))
				p.Ints, last = append(p.Ints, n-last), n
			}
		} else {
			p.Nums = c.Nums
		}
		for _, q := range c.Qualities {
			p.Qualities = append(p.Qualities, uint32(q))
		}
		m.Columns = append(m.Columns, p)
	}
	return marshal(t, m)
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	p, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatIsWrittenByHandIsWhatTheSchemaSays(t *testing.T) {
	at := time.UnixMilli(1764000000000)
	many := make([]float64, 200)
	for i := range many {
		many[i] = float64(i*i) / 10
	}
	for _, tel := range []Telemetry{
		{Device: "d", Rows: []time.Time{at}},
		{Device: "d", Rows: []time.Time{time.UnixMilli(0)}, Columns: []Column{{Point: "p", Kind: point.Number, Nums: []float64{0}}}},
		{Device: "智能", Rows: []time.Time{at, at, at.Add(time.Hour)}, Columns: []Column{
			{Point: "a", Unit: point.PercentLEL, Role: "gas", Kind: point.Number, Nums: []float64{-1.5, 2, 1e6}},
			{Point: "b", Kind: point.Number, Nums: []float64{math.Pi, math.Inf(1)}, Rows: []uint32{0, 2}, Qualities: []point.Quality{point.Good, point.Fault}},
			{Point: "c", Kind: point.State, Nums: []float64{6}, Texts: []string{"high_alarm"}, Rows: []uint32{1}},
			{Point: "e", Kind: point.Text, Texts: []string{"", "甲", ""}},
			{Point: "many", Kind: point.Number, Nums: many},
		}},
	} {
		got, err := tel.Append([]byte("before"))
		if want := generated(t, tel); err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("telemetry of %q: %v\n got %x\nwant %x", tel.Device, err, got, want)
		}
	}

	b := Batch{Version: Version, Gateway: "gw-1", Epoch: "0011", Lane: LaneAlarm, Records: []Record{
		{ID: NewEventID(), Seq: 1, Kind: KindAlarmRaised, Time: at, Clock: ClockNTP, Boot: BootID{1}, Mono: time.Minute, Body: bytes.Repeat([]byte("x"), 300)},
		{ID: NewEventID(), Seq: 1 << 40, Kind: "k", Time: time.Unix(-1, 0)},
	}}
	m := &wirepb.Batch{Version: Version, Gateway: b.Gateway, Epoch: b.Epoch, Lane: wirepb.Lane(b.Lane)}
	for i := range b.Records {
		r := &b.Records[i]
		m.Records = append(m.Records, &wirepb.Record{Id: r.ID[:], Seq: r.Seq, Kind: r.Kind, Time: r.Time.UnixNano(),
			Clock: uint32(r.Clock), Boot: r.Boot[:], Mono: int64(r.Mono), Body: r.Body})
	}
	if got, err := b.Append(nil); err != nil || !bytes.Equal(got, marshal(t, m)) {
		t.Errorf("batch: %v\n got %x\nwant %x", err, got, marshal(t, m))
	}
}

func TestTextThatIsNoneIsRefused(t *testing.T) {
	row := []time.Time{time.UnixMilli(1)}
	for _, tel := range []Telemetry{
		{Device: "\xff", Rows: row},
		{Device: "d", Rows: row, Columns: []Column{{Point: "\xff"}}},
		{Device: "d", Rows: row, Columns: []Column{{Point: "p", Texts: []string{"\xff"}}}},
	} {
		if _, err := tel.Encode(); err == nil {
			t.Errorf("%+v was encoded", tel)
		}
	}
	if _, err := (Batch{Gateway: "\xff"}).Encode(); err == nil {
		t.Error("a batch of no gateway was encoded")
	}
}

func TestAppendingToRoomAllocatesNothing(t *testing.T) {
	tel := Telemetry{Device: "d", Rows: []time.Time{time.UnixMilli(1), time.UnixMilli(1001)},
		Columns: []Column{{Point: "p", Kind: point.Number, Nums: []float64{1.5, 2.5}}}}
	room := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := tel.Append(room); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
