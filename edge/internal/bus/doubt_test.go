package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/drivers"
	driver "gatehouse/drivers/modbus"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

func TestOneLostReplyOnAFullLineBlindsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Retries: 1})
		var devices []*fakeDriver
		for i := range byte(24) {
			devices = append(devices, r.device(t, i, -time.Second))
		}
		answer := func(mute int) {
			r.line.mu.Lock()
			defer r.line.mu.Unlock()
			r.line.reply = func(tx []byte) ([]byte, time.Duration) {
				if int(tx[0]) == mute {
					return nil, 0
				}
				return bytes.Clone(tx), 45 * time.Millisecond // 24 of them do not fit into the second
			}
		}
		answer(-1)
		r.run(t)
		<-time.After(10 * time.Second)
		answer(5)
		<-time.After(time.Second)
		answer(-1)
		<-time.After(time.Minute)
		from := time.Now()
		<-time.After(10 * time.Minute)
		r.stop()
		for i, d := range devices {
			if most := longest(d.asked, from, time.Now()); most > 5*time.Second {
				t.Errorf("device %d was not read for %v", i, most)
			}
		}
	})
}

// lateLine is a serial server that frees its one connection a moment late.
type lateLine struct {
	*fakeLine
	closed time.Time
	opened int
}

func (l *lateLine) shut() { l.fakeLine.shut(); l.closed = time.Now() }

func (l *lateLine) open(ctx context.Context) error {
	if time.Since(l.closed) < 50*time.Millisecond {
		return errTest
	}
	l.opened++
	return l.fakeLine.open(ctx)
}

func TestTheDeadBehindASerialServerCostTheLivingLittle(t *testing.T) {
	for _, alive := range []byte{0, 31} {
		synctest.Test(t, func(t *testing.T) {
			r, devices := full(t)
			line := &lateLine{fakeLine: r.line}
			r.Bus.line, r.link.Serial = line, false
			const timeout = 1467 * time.Millisecond // the default behind a serial server at 9600 baud
			r.opts.Timeout = timeout
			for _, dev := range r.devices {
				dev.timing.Timeout = timeout
			}
			r.run(t)
			<-time.After(10 * time.Second)
			r.living(func(number byte) bool { return number == alive })
			from := time.Now()
			<-time.After(10 * time.Minute)
			r.stop()
			if most := longest(devices[alive].asked, from, time.Now()); most > 2*time.Second+timeout+31*100*time.Millisecond {
				t.Errorf("device %d was not read for %v", alive, most)
			}
			if line.opened > 2 {
				t.Errorf("connected %d times: the living one answers on this connection", line.opened)
			}
		})
	}
}

func TestAnOrderThatWasGivenUpIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond})
		d := &commanded{fakeDriver: &fakeDriver{number: 1, link: r.Link("b", Timing{Wake: []byte{0x8F}, WakePause: time.Second})}}
		if err := r.Attach("b", d); err != nil {
			t.Fatal(err)
		}
		sent := 0
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			if len(tx) > 1 && tx[1] == 0xCC {
				sent++
			}
			return bytes.Clone(tx), 2 * time.Millisecond
		}
		r.run(t)
		<-time.After(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // over while the device is woken
		defer cancel()
		err := r.Command(ctx, "b", "close")
		<-time.After(5 * time.Second)
		r.stop()
		if err == nil || sent > 0 {
			t.Errorf("%d commands went out; the caller was told %v", sent, err)
		}
	})
}

func TestWhoGivesUpInTheMiddleOfAnOrderIsToldWhatBecameOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 300 * time.Millisecond})
		d := &commanded{fakeDriver: &fakeDriver{number: 1, link: r.Link("b", Timing{})}}
		d.jobs = []drivers.Job{{Every: 10 * time.Second, TxBytes: 8, RxBytes: 8}}
		if err := r.Attach("b", d); err != nil {
			t.Fatal(err)
		}
		r.run(t)
		<-time.After(2 * time.Second)
		r.line.mu.Lock()
		r.line.reply = func(tx []byte) ([]byte, time.Duration) { return bytes.Clone(tx), 200 * time.Millisecond }
		r.line.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := r.Command(ctx, "b", "close")
		r.stop()
		if len(d.done) != 1 || err == nil || errors.Is(err, ErrNotBegun) {
			t.Errorf("sent %d times, told %v", len(d.done), err)
		}
	})
}

