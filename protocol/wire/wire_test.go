package wire

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire/wirepb"
)

func record(seq uint64, kind string, body []byte) Record {
	return Record{
		ID: EventID{1, byte(seq)}, Lane: LaneAlarm, Seq: seq, Kind: kind, Time: time.Unix(0, 1764000000123456789),
		Clock: ClockNTP, Boot: BootID{2}, Mono: 3 * time.Hour, Body: body,
	}
}

func gap(t testing.TB, first, last uint64) Record {
	t.Helper()
	body, err := Gap{First: first, Last: last, Reason: "quota"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return record(last, KindGap, body)
}

func batchOf(recs ...Record) Batch {
	return Batch{Version: Version, Gateway: "gw-1", Epoch: "00000000deadbeef", Lane: LaneAlarm, Records: recs}
}

func TestBatchComesBackAsItWentIn(t *testing.T) {
	b := batchOf(record(7, KindAlarmRaised, []byte("body")), gap(t, 8, 12), record(13, KindAlarmCleared, []byte{0}))
	p, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBatch(p)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, b) {
		t.Errorf("got  %+v\nwant %+v", got, b)
	}
	from, upTo, err := got.Span()
	if from != 7 || upTo != 13 || err != nil {
		t.Errorf("span %d..%d, %v", from, upTo, err)
	}
}

func TestBatchWithAHoleIsRefused(t *testing.T) {
	for name, b := range map[string]Batch{
		"empty":              batchOf(),
		"sequence 0":         batchOf(record(0, "x", nil)),
		"hole":               batchOf(record(1, "x", nil), record(3, "x", nil)),
		"twice":              batchOf(record(1, "x", nil), record(1, "x", nil)),
		"backwards":          batchOf(record(2, "x", nil), record(1, "x", nil)),
		"gap with a hole":    batchOf(record(1, "x", nil), gap(t, 3, 5)),
		"gap that overlaps":  batchOf(record(1, "x", nil), gap(t, 1, 5)),
		"gap turned round":   batchOf(record(1, "x", nil), gap(t, 5, 2)),
		"gap from 0":         batchOf(gap(t, 0, 2)),
		"gap without a body": batchOf(record(1, KindGap, []byte{0xff})),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := b.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeBatch(p); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}

func TestBatchOutsideTheContractIsRefused(t *testing.T) {
	good := func() *wirepb.Batch {
		return &wirepb.Batch{Version: 1, Gateway: "g", Epoch: "e", Lane: 1, Records: []*wirepb.Record{
			{Id: make([]byte, 16), Seq: 1, Kind: "x", Boot: make([]byte, 16)},
		}}
	}
	for name, spoil := range map[string]func(*wirepb.Batch){
		"version 2":    func(b *wirepb.Batch) { b.Version = 2 },
		"lane 0":       func(b *wirepb.Batch) { b.Lane = 0 },
		"lane 257":     func(b *wirepb.Batch) { b.Lane = 257 },
		"lane -255":    func(b *wirepb.Batch) { b.Lane = -255 },
		"no epoch":     func(b *wirepb.Batch) { b.Epoch = "" },
		"long epoch":   func(b *wirepb.Batch) { b.Epoch = strings.Repeat("e", 65) },
		"short id":     func(b *wirepb.Batch) { b.Records[0].Id = []byte{1} },
		"short boot":   func(b *wirepb.Batch) { b.Records[0].Boot = nil },
		"no kind":      func(b *wirepb.Batch) { b.Records[0].Kind = "" },
		"endless kind": func(b *wirepb.Batch) { b.Records[0].Kind = strings.Repeat("k", 65) },
		"clock 4":      func(b *wirepb.Batch) { b.Records[0].Clock = 4 },
		"clock 259":    func(b *wirepb.Batch) { b.Records[0].Clock = 259 }, // 3 in its low byte
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			spoil(m)
			p, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeBatch(p); err == nil {
				t.Error("accepted")
			}
		})
	}
	p, err := proto.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeBatch(p); err != nil {
		t.Errorf("the unspoilt batch was refused: %v", err)
	}
}

func TestAckComesBackAsItWentIn(t *testing.T) {
	a := Ack{Gateway: "gw-1", Epoch: "e", Lane: LaneMedia, From: 5, UpTo: math.MaxUint64, CloudTime: time.Unix(0, 99)}
	p, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeAck(p); err != nil || got != a {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAlarmComesBackAsItWentIn(t *testing.T) {
	a := Alarm{
		Alarm: EventID{9}, Rule: "gas", Point: "di-3-2/di1", Place: "3/2/501", Zone: "3/2", Role: "gas_alarm",
		Value: point.Value{Kind: point.State, Num: 2, Text: "高报"}, Unit: point.PercentLEL, Priority: 1, Title: "501厨房燃气报警器",
		Drill: true, Occurrence: 3, Actor: "王师傅", Raised: time.Unix(0, 1764000000000000000), Remark: "r",
	}
	p, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeAlarm(p); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := DecodeAlarm([]byte{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("an alarm without an id: %v", err)
	}
}

func TestAlarmOutsideTheContractIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*wirepb.Alarm){
		"kind 5":          func(a *wirepb.Alarm) { a.Value.Kind = 5 },
		"kind 257":        func(a *wirepb.Alarm) { a.Value.Kind = 257 },
		"kind -255":       func(a *wirepb.Alarm) { a.Value.Kind = -255 },
		"no priority":     func(a *wirepb.Alarm) { a.Priority = 0 },
		"priority 5":      func(a *wirepb.Alarm) { a.Priority = 5 },
		"priority 2^32-1": func(a *wirepb.Alarm) { a.Priority = math.MaxUint32 },
		"no alarm":        func(a *wirepb.Alarm) { a.Alarm = nil },
	} {
		t.Run(name, func(t *testing.T) {
			m := &wirepb.Alarm{Alarm: make([]byte, 16), Priority: 1, Value: &wirepb.Value{Kind: wirepb.Value_NUMBER}}
			spoil(m)
			p, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if a, err := DecodeAlarm(p); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %+v, %v, want ErrMalformed", a, err)
			}
		})
	}
}

