package modbus

import (
	"context"
	"errors"
	"testing"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

func TestAStepIsReadTwiceBeforeItIsBelieved(t *testing.T) {
	type want struct {
		value   float64
		quality point.Quality
	}
	good := func(v float64) want { return want{v, point.Good} }
	doubted := func(v float64) want { return want{v, point.Implausible} }
	tests := []struct {
		name  string
		role  point.Role
		max   *float64
		reads []uint16 // in the order they are asked for
		want  []want   // of each poll
	}{
		{"small steps are read once", "temperature", nil, []uint16{20, 30, 40}, []want{good(20), good(30), good(40)}},
		{"the first reading is no step", "temperature", nil, []uint16{200}, []want{good(200)}},
		{"a step that repeats is true", "temperature", nil, []uint16{20, 80, 82}, []want{good(20), good(82)}},
		{"and is what the next is measured by", "temperature", nil, []uint16{20, 80, 82, 85}, []want{good(20), good(82), good(85)}},
		{"a spike is gone", "temperature", nil, []uint16{20, 85, 21}, []want{good(20), good(21)}},
		{"and what it left is what the next is measured by", "temperature", nil, []uint16{20, 85, 21, 90, 91}, []want{good(20), good(21), good(91)}},
		{"what will not settle is implausible", "temperature", nil, []uint16{20, 85, 50}, []want{good(20), doubted(50)}},
		{"behind it no step is known", "temperature", nil, []uint16{20, 85, 50, 90}, []want{good(20), doubted(50), good(90)}},
		{"a leak that repeats", "gas", nil, []uint16{5, 60, 62}, []want{good(5), good(62)}},
		{"a spike is no leak", "gas", nil, []uint16{5, 60, 6}, []want{good(5), good(6)}},
		{"a leak that grows", "gas", nil, []uint16{5, 30, 60}, []want{good(5), good(60)}},
		{"a fall of gas, gone", "gas", nil, []uint16{60, 5, 61}, []want{good(60), good(61)}},
		{"a fall of gas that hid a rise", "gas", nil, []uint16{60, 5, 90}, []want{good(60), good(90)}},
		{"a fall of gas that repeats", "gas", nil, []uint16{60, 5, 5}, []want{good(60), good(5)}},
		{"a fall of gas that does not settle", "gas", nil, []uint16{90, 60, 5}, []want{good(90), doubted(5)}},
		{"low oxygen, gone", "oxygen", nil, []uint16{21, 5, 21}, []want{good(21), good(21)}},
		{"low oxygen", "oxygen", nil, []uint16{21, 5, 4}, []want{good(21), good(4)}},
		{"high oxygen", "oxygen", nil, []uint16{21, 40, 41}, []want{good(21), good(41)}},
		{"oxygen that does not settle", "oxygen", nil, []uint16{21, 3, 60}, []want{good(21), good(60)}},
		{"beyond the range, gone", "gas", float(100), []uint16{5, 65535, 6}, []want{good(5), good(6)}},
		{"beyond the range, not quite gone", "gas", float(100), []uint16{5, 65535, 50}, []want{good(5), good(50)}},
		{"beyond the range, twice", "gas", float(100), []uint16{5, 200, 140}, []want{good(5), good(140)}},
		{"implausible already: read once", "temperature", float(100), []uint16{20, 150, 20}, []want{good(20), doubted(150), good(20)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := holding("p", 0)
			p.Role, p.Max, p.MaxStep = tt.role, tt.max, float(10)
			link, asked := sequence(tt.reads...)
			d := build(t, spec(p), link)
			for i, w := range tt.want {
				var got []point.Reading
				if err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) }); err != nil {
					t.Fatalf("poll %d: %v", i, err)
				}
				if len(got) != 1 || got[0].Value != point.Float(w.value) || got[0].Quality != w.quality {
					t.Errorf("poll %d: %+v, want %v (%v)", i, got, w.value, w.quality)
				}
			}
			if *asked != len(tt.reads) {
				t.Errorf("asked %d times, want %d", *asked, len(tt.reads))
			}
		})
	}
}

func TestAStepThatCannotBeSeenAgain(t *testing.T) {
	for role, want := range map[point.Role]point.Quality{"temperature": point.Implausible, "gas": point.Good} {
		p := holding("p", 0)
		p.Role, p.MaxStep = role, float(10)
		link, _ := sequence(20, 90)
		d := build(t, spec(p), link)
		var got []point.Reading
		emit := func(r point.Reading) { got = append(got, r) }
		if err := d.Do(t.Context(), 0, emit); err != nil {
			t.Fatal(err)
		}
		err := d.Do(t.Context(), 0, emit)
		if !errors.Is(err, drivers.ErrNoReply) || len(got) != 2 || got[1].Value.Num != 90 || got[1].Quality != want {
			t.Errorf("%s: %+v, %v; want 90 (%v) and ErrNoReply", role, got, err, want)
		}
	}
}