// A write of several items is answered without their values: the reply to one
// order would do for the next.
func TestALateReplyConfirmsNoOtherOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 300 * time.Millisecond})
		on, off := uint16(1), uint16(0)
		d, err := driver.New(drivers.Spec{Device: "m", Framing: drivers.RTU, Address: 1, Every: time.Second,
			Points: []drivers.PointSpec{{ID: "m/s", Kind: point.Bool, Write: &drivers.Output{At: drivers.Item{Space: "holding", Address: 9}, On: &on, Off: &off, Multiple: true}}},
		}, drivers.Deps{Link: r.Link("m", Timing{})})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Attach("m", d); err != nil {
			t.Fatal(err)
		}
		var echo []byte
		var lateAt time.Time
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			switch {
			case tx[1] != modbus.WriteMultipleRegisters:
				return nil, 0
			case tx[8] == 1: // on: obeyed, and told of 400 ms later
				echo = append(bytes.Clone(tx[:6]), 0, 0)
				binary.LittleEndian.PutUint16(echo[6:], modbus.CRC(echo[:6]))
				lateAt = time.Now().Add(400 * time.Millisecond)
				return echo, 400 * time.Millisecond
			case time.Until(lateAt) > 0: // off: lost, and now the other's reply comes
				return echo, time.Until(lateAt)
			}
			return nil, 0
		}
		r.run(t)
		<-time.After(time.Second)
		if err := r.Write(t.Context(), "m/s", point.Truth(true)); err == nil {
			t.Error("on was confirmed by nobody")
		}
		if err := r.Write(t.Context(), "m/s", point.Truth(false)); !errors.Is(err, drivers.ErrNoReply) {
			t.Errorf("off, which got lost: %v", err)
		}
		r.stop()
	})
}

func TestADeviceOfWhichEveryReplyIsDamagedIsNotWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond, Retries: 1})
		gasModule(t, r)
		r.mute()
		r.run(t)
		<-time.After(10 * time.Second)
		r.line.mu.Lock()
		good := r.line.reply
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			b, after := good(tx)
			if len(b) > 0 {
				b[len(b)-1] ^= 0x55
			}
			return b, after
		}
		r.line.mu.Unlock()
		<-time.After(time.Hour)
		if r.devices[0].metrics.up.Load() || strings.Count(r.log.String(), "every reply of a device is damaged") != 1 {
			t.Errorf("up %v; log %q", r.devices[0].metrics.up.Load(), r.log.String())
		}
		r.line.mu.Lock()
		r.line.reply = good
		r.line.mu.Unlock()
		<-time.After(10 * time.Second)
		r.stop()
		if !r.devices[0].metrics.up.Load() {
			t.Error("the device is well again and not up")
		}
	})
}

func TestAnEchoConfirmsNoWriteToADeviceThatIsOnlyWrittenTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 100 * time.Millisecond, Retries: 1})
		d, err := driver.New(drivers.Spec{Device: "m", Framing: drivers.RTU, Address: 1, Every: time.Second,
			Points: []drivers.PointSpec{{ID: "m/siren", Kind: point.Bool, Write: &drivers.Output{At: drivers.Item{Space: "coil", Address: 0}}}},
		}, drivers.Deps{Link: r.Link("m", Timing{})})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Attach("m", d); err != nil {
			t.Fatal(err)
		}
		r.run(t) // the rig's line plays back whatever is sent: the device is dead
		<-time.After(time.Minute)
		if err := r.Write(t.Context(), "m/siren", point.Truth(true)); !errors.Is(err, drivers.ErrNoReply) {
			t.Errorf("a write to a dead siren: %v", err)
		}
		r.stop()
	})
}