func TestTelemetryComesBackToTheLastBit(t *testing.T) {
	start := time.UnixMilli(1764000000123)
	tel := Telemetry{
		Device: "septic-1",
		Rows:   []time.Time{start, start.Add(time.Second), start.Add(2001 * time.Millisecond)},
		Columns: []Column{
			{Point: "ch4", Unit: point.PercentLEL, Role: "gas", Kind: point.Number, Nums: []float64{0.1, 12.345678, -3}},
			{Point: "exact", Kind: point.Number, Nums: []float64{math.Pi, math.MaxFloat64, 1e-9}},
			{Point: "big", Kind: point.Number, Nums: []float64{1 << 60, 0, -(1 << 60)}},
			{Point: "some", Kind: point.Bool, Rows: []uint32{0, 2}, Nums: []float64{1, 0}, Qualities: []point.Quality{point.Good, point.Fault}},
			{Point: "state", Kind: point.State, Nums: []float64{1, 2, 1}, Texts: []string{"normal", "alarm", "normal"}},
			{Point: "text", Kind: point.Text, Rows: []uint32{1}, Texts: []string{"x"}},
		},
	}
	p, err := tel.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTelemetry(p)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, tel) {
		t.Errorf("got  %+v\nwant %+v", got, tel)
	}
}

