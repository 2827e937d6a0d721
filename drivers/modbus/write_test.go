package modbus

import (
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
	pulse := at(0x0200)
	s := spec(
		drivers.PointSpec{ID: "d/relay", Kind: point.Bool, Write: &drivers.Output{At: at(1)}},
		drivers.PointSpec{ID: "d/siren", Kind: point.Bool, Write: &drivers.Output{At: at(0), PulseAt: &pulse, PulseFor: 700 * time.Millisecond}},
		drivers.PointSpec{ID: "d/nc", Kind: point.Bool, Invert: true, Write: &drivers.Output{At: at(2)}},
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
		{"d/input", point.Truth(true), "", drivers.ErrNotWritable},
		{"d/other", point.Truth(true), "", drivers.ErrNotWritable},
		{"d/relay", point.Float(1), "", drivers.ErrNotWritable},
	}
	for _, tt := range tests {
		t.Run(string(tt.p)+"="+tt.v.String(), func(t *testing.T) {
			link := &drivertest.Script{Record: true, Otherwise: func(request []byte) []byte { return request }}
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
