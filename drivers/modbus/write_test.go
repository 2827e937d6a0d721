package modbus

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

func TestOutputs(t *testing.T) {
	at := func(a uint32) drivers.Item { return drivers.Item{Space: "coil", Address: a} }
	register := func(a uint32) drivers.Item { return drivers.Item{Space: "holding", Address: a} }
	pulse := at(0x0200)
	s := spec(
		drivers.PointSpec{ID: "d/relay", Kind: point.Bool, Write: &drivers.Output{At: at(1)}},
		drivers.PointSpec{ID: "d/siren", Kind: point.Bool, Write: &drivers.Output{At: at(0), PulseAt: &pulse, PulseFor: 700 * time.Millisecond}},
		drivers.PointSpec{ID: "d/nc", Kind: point.Bool, Invert: true, Write: &drivers.Output{At: at(2)}},
		drivers.PointSpec{ID: "d/lamp", Kind: point.Bool, Write: &drivers.Output{At: register(0), On: code16(1), Off: code16(0)}},
		drivers.PointSpec{ID: "d/delay", Kind: point.Bool, Write: &drivers.Output{At: register(0x1002), On: code16(0x0605), Off: code16(0x0200), Multiple: true}},
		drivers.PointSpec{ID: "d/many", Kind: point.Bool, Write: &drivers.Output{At: at(0x13), Multiple: true}},
		drivers.PointSpec{ID: "d/raw", Kind: point.Bool, Write: &drivers.Output{At: at(3), On: code16(0x0007)}},
		drivers.PointSpec{ID: "d/ncreg", Kind: point.Bool, Invert: true, Write: &drivers.Output{At: register(1), On: code16(1), Off: code16(0)}},
		holding("input", 0),
	)
	tests := []struct {
		p    point.ID
		v    point.Value
		want string
		err  error
	}{
		{"d/relay", point.Truth(true), "01 05 00 01 FF 00 DD FA", nil},
		{"d/relay", point.Truth(false), "01 05 00 01 00 00 9C 0A", nil},
		{"d/siren", point.Truth(true), "01 05 02 00 00 07 8D B0", nil}, // as in Waveshare's protocol
		{"d/siren", point.Truth(false), "01 05 00 00 00 00 CD CA", nil},
		{"d/nc", point.Truth(true), "01 05 00 02 00 00 6C 0A", nil},
		{"d/lamp", point.Truth(true), "01 06 00 00 00 01 48 0A", nil}, // as JD01AX07's manual says
		{"d/lamp", point.Truth(false), "01 06 00 00 00 00 89 CA", nil},
		{"d/delay", point.Truth(true), sealed(t, "01 10 1002 0001 02 0605"), nil},
		{"d/delay", point.Truth(false), sealed(t, "01 10 1002 0001 02 0200"), nil},
		{"d/many", point.Truth(true), sealed(t, "01 0F 0013 0001 01 01"), nil},
		{"d/many", point.Truth(false), sealed(t, "01 0F 0013 0001 01 00"), nil},
		{"d/raw", point.Truth(true), sealed(t, "01 05 0003 0007"), nil},
		{"d/raw", point.Truth(false), sealed(t, "01 05 0003 0000"), nil},
		{"d/ncreg", point.Truth(true), sealed(t, "01 06 0001 0000"), nil},
		{"d/input", point.Truth(true), "", drivers.ErrNotWritable},
		{"d/other", point.Truth(true), "", drivers.ErrNotWritable},
		{"d/relay", point.Float(1), "", drivers.ErrNotWritable},
	}
	for _, tt := range tests {
		t.Run(string(tt.p)+"="+tt.v.String(), func(t *testing.T) {
			link := &drivertest.Script{Record: true, Otherwise: confirm}
			d := build(t, s, link)
			if err := d.Write(t.Context(), tt.p, tt.v); !errors.Is(err, tt.err) {
				t.Fatalf("err %v, want %v", err, tt.err)
			}
			if tt.want == "" {
				if len(link.Sent) > 0 {
					t.Errorf("sent % x", link.Sent)
				}
				return
			}
			if len(link.Sent) != 1 || !slices.Equal(link.Sent[0], unhex(t, tt.want)) {
				t.Errorf("sent % x, want %s", link.Sent, tt.want)
			}
		})
	}
	if d := build(t, s, &drivertest.Script{}); len(d.Jobs()) != 1 {
		t.Errorf("%d jobs, want only the input polled", len(d.Jobs()))
	}
}

