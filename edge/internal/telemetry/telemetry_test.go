package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// sink is where records go in a test.
type sink struct {
	mu   sync.Mutex
	recs []wire.Record
	err  error
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.recs)
}

func (s *sink) append(recs ...wire.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		for _, r := range recs {
			r.Body = slices.Clone(r.Body)
			s.recs = append(s.recs, r)
		}
	}
	return s.err
}

func newRecord(lane wire.Lane, kind string, body []byte) wire.Record {
	return wire.Record{Lane: lane, Kind: kind, Time: start, Body: body}
}

// fed is a collector that finds the slots itself, as the point table does.
type fed struct {
	*Collector
	slots map[point.ID]int32
	found []int32
}

func feed(o Options, points map[point.ID]Meta) *fed {
	f := &fed{slots: make(map[point.ID]int32)}
	for id, meta := range points {
		f.slots[id] = int32(len(o.Points))
		o.Points = append(o.Points, Point{id, meta})
	}
	f.Collector = New(o)
	f.begun, f.now = start, func() time.Time { return start } // the wall clock of newRecord
	return f
}

func (f *fed) Observe(readings []point.Reading) {
	f.found = f.found[:0]
	for i := range readings {
		f.found = append(f.found, f.slots[readings[i].Point])
	}
	f.Collector.Observe(readings, f.found)
}

func collector(points map[point.ID]Meta) (*fed, *sink) {
	s := &sink{}
	return feed(Options{Append: s.append, Record: newRecord}, points), s
}

func (s *sink) decode(t *testing.T) (all []wire.Telemetry) {
	t.Helper()
	for _, r := range s.recs {
		tel, err := wire.DecodeTelemetry(r.Body)
		if err != nil || r.Lane != wire.LaneTelemetry || r.Kind != wire.KindTelemetry {
			t.Fatalf("record %v %s: %v", r.Lane, r.Kind, err)
		}
		all = append(all, tel)
	}
	return all
}

var start = time.UnixMilli(1764000000000)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func good(id point.ID, ms int, v point.Value) point.Reading {
	return point.Reading{Point: id, At: at(ms), Value: v, Quality: point.Good}
}

func TestReadingsOfOnePollAreOneRow(t *testing.T) {
	c, s := collector(map[point.ID]Meta{
		"d/ch4": {Unit: point.PercentLEL, Role: "gas", Kind: point.Number}, "d/state": {Role: "detector_state", Kind: point.State},
		"d/label": {Kind: point.Text}, "e/u": {Unit: point.Volt, Role: "voltage", Kind: point.Number},
	})
	c.Observe([]point.Reading{good("d/ch4", 0, point.Float(1.5)), good("d/state", 150, point.Value{Kind: point.State, Num: 2, Text: "alarm"})})
	c.Observe([]point.Reading{good("e/u", 10, point.Float(230.1))})
	c.Observe([]point.Reading{good("d/ch4", 1000, point.Float(2)), good("d/label", 1300, point.Value{Kind: point.Text, Text: "A\xff"})})
	c.Observe([]point.Reading{good("d/ch4", 1310, point.Float(3)), good("d/ch4", 1320, point.Float(4))}) // an event beside a poll
	c.flushAll()
	want := []wire.Telemetry{
		{Device: "d", Rows: []time.Time{at(0), at(1000), at(1300), at(1320)}, Columns: []wire.Column{
			{Point: "ch4", Unit: point.PercentLEL, Role: "gas", Kind: point.Number, Nums: []float64{1.5, 2, 3, 4}},
			{Point: "label", Kind: point.Text, Rows: []uint32{2}, Texts: []string{"A\uFFFD"}},
			{Point: "state", Role: "detector_state", Kind: point.State, Rows: []uint32{0}, Nums: []float64{2}, Texts: []string{"alarm"}},
		}},
		{Device: "e", Rows: []time.Time{at(10)}, Columns: []wire.Column{
			{Point: "u", Unit: point.Volt, Role: "voltage", Kind: point.Number, Nums: []float64{230.1}},
		}},
	}
	if got := s.decode(t); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	s.recs = nil
	c.flushAll()
	if len(s.recs) != 0 {
		t.Error("the same readings were sent twice")
	}
}

