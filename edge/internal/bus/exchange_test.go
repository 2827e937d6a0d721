package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

// pieces is a line on which bytes come in pieces, and then nothing more. Its
// clock jumps to the deadline when nothing is left.
type pieces struct {
	line
	left  []byte
	size  int
	each  time.Duration // that a piece takes
	clock *time.Time
}

func (l *pieces) isOpen() bool          { return true }
func (l *pieces) send([]byte) error     { return nil }
func (l *pieces) discard() (int, error) { return 0, nil }
func (l *pieces) receive(buf []byte, until time.Time) (int, error) {
	n := copy(buf, l.left[:min(l.size, len(l.left))])
	if n == 0 {
		*l.clock = until
	}
	*l.clock = l.clock.Add(l.each)
	l.left = l.left[n:]
	return n, nil
}

// overPieces exchanges one register's request on a line where rx comes.
func overPieces(t testing.TB, rx []byte, size int) ([]byte, error) {
	clock := time.Unix(0, 0)
	return overLine(t, &pieces{left: rx, size: size, clock: &clock}, &clock)
}

func overLine(t testing.TB, l line, now *time.Time) ([]byte, error) {
	b, err := New(Options{ID: "b", Link: "serial:/dev/x", Emit: func([]point.Reading) {}, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	b.line = l
	b.lastByte = now.Add(-time.Second)
	request := []byte{1, 3, 0, 0, 0, 1}
	request = binary.LittleEndian.AppendUint16(request, modbus.CRC(request))
	f, err := modbus.RTU(request)
	if err != nil {
		t.Fatal(err)
	}
	return b.Link("x", Timing{}).Exchange(context.Background(), request, func(rx []byte) (int, error) {
		need, err := f(rx)
		if err != nil {
			err = drivers.ErrForeign
		}
		return need, err
	})
}

// FuzzExchange puts anything before and after a true reply, in pieces of any
// size: the reply is found, or a frame that is just as true stood before it.
func FuzzExchange(f *testing.F) {
	f.Add([]byte{}, []byte{}, uint8(1))
	f.Add([]byte{1, 3, 2}, []byte{0xFF}, uint8(3))
	f.Add([]byte{1, 3, 2, 0, 0, 0}, []byte{1, 0x83}, uint8(200))
	f.Add(bytes.Repeat([]byte{1, 3, 2}, 700), []byte{}, uint8(255))
	f.Fuzz(func(t *testing.T, before, after []byte, size uint8) {
		reply := []byte{1, 3, 2, 0x12, 0x34}
		reply = binary.LittleEndian.AppendUint16(reply, modbus.CRC(reply))
		rx := append(append(bytes.Clone(before), reply...), after...)
		got, err := overPieces(t, rx, 1+int(size))
		if err != nil {
			t.Fatalf("% x: %v", rx, err)
		}
		if n := len(got); modbus.CRC(got[:n-2]) != binary.LittleEndian.Uint16(got[n-2:]) || got[0] != 1 || got[1]&^0x80 != 3 {
			t.Errorf("took % x out of % x", got, rx)
		}
	})
}

func TestNoiseAloneIsNoReply(t *testing.T) {
	for _, noise := range [][]byte{nil, {1}, {1, 3, 2, 0, 0, 0, 0}, bytes.Repeat([]byte{1, 3}, 2000)} {
		if got, err := overPieces(t, noise, 64); !errors.Is(err, drivers.ErrNoReply) {
			t.Errorf("% x, %v; want ErrNoReply", got, err)
		}
	}
}

func TestADeviceThatNeverStopsTalkingDoesNotHoldTheBus(t *testing.T) {
	clock := time.Unix(0, 0)
	l := &pieces{left: bytes.Repeat([]byte{1, 3, 2, 0}, 1<<20), size: 16, each: time.Millisecond, clock: &clock}
	if got, err := overLine(t, l, &clock); !errors.Is(err, drivers.ErrNoReply) {
		t.Errorf("% x, %v; want ErrNoReply", got, err)
	}
	if took := clock.Sub(time.Unix(0, 0)); took > 1100*time.Millisecond {
		t.Errorf("it took %v, want the timeout of 1s", took)
	}
}
