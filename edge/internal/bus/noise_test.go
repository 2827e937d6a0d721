package bus

import (
	"bytes"
	"encoding/binary"
	"math"
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
// ways. It knows what was said, and so which damage the CRC cannot see. Such
// damage is rare, so it is forged too: a byte of data flipped in one reply of
// 2000, under a CRC that fits. The exchange behind a forged reply is quiet: what
// stands if the second look fails is not the matter here.
type noiseLine struct {
	*fakeLine
	random     *rand.Rand
	truth      drivertest.Registers
	flipped    int
	damaged    int // frames
	collisions int // damaged frames whose CRC fits all the same
	forged     int // of them, those that were forged
	replies    int
	quiet      bool
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

// forge flips a byte of a reply's data and mends the CRC.
func (l *noiseLine) forge(reply []byte) []byte {
	end := len(reply) - 2
	reply[3+l.random.IntN(end-3)] ^= byte(1 + l.random.IntN(255)) // behind unit, function and count
	binary.LittleEndian.PutUint16(reply[end:], modbus.CRC(reply[:end]))
	l.flipped++
	l.damaged++
	l.collisions++
	l.forged++
	return reply
}

// answer is the slave: it says nothing to what it does not understand.
func (l *noiseLine) answer(tx []byte) ([]byte, time.Duration) {
	if l.quiet {
		l.quiet = false
		return drivertest.ReplyRTU(nil, tx, l.truth), 25 * time.Millisecond
	}
	request := l.spoil(tx)
	if end := len(request) - 2; modbus.CRC(request[:end]) != binary.LittleEndian.Uint16(request[end:]) || request[0] > 4 || request[1] != 3 {
		return nil, 0
	}
	reply := drivertest.ReplyRTU(nil, request, l.truth)
	if l.replies++; l.replies%2000 == 0 {
		l.quiet = true
		return l.forge(reply), 25 * time.Millisecond
	}
	return l.spoil(reply), 25 * time.Millisecond
}

// Promise 11: a wrong value only where CRC-16 itself cannot tell, never one that
// is a step, and no false alarm. The full count is a hundred thousand frames, and ten times that in
// make torture.
func TestTortureNoise(t *testing.T) {
	frames := 100_000
	if os.Getenv("GATEHOUSE_TORTURE") != "" {
		frames = 1_000_000
	}
	synctest.Test(t, func(t *testing.T) {
		const limit = 25 // %LEL: P1 at once
		step := 10.      // the highest truth is 11: what is no step is no alarm
		truth := func(unit, _ byte, a uint16) uint16 { return uint16(unit) + a%8 }
		wrong, steps, alarms, readings := 0, 0, 0, 0
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
				if math.Abs(reading.Value.Num-float64(want)) > step {
					steps++
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
					Kind: point.Number, Critical: true, MaxStep: &step, At: drivers.Item{Space: "holding", Address: uint32(a)}})
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
		t.Logf("%d polls, %d bytes flipped, %d frames damaged, %d of them with a CRC that fits (%d forged); %d readings, %d wrong, %d false alarms",
			polls(), line.flipped, line.damaged, line.collisions, line.forged, readings, wrong, alarms)
		if line.damaged < frames/10 || readings < 4*frames || line.forged < frames/4000 {
			t.Errorf("%d frames damaged, %d of them forged, %d readings: this proved nothing", line.damaged, line.forged, readings)
		}
		if wrong > 8*(line.collisions-line.forged)+line.forged { // a forged reply has one wrong value of eight
			t.Errorf("%d wrong values, but only %d frames whose damage CRC-16 cannot see", wrong, line.collisions)
		}
		if steps > 0 {
			t.Errorf("%d wrong values that are a step", steps)
		}
		if alarms > 0 {
			t.Errorf("%d false alarms", alarms)
		}
	})
}