func TestMovementNeverLeavesTheBox(t *testing.T) {
	points := map[point.ID]Meta{}
	for role, info := range point.Roles {
		points[point.MakeID("d", string(role))] = Meta{Role: role, Kind: info.Kind}
	}
	c, s := collector(points)
	for id := range points {
		c.Observe([]point.Reading{good(id, 0, point.Value{Kind: point.Number, Num: 1, Text: "x"})})
	}
	c.flushAll()
	sent := map[string]bool{}
	for _, col := range s.decode(t)[0].Columns {
		sent[col.Point] = true
	}
	for _, role := range []string{"motion", "door_contact", "card", "keypad", "water_volume"} {
		if sent[role] {
			t.Errorf("%s was uploaded", role)
		}
	}
	if len(sent) != len(points)-5 || !sent["gas"] || !sent["sos"] {
		t.Errorf("%d roles of %d were uploaded", len(sent), len(points))
	}
}

func TestDoubtTravelsWithTheLastValue(t *testing.T) {
	c, s := collector(map[point.ID]Meta{"d/a": {Kind: point.Number}, "d/b": {Kind: point.State}})
	c.Observe([]point.Reading{
		{Point: "d/b", At: at(0), Quality: point.Unknown},
		good("d/a", 0, point.Float(7)),
		{Point: "d/a", At: at(1000), Quality: point.Fault},
		{Point: "d/a", At: at(2000), Value: point.Float(999), Quality: point.Implausible},
	})
	c.flushAll()
	cols := s.decode(t)[0].Columns
	if a := cols[0]; !reflect.DeepEqual(a.Nums, []float64{7, 7, 999}) ||
		!reflect.DeepEqual(a.Qualities, []point.Quality{point.Good, point.Fault, point.Implausible}) {
		t.Errorf("column %+v", a)
	}
	if b := cols[1]; !reflect.DeepEqual(b.Nums, []float64{0}) || !reflect.DeepEqual(b.Texts, []string{""}) || b.Qualities[0] != point.Unknown {
		t.Errorf("column %+v", b)
	}
}

func TestManyRowsAreFlushedEarlyAndNoneIsLost(t *testing.T) {
	c, s := collector(map[point.ID]Meta{"d/a": {Kind: point.Number}})
	for i := range 2*maxRows + 5 {
		c.Observe([]point.Reading{good("d/a", 1000*i, point.Float(float64(i)))})
	}
	if len(s.recs) != 2 {
		t.Errorf("%d records before the flush, want 2", len(s.recs))
	}
	c.flushAll()
	n := 0
	for _, tel := range s.decode(t) {
		for i, v := range tel.Columns[0].Nums {
			if v != float64(n) || !tel.Rows[i].Equal(at(1000*n)) {
				t.Fatalf("value %d is %v at %v", n, v, tel.Rows[i])
			}
			n++
		}
	}
	if n != 2*maxRows+5 {
		t.Errorf("%d values came out", n)
	}
}

// A box without a battery wakes up in 1970 and learns the time a while later.
func TestRowsAreDatedByTheClockOfTheirRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boot, offset := time.Now(), time.Since(time.Unix(0, 0))
		wall := func() time.Time { return time.Now().Add(-offset) }
		s := &sink{}
		c := New(Options{Append: s.append, Points: []Point{{"d/a", Meta{Kind: point.Number}}}, Record: func(l wire.Lane, k string, b []byte) wire.Record {
			r := newRecord(l, k, b)
			r.Time = wall()
			return r
		}})
		poll := func() {
			c.Observe([]point.Reading{{Point: "d/a", At: time.Now(), Value: point.Float(1), Quality: point.Good}}, []int32{0})
			<-time.After(time.Second)
		}
		poll()
		poll()
		c.flushAll()
		poll()
		offset = 0 // the cloud tells the time
		poll()
		c.flushAll()
		got := s.decode(t)
		old, now := time.Unix(0, 0), boot
		for i, want := range [][]time.Time{{old, old.Add(time.Second)}, {now.Add(2 * time.Second), now.Add(3 * time.Second)}} {
			if !slices.EqualFunc(got[i].Rows, want, time.Time.Equal) {
				t.Errorf("record %d: rows %v, want %v", i, got[i].Rows, want)
			}
		}
	})
}

