package bus

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	driver "gatehouse/drivers/modbus"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

// noiseLine joins a bus with a slave, and flips one byte in a hundred both
// ways. It knows what was said, and so which damage the CRC cannot see.
type noiseLine struct {
	*fakeLine
	random     *rand.Rand
	truth      drivertest.Registers
	flipped    int
	damaged    int // replies
	collisions int // damaged frames whose CRC fits all the same
}

func (l *noiseLine) spoil(frame []byte) []byte {
	out := bytes.Clone(frame)
	for i := range out {
		if l.random.IntN(100) == 0 {
			out[i] ^= byte(1 + l.random.IntN(255))
			l.flipped++
		}
	}
	if !bytes.Equal(out, frame) {
		l.damaged++
		if end := len(out) - 2; modbus.CRC(out[:end]) == binary.LittleEndian.Uint16(out[end:]) {
			l.collisions++
		}
	}
	return out
}

// answer is the slave: it says nothing to what it does not understand.
func (l *noiseLine) answer(tx []byte) ([]byte, time.Duration) {
	request := l.spoil(tx)
	if end := len(request) - 2; modbus.CRC(request[:end]) != binary.LittleEndian.Uint16(request[end:]) || request[0] > 4 || request[1] != 3 {
		return nil, 0
	}
	return l.spoil(drivertest.ReplyRTU(nil, request, l.truth)), 25 * time.Millisecond
}

// Promise 11: a wrong value only where CRC-16 itself cannot tell, and no false
// alarm. The full count is a hundred thousand frames, and ten times that in
// make torture.
func TestTortureNoise(t *testing.T) {
	frames := 100_000
	if os.Getenv("GATEHOUSE_TORTURE") != "" {
		frames = 1_000_000
	}
	synctest.Test(t, func(t *testing.T) {
		const limit = 25 // %LEL: P1 at once
		truth := func(unit, _ byte, a uint16) uint16 { return uint16(unit) + a%8 }
		wrong, alarms, readings := 0, 0, 0
		r := newRig(t, Options{Timeout: 60 * time.Millisecond, Retries: 1})
		r.opts.Emit = func(batch []point.Reading) {
			for _, reading := range batch {
				if reading.Quality != point.Good {
					continue
				}
				readings++
				want := truth(reading.Point.Device()[0]-'0', 0, uint16(reading.Point.Name()[0]-'a'))
				if reading.Value.Num != float64(want) {
					wrong++
				}
				if reading.Value.Num >= limit {
					alarms++
				}
			}
		}
		line := &noiseLine{fakeLine: r.line, random: rand.New(rand.NewPCG(11, 1)), truth: truth}
		line.reply = line.answer
		r.Bus.line = line
		for unit := 1; unit <= 4; unit++ {
			id := string(rune('0' + unit))
			spec := drivers.Spec{Device: id, Framing: drivers.RTU, Address: unit, Every: 100 * time.Millisecond}
			for a := range uint16(8) {
				spec.Points = append(spec.Points, drivers.PointSpec{ID: point.MakeID(id, string(rune('a'+a))), Role: "gas", Unit: point.PercentLEL,
					Kind: point.Number, Critical: true, At: drivers.Item{Space: "holding", Address: uint32(a)}})
			}
			d, err := driver.New(spec, drivers.Deps{Link: r.Link(id, Timing{})})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Attach(id, d); err != nil {
				t.Fatal(err)
			}
		}
		r.run(t)
		polls := func() uint64 {
			var n uint64
			for _, d := range r.devices {
				n += d.metrics.polls.Load()
			}
			return n
		}
		for polls() < uint64(frames) {
			<-time.After(10 * time.Second)
		}
		r.stop()
		t.Logf("%d polls, %d bytes flipped, %d frames damaged, %d of them with a CRC that fits; %d readings, %d wrong, %d false alarms",
			polls(), line.flipped, line.damaged, line.collisions, readings, wrong, alarms)
		if line.damaged < frames/10 || readings < 4*frames {
			t.Errorf("%d frames damaged, %d readings: this proved nothing", line.damaged, readings)
		}
		if wrong > 8*line.collisions {
			t.Errorf("%d wrong values, but only %d frames whose damage CRC-16 cannot see", wrong, line.collisions)
		}
		if alarms > 0 {
			t.Errorf("%d false alarms", alarms)
		}
	})
}
