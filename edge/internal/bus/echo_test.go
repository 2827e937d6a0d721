package bus

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/drivers/modbus"
	"gatehouse/protocol/point"
)

// relayBoard is a device with an output and an input.
func relayBoard(t *testing.T, r *rig, unit int) {
	t.Helper()
	id := string(rune('a' + unit))
	d, err := modbus.New(drivers.Spec{Device: id, Framing: drivers.RTU, Address: unit, Every: time.Second, Points: []drivers.PointSpec{
		{ID: point.MakeID(id, "relay"), Kind: point.Bool, Write: &drivers.Output{At: drivers.Item{Space: "coil", Address: 1}}},
		{ID: point.MakeID(id, "in"), Kind: point.Number, At: drivers.Item{Space: "holding"}},
	}}, drivers.Deps{Link: r.Link(id, Timing{})})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Attach(id, d); err != nil {
		t.Fatal(err)
	}
}

// unitReply is what a device answers, if its unit is not dead.
func unitReply(tx []byte, dead byte) []byte {
	if tx[0] == dead {
		return nil
	}
	return drivertest.ReplyRTU(nil, tx, func(_, _ byte, _ uint16) uint16 { return 7 })
}

func TestAnAdapterThatHearsItselfConfirmsNoWrite(t *testing.T) {
	const dead = 2
	noisy := func(tx []byte) []byte { return append([]byte{0xFF}, tx...) }
	for name, before := range map[string]func(tx []byte) []byte{
		"echo": func(tx []byte) []byte { return bytes.Clone(tx) },
		"echo behind a glitch, once it was heard": func() func([]byte) []byte {
			n := 0
			return func(tx []byte) []byte {
				if n++; n > 2 {
					return noisy(tx)
				}
				return bytes.Clone(tx)
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{Timeout: 200 * time.Millisecond})
				relayBoard(t, r, 1)
				relayBoard(t, r, dead)
				r.line.reply = func(tx []byte) ([]byte, time.Duration) {
					return append(before(tx), unitReply(tx, dead)...), 20 * time.Millisecond
				}
				r.run(t)
				<-time.After(3 * time.Second)
				if err := r.Write(t.Context(), "c/relay", point.Truth(true)); !errors.Is(err, drivers.ErrNoReply) {
					t.Errorf("write to a dead device: %v, want ErrNoReply", err)
				}
				if err := r.Write(t.Context(), "b/relay", point.Truth(true)); err != nil {
					t.Errorf("write to a living device: %v", err)
				}
				if n := len(r.seen["b/in"]); n < 3 {
					t.Errorf("read %d times in 3 s", n)
				}
				r.stop()
			})
		})
	}
}

func TestAnEchoThatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Timeout: 200 * time.Millisecond})
		relayBoard(t, r, 1)
		echo := true
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			if echo {
				return append(bytes.Clone(tx), unitReply(tx, 0)...), 20 * time.Millisecond
			}
			return unitReply(tx, 0), 20 * time.Millisecond
		}
		r.run(t)
		<-time.After(3 * time.Second)
		r.line.mu.Lock()
		echo = false // another adapter
		r.line.mu.Unlock()
		<-time.After(3 * time.Second)
		if err := r.Write(t.Context(), "b/relay", point.Truth(true)); err != nil {
			t.Errorf("write: %v", err)
		}
		r.stop()
	})
}