func TestAnAgeThatDoesNotFollowBeginsANewRecord(t *testing.T) {
	c, s := collector(map[point.ID]Meta{"d/a": {Kind: point.Number}})
	const hour = 3_600_000
	for _, ms := range []int{5000, 0, -100, 6000, 6000 + hour, 6001 + 2*hour} {
		c.Observe([]point.Reading{good("d/a", ms, point.Float(math.NaN()))})
	}
	c.flushAll()
	want := [][]time.Time{{at(5000)}, {at(0), at(0), at(6000), at(6000 + hour)}, {at(6001 + 2*hour)}}
	got := s.decode(t)
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i].Rows, want[i]) {
			t.Errorf("record %d: rows %v, want %v", i, got[i].Rows, want[i])
		}
	}
}

func TestEachDeviceIsFlushedOncePerIntervalAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		points := map[point.ID]Meta{}
		const devices = 250
		for i := range devices {
			points[point.MakeID(fmt.Sprintf("d%03d", i), "a")] = Meta{Kind: point.Number}
		}
		s := &sink{}
		c := feed(Options{Flush: 10 * time.Second, Append: s.append, Record: newRecord}, points)
		all := func() (rs []point.Reading) {
			for id := range points {
				rs = append(rs, point.Reading{Point: id, At: time.Now(), Value: point.Float(1), Quality: point.Good})
			}
			return rs
		}
		c.Observe(all())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		wait := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		wait(5*time.Second + time.Millisecond)
		if n := s.count(); n < devices*4/10 || n > devices*6/10 {
			t.Errorf("%d of %d devices were flushed in half an interval", n, devices)
		}
		wait(5 * time.Second)
		if n := s.count(); n != devices {
			t.Errorf("%d of %d devices were flushed in one interval", n, devices)
		}
		c.Observe(all())
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := s.count(); n != 2*devices {
			t.Errorf("%d records at the end, want %d", n, 2*devices)
		}
	})
}

func TestLossIsLoggedOnceWithItsCount(t *testing.T) {
	var log strings.Builder
	s := &sink{err: errors.New("disk on fire")}
	c := feed(Options{Append: s.append, Record: newRecord, Log: slog.New(slog.NewTextHandler(&log, nil))}, map[point.ID]Meta{"d/a": {}})
	for i := range 3 {
		c.Observe([]point.Reading{good("d/a", i, point.Float(1))})
		c.flushAll()
	}
	s.err = nil
	c.Observe([]point.Reading{good("d/a", 9, point.Float(1))})
	c.flushAll()
	if got := log.String(); strings.Count(got, "disk on fire") != 1 || !strings.Contains(got, "records_lost=3") {
		t.Errorf("log:\n%s", got)
	}
}

// compound returns the points of n devices with 20 registers each and one poll
// of them all.
func compound(n int) (map[point.ID]Meta, []point.Reading) {
	points := map[point.ID]Meta{}
	var poll []point.Reading
	for d := range n {
		for r := range 20 {
			id := point.MakeID(fmt.Sprintf("dev-%03d", d), fmt.Sprintf("reg-%02d", r))
			points[id] = Meta{Unit: point.Volt, Role: "measurement", Kind: point.Number}
			poll = append(poll, point.Reading{Point: id, Value: point.Float(float64(d) + float64(r)/10), Quality: point.Good})
		}
	}
	return points, poll
}

func TestObserveDoesNotAllocate(t *testing.T) {
	points, poll := compound(10)
	c, s := collector(points)
	now := start
	round := func() {
		now = now.Add(time.Second)
		for i := range poll {
			poll[i].At = now
		}
		c.Observe(poll)
	}
	for range maxRows - 1 {
		round()
	}
	for i := range c.devices {
		c.reset(&c.devices[i])
	}
	s.recs = nil
	if n := testing.AllocsPerRun(50, round); n != 0 {
		t.Errorf("%v allocations per poll of %d points", n, len(poll))
	}
}

func BenchmarkObserve10k(b *testing.B) {
	points, poll := compound(500)
	c := feed(Options{Append: func(...wire.Record) error { return nil }, Record: newRecord}, points)
	now := start
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(time.Second)
		for i := range poll {
			poll[i].At = now
		}
		c.Observe(poll)
		if i%10 == 9 {
			c.flushAll()
		}
	}
}
