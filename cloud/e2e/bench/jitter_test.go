package main

import (
	"math"
	"testing"
	"time"

	"gatehouse/protocol/modbus"
)

func TestJitterIsTheDistanceFromThePeriodEitherWay(t *testing.T) {
	var j jitter
	j.add(time.Second) // nobody watches
	j.watch(time.Second)
	for range 98 {
		j.add(time.Second + time.Millisecond)
	}
	j.add(time.Second - 30*time.Millisecond)
	j.add(time.Hour)
	if p := j.percentile(98); p < 1 || p > 1.03 {
		t.Errorf("p98 is %g ms, want 1", p)
	}
	j.watch(time.Second)
	j.add(time.Second - 30*time.Millisecond)
	if p := j.percentile(99); p < 30 || p > 30.03 {
		t.Errorf("p99 is %g ms, want 30", p)
	}
	j.watch(time.Second)
	if p := j.percentile(99); !math.IsNaN(p) {
		t.Errorf("p99 of nothing is %g", p)
	}
}

// The line must cost what a line of 9600 baud costs, or the rows say nothing.
func TestTheLineTakesTheTimeOfItsBytes(t *testing.T) {
	t.Parallel()
	line, err := newRTULine(2)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	request := []byte{7, 3, 0, 0, 0, 2}
	crc := modbus.CRC(request)
	request = append(request, byte(crc), byte(crc>>8))
	for range 2 {
		begun := time.Now()
		if _, err := line.hold.Write(request); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, 0, 9)
		for len(reply) < cap(reply) {
			n, err := line.hold.Read(reply[len(reply):cap(reply)])
			if err != nil {
				t.Fatal(err)
			}
			reply = reply[:len(reply)+n]
		}
		least := (8+9)*rtuChar + rtuThink
		if took := time.Since(begun); took < least || modbus.CRC(reply) != 0 {
			t.Errorf("% x after %v, want a whole reply after %v or a little more", reply, took, least)
		}
	}
	if err := until(t.Context(), 5*time.Second, "two polls", func() bool { return line.polls.Load() == 2 }); err != nil {
		t.Fatal(err)
	}
	if u := line.use(); u.short != 1 || u.least >= rtuSilence {
		t.Errorf("%d silences too short, want the one between the two; the least was %v", u.short, u.least)
	}
}