func TestFaultsStayFaultsAtTheSecondLookAndEndWhatIsKnown(t *testing.T) {
	p := holding("p", 0)
	p.Role, p.MaxStep, p.Sentinels = "gas", float(10), []uint64{0xFFFF}
	link, asked := sequence(5, 90, 0xFFFF, 95)
	d := build(t, spec(p), link)
	var got []point.Quality
	for range 3 {
		if err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r.Quality) }); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 3 || got[0] != point.Good || got[1] != point.Fault || got[2] != point.Good || *asked != 4 {
		t.Errorf("%v after %d requests, want good, fault, good after 4", got, *asked)
	}
}

func TestARefusalEndsWhatIsKnown(t *testing.T) {
	p := holding("p", 0)
	p.MaxStep = float(10)
	replies := []int{5, -1, 90}
	link := &drivertest.Script{Otherwise: func(request []byte) []byte {
		next := replies[0]
		replies = replies[1:]
		if next < 0 {
			return drivertest.Exception(nil, request, modbus.DeviceFailure)
		}
		return drivertest.ReplyRTU(nil, request, func(_, _ byte, _ uint16) uint16 { return uint16(next) })
	}}
	d := build(t, spec(p), link)
	var last point.Reading
	for range 3 {
		d.Do(t.Context(), 0, func(r point.Reading) { last = r })
	}
	if last.Value.Num != 90 || last.Quality != point.Good || len(replies) != 0 {
		t.Errorf("%+v with %d replies left, want 90 at once", last, len(replies))
	}
}

func TestDangerSeenOnceIsNotHiddenByWhatCannotBe(t *testing.T) {
	link, _ := sequence(140, 0xFFFB) // then -5
	p := holding("p", 0)
	p.Role, p.Type, p.Min, p.Max = "gas", "s16", float(0), float(100)
	var got point.Reading
	if err := build(t, spec(p), link).Do(t.Context(), 0, func(r point.Reading) { got = r }); err != nil {
		t.Fatal(err)
	}
	if got.Value.Num != 140 || got.Quality != point.Good {
		t.Errorf("%+v, want 140, good", got)
	}
}

func TestASecondLookAtOnePointLeavesItsNeighboursBelieved(t *testing.T) {
	step, calm, lost := holding("step", 0), holding("calm", 1), holding("lost", 2)
	step.MaxStep, calm.MaxStep, lost.MaxStep, lost.Sentinels = float(10), float(10), float(10), []uint64{0xFFFF}
	// While step is read again, calm steps and lost is found.
	polls := [][3]uint16{{20, 20, 20}, {90, 21, 0xFFFF}, {90, 60, 70}}
	asked := 0
	link := &drivertest.Script{Otherwise: func(request []byte) []byte {
		values := polls[asked]
		asked++
		return drivertest.ReplyRTU(nil, request, func(_, _ byte, a uint16) uint16 { return values[a] })
	}}
	d := build(t, spec(step, calm, lost), link)
	got := make(map[point.ID]point.Reading)
	for range 2 {
		if err := d.Do(t.Context(), 0, func(r point.Reading) { got[r.Point] = r }); err != nil {
			t.Fatal(err)
		}
	}
	if r := got["d/step"]; r.Value.Num != 90 || r.Quality != point.Good {
		t.Errorf("step: %+v, want 90, good", r)
	}
	if r := got["d/calm"]; r.Value.Num != 60 || r.Quality != point.Implausible {
		t.Errorf("calm: %+v; a step that only one look shows is implausible", r)
	}
	if r := got["d/lost"]; r.Value.Num != 70 || r.Quality != point.Good {
		t.Errorf("lost: %+v; behind a fault no step is known", r)
	}
}

func TestAWatchedPollDoesNotAllocate(t *testing.T) {
	p := holding("p", 0)
	p.Role, p.MaxStep, p.Max = "gas", float(1), float(100)
	n := uint16(0)
	request := rtu(t, "01 03 0000 0001")
	var reply []byte
	d := build(t, spec(p), linkFunc(func(_ []byte, f drivers.Framer) ([]byte, error) {
		n = (n + 50) % 200 // a step each time it is asked
		reply = drivertest.ReplyRTU(reply[:0], request, func(_, _ byte, _ uint16) uint16 { return n })
		_, err := f(reply)
		return reply, err
	}))
	emit := func(point.Reading) {}
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Do(ctx, 0, emit); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a poll", n)
	}
}