func TestTelemetryThatDoesNotAddUpIsRefused(t *testing.T) {
	for name, c := range map[string]*wirepb.Column{
		"too few values":          {Ints: []int64{1}},
		"no values":               {},
		"row that does not exist": {Rows: []uint32{2}, Ints: []int64{1}},
		"rows out of order":       {Rows: []uint32{1, 0}, Ints: []int64{1, 2}},
		"scale out of range":      {Scale: 7, Ints: []int64{1, 2}},
		"values twice":            {Ints: []int64{1, 2}, Nums: []float64{1, 2}},
		"texts for half of them":  {Ints: []int64{1, 2}, Texts: []string{"x"}},
		"qualities for half":      {Ints: []int64{1, 2}, Qualities: []uint32{1}},
		"quality 5":               {Ints: []int64{1, 2}, Qualities: []uint32{1, 5}},
		"quality 257":             {Ints: []int64{1, 2}, Qualities: []uint32{1, 257}}, // good in its low byte
		"kind 5":                  {Kind: 5, Ints: []int64{1, 2}},
		"kind 257":                {Kind: 257, Ints: []int64{1, 2}},
		"kind -255":               {Kind: -255, Ints: []int64{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := proto.Marshal(&wirepb.Telemetry{Device: "d", Step: []uint32{1000}, Columns: []*wirepb.Column{c}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeTelemetry(p); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}

// What does not fit the message is refused where it is written: a reader could
// not tell that it was changed.
func TestTelemetryThatWouldComeBackChangedIsNotEncoded(t *testing.T) {
	old := time.Unix(0, 0)
	for name, rows := range map[string][]time.Time{
		"no row":                  nil,
		"rows out of order":       {old.Add(time.Second), old},
		"a jump from 1970 to now": {old, old.AddDate(56, 0, 0)},
		"a step of 2^32 ms":       {old, old.Add((math.MaxUint32 + 1) * time.Millisecond)},
	} {
		if _, err := (Telemetry{Device: "d", Rows: rows}).Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	rows := []time.Time{old, old.Add(math.MaxUint32 * time.Millisecond)}
	p, err := Telemetry{Device: "d", Rows: rows}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeTelemetry(p); err != nil || !reflect.DeepEqual(got.Rows, rows) {
		t.Errorf("the longest step came back as %v, %v", got.Rows, err)
	}
}

func TestTelemetryBeyondTheEndOfTimeIsRefused(t *testing.T) {
	p, err := proto.Marshal(&wirepb.Telemetry{Device: "d", Start: math.MaxInt64, Step: []uint32{1}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeTelemetry(p); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, %v, want ErrMalformed", got.Rows, err)
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for _, l := range Lanes {
		if got, err := ParseLane(l.String()); got != l || err != nil {
			t.Errorf("lane %v came back as %v, %v", l, got, err)
		}
	}
	if _, err := ParseLane("lane(0)"); err == nil {
		t.Error("lane(0) was accepted")
	}
	id := NewEventID()
	if got, err := ParseEventID(id.String()); got != id || err != nil {
		t.Errorf("id %v came back as %v, %v", id, got, err)
	}
	for id, want := range map[string]bool{"gw-0001": true, "": false, "a/b": false, "a.b": false, "*": false, "闸": false, strings.Repeat("x", 65): false} {
		if ValidGatewayID(id) != want {
			t.Errorf("ValidGatewayID(%q) = %v", id, !want)
		}
	}
}

// encoder is what every message of the contract can do.
type encoder interface{ Encode() ([]byte, error) }

// roundTrip asserts that what decode accepts says the same after another trip.
func roundTrip[T encoder](t *testing.T, p []byte, decode func([]byte) (T, error)) {
	v, err := decode(p)
	if err != nil {
		return
	}
	once, err := v.Encode()
	if err != nil {
		t.Fatalf("accepted, but does not encode: %v\n%+v", err, v)
	}
	again, err := decode(once)
	if err != nil {
		t.Fatalf("accepted, encoded, then refused: %v\n%+v", err, v)
	}
	twice, err := again.Encode()
	if err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("changed on the second trip (%v)\n%+v\n%+v", err, v, again)
	}
}

func seed(f *testing.F, vs ...encoder) {
	for _, v := range vs {
		p, err := v.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
		f.Add(p[:len(p)/2])
	}
}

// seedRaw adds messages that no encoder of ours would write.
func seedRaw(f *testing.F, ms ...proto.Message) {
	for _, m := range ms {
		p, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	seed(f, batchOf(record(1, KindAlarmRaised, []byte("b")), gap(f, 2, 9)))
	seedRaw(f, &wirepb.Batch{Version: 1, Epoch: "e", Lane: 1, Records: []*wirepb.Record{
		{Id: make([]byte, 16), Seq: 1, Kind: "x", Boot: make([]byte, 16), Clock: 259},
	}})
	f.Fuzz(func(t *testing.T, p []byte) {
		roundTrip(t, p, DecodeBatch)
		if b, err := DecodeBatch(p); err == nil {
			if _, _, err := b.Span(); err != nil || !b.Lane.Valid() {
				t.Fatalf("accepted a batch that is not whole: %v", err)
			}
		}
	})
}

func FuzzDecodeAck(f *testing.F) {
	seed(f, Ack{Gateway: "g", Epoch: "e", Lane: LaneEvent, From: 3, UpTo: 2, CloudTime: time.Unix(1, 2)})
	f.Fuzz(func(t *testing.T, p []byte) { roundTrip(t, p, DecodeAck) })
}

func FuzzDecodeAlarm(f *testing.F) {
	seed(f, Alarm{Alarm: EventID{1}, Value: point.Float(1.5), Priority: 1, Raised: time.Unix(5, 0)})
	seedRaw(f, &wirepb.Alarm{Alarm: make([]byte, 16), Priority: 1 << 31, Value: &wirepb.Value{Kind: 257}})
	f.Fuzz(func(t *testing.T, p []byte) {
		roundTrip(t, p, DecodeAlarm)
		if a, err := DecodeAlarm(p); err == nil && (a.Priority < 1 || a.Priority > 4 || a.Value.Kind > point.Text) {
			t.Fatalf("accepted %+v", a)
		}
	})
}

func FuzzDecodeTelemetry(f *testing.F) {
	at := time.UnixMilli(1000)
	seed(f, Telemetry{Device: "d", Rows: []time.Time{at, at.Add(time.Second)}, Columns: []Column{
		{Point: "a", Kind: point.Number, Nums: []float64{1.5, 2}},
		{Point: "b", Kind: point.State, Rows: []uint32{1}, Nums: []float64{1}, Texts: []string{"on"}, Qualities: []point.Quality{point.Stale}},
		{Point: "c", Kind: point.Number, Nums: []float64{math.Pi, math.Inf(1)}},
	}})
	seedRaw(f,
		&wirepb.Telemetry{Device: "d", Columns: []*wirepb.Column{{Kind: 257, Ints: []int64{1}, Qualities: []uint32{257}}}},
		&wirepb.Telemetry{Device: "d", Start: math.MaxInt64, Step: []uint32{math.MaxUint32, 1}})
	f.Fuzz(func(t *testing.T, p []byte) { roundTrip(t, p, DecodeTelemetry) })
}

func FuzzDecodeGap(f *testing.F) {
	seed(f, Gap{First: 1, Last: 2, Reason: "quota"})
	f.Fuzz(func(t *testing.T, p []byte) { roundTrip(t, p, DecodeGap) })
}

func TestWhatWasKeptIsReadAgain(t *testing.T) {
	b := batchOf(record(1, "x", nil))
	for version, want := range map[int]error{0: ErrVersion, 1: nil, Version + 1: ErrVersion} {
		b.Version = version
		p, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeStored(p); !errors.Is(err, want) || want == nil && got.Version != version {
			t.Errorf("version %d: %+v, %v", version, got, err)
		}
	}
}
