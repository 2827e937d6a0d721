package modbus

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/modbus"
)

// breaker is switched as facts/devices.md 6.12 says: a pre-command, then the
// execution.
func breaker() drivers.Spec {
	s := spec(holding("state", 0x0010))
	at := func(address uint32) drivers.Item { return drivers.Item{Space: "holding", Address: address} }
	s.Commands = []drivers.Command{
		{Name: "close", Steps: []drivers.Step{
			{At: at(0x0080), Value: 0x0155, Pause: 200 * time.Millisecond}, {At: at(0x0081), Value: 0x01AA, Pause: 100 * time.Millisecond},
		}},
		{Name: "reset", Steps: []drivers.Step{
			{At: at(3), Value: 7, Multiple: true},
			{At: drivers.Item{Space: "coil", Address: 9, UnitPlus: 1}, Value: 1, Multiple: true},
			{At: drivers.Item{Space: "coil", Address: 0x0200}, Value: 7},
		}},
	}
	return s
}

// confirm is what a device answers that does what it is told.
func confirm(request []byte) []byte {
	switch request[1] {
	case modbus.WriteMultipleCoils, modbus.WriteMultipleRegisters:
		return drivertest.Seal(slices.Clone(request[:6]), 0)
	}
	return request
}

func sent(link *drivertest.Script) (out []string) {
	for _, tx := range link.Sent {
		out = append(out, strings.ToUpper(hex.EncodeToString(tx[:len(tx)-2])))
	}
	return out
}

func TestACommandSendsItsStepsInOrderAndWaitsBehindEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := &drivertest.Script{Record: true, Otherwise: confirm}
		d := build(t, breaker(), link)
		if got := d.Commands(); !slices.Equal(got, []string{"close", "reset"}) {
			t.Errorf("commands %v", got)
		}
		begun := time.Now()
		if err := d.Command(t.Context(), "close"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 300*time.Millisecond {
			t.Errorf("took %v, want both pauses", took)
		}
		if err := d.Command(t.Context(), "reset"); err != nil {
			t.Fatal(err)
		}
		want := []string{"010600800155", "0106008101AA", "01100003000102" + "0007", "020F000900010101", "010502000007"}
		if got := sent(link); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
	})
}

func TestACommandStopsAtTheFirstStepThatIsNotConfirmed(t *testing.T) {
	tests := []struct {
		name  string
		reply func(request []byte) []byte // to the second step
		err   error
		text  string
	}{
		{"silence", func([]byte) []byte { return nil }, drivers.ErrNoReply, "1 done, and this one perhaps"},
		{"refused", func(r []byte) []byte { return drivertest.Exception(nil, r, modbus.IllegalDataValue) }, drivers.ErrRefused, "1 done"},
		{"accepted, not done", func(r []byte) []byte { return drivertest.Exception(nil, r, modbus.Acknowledge) }, drivers.ErrBusy, "1 done, and this one perhaps"},
		{"another quantity", func(r []byte) []byte { return drivertest.Seal([]byte{r[0], r[1], r[2], r[3], 0, 2}, 0) }, drivers.ErrNoReply, "this one perhaps"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			link := &drivertest.Script{Record: true}
			link.Otherwise = func(request []byte) []byte {
				if len(link.Sent) == 2 {
					return tt.reply(request)
				}
				return confirm(request)
			}
			err := build(t, breaker(), link).Command(t.Context(), "reset")
			if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), "step 2 of 3 (0x0001 to coil 9)") || !strings.HasSuffix(err.Error(), tt.text) {
				t.Errorf("err %v, want %v and %q", err, tt.err, tt.text)
			}
			if len(link.Sent) != 2 {
				t.Errorf("sent %d frames, want 2: none twice, none behind", len(link.Sent))
			}
		})
	}
}

func TestACommandThatIsCalledOffSendsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := &drivertest.Script{Record: true, Otherwise: confirm}
		d := build(t, breaker(), link)
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		begun := time.Now()
		err := d.Command(ctx, "close")
		if took := time.Since(begun); took != 150*time.Millisecond {
			t.Errorf("gave up after %v, want 150ms", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stopped before step 2 of 2") {
			t.Errorf("err %v, want the deadline before step 2", err)
		}
		if len(link.Sent) != 1 {
			t.Errorf("sent %v", sent(link))
		}
		ctx, cancel = context.WithTimeout(t.Context(), 250*time.Millisecond) // ends in the last pause
		defer cancel()
		if err := d.Command(ctx, "close"); err != nil {
			t.Errorf("all was done, yet: %v", err)
		}
	})
}

func TestNoCommandRunsUnlessItIsNamed(t *testing.T) {
	link := &drivertest.Script{Record: true, Otherwise: confirm}
	if err := build(t, breaker(), link).Command(t.Context(), "open"); err == nil || len(link.Sent) > 0 {
		t.Errorf("err %v, sent %v", err, sent(link))
	}
	if got := build(t, spec(holding("a", 0)), link).Commands(); len(got) > 0 {
		t.Errorf("commands %v of a device that has none", got)
	}
}