func sealed(t testing.TB, s string) string { return hex.EncodeToString(rtu(t, s)) }

// A line that plays back what is sent on it says nothing of the device.
func TestAWriteOfManyIsNotConfirmedByItself(t *testing.T) {
	for _, at := range []drivers.Item{{Space: "coil"}, {Space: "holding"}} {
		s := spec(drivers.PointSpec{ID: "d/o", Kind: point.Bool, Write: &drivers.Output{At: at, Multiple: true, On: code16(1), Off: code16(0)}})
		link := &drivertest.Script{Otherwise: func(request []byte) []byte { return request }}
		if err := build(t, s, link).Write(t.Context(), "d/o", point.Truth(true)); !errors.Is(err, drivers.ErrNoReply) {
			t.Errorf("%s: %v, want ErrNoReply", at.Space, err)
		}
	}
}

func TestAWriteOfManyOverTCP(t *testing.T) {
	s := spec(drivers.PointSpec{ID: "d/o", Kind: point.Bool,
		Write: &drivers.Output{At: drivers.Item{Space: "holding", Address: 7}, Multiple: true, On: code16(5), Off: code16(0)}})
	s.Framing = drivers.TCP
	link := &drivertest.Script{Framing: drivers.TCP, Steps: []drivertest.Step{
		{Request: mbap(unhex(t, "01 10 0007 0001 02 0005")), Reply: mbap(unhex(t, "01 10 0007 0001"))},
		{Request: mbap(unhex(t, "01 10 0007 0001 02 0000")), Reply: mbap(unhex(t, "01 90 04"))},
	}}
	d := build(t, s, link)
	if err := d.Write(t.Context(), "d/o", point.Truth(true)); err != nil {
		t.Error(err)
	}
	if err := d.Write(t.Context(), "d/o", point.Truth(false)); !errors.Is(err, drivers.ErrRefused) {
		t.Errorf("%v, want ErrRefused", err)
	}
}

func TestAWriteIsConfirmedByItsEchoOnly(t *testing.T) {
	s := spec(drivers.PointSpec{ID: "d/relay", Kind: point.Bool, Write: &drivers.Output{At: drivers.Item{Space: "coil", Address: 1}}})
	for name, reply := range map[string]string{
		"another coil":  "01 05 00 02 FF 00",
		"another value": "01 05 00 01 00 00",
		"silence":       "",
	} {
		link := &drivertest.Script{Otherwise: func([]byte) []byte {
			if reply == "" {
				return nil
			}
			return rtu(t, reply)
		}}
		if err := build(t, s, link).Write(t.Context(), "d/relay", point.Truth(true)); !errors.Is(err, drivers.ErrNoReply) {
			t.Errorf("%s: %v, want ErrNoReply", name, err)
		}
	}
	for code, want := range map[modbus.Code]error{modbus.IllegalDataAddress: drivers.ErrRefused, modbus.DeviceBusy: drivers.ErrBusy} {
		link := &drivertest.Script{Otherwise: func(request []byte) []byte {
			return drivertest.Exception(nil, request, code)
		}}
		if err := build(t, s, link).Write(t.Context(), "d/relay", point.Truth(true)); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", code, err, want)
		}
	}
}

func TestADeviceThatIsOnlyWrittenToCanBeProbed(t *testing.T) {
	s := spec(drivers.PointSpec{ID: "d/relay", Kind: point.Bool, Write: &drivers.Output{At: drivers.Item{Space: "coil", Address: 1}}})
	link := &drivertest.Script{Steps: []drivertest.Step{{Request: rtu(t, "01 01 0001 0001"), Reply: rtu(t, "01 01 01 00")}}}
	if err := build(t, s, link).Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestARegisterThatIsOnlyWrittenToIsProbedByReadingIt(t *testing.T) {
	s := spec(drivers.PointSpec{ID: "d/o", Kind: point.Bool, Write: &drivers.Output{At: drivers.Item{Space: "holding", Address: 4, UnitPlus: 2}, On: code16(1), Off: code16(0)}})
	link := &drivertest.Script{Steps: []drivertest.Step{{Request: rtu(t, "03 03 0004 0001"), Reply: rtu(t, "03 03 02 0000")}}}
	if err := build(t, s, link).Probe(t.Context()); err != nil {
		t.Error(err)
	}
}
