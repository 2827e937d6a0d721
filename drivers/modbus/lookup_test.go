package modbus

import (
	"testing"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/point"
)

func TestDecimalsAndUnitStandAnywhereInTheDevice(t *testing.T) {
	level := holding("level", 4) // a QDY30A, its unit and decimals on other ids and in other spaces
	level.Type = "s16"
	level.Decimals = &drivers.Lookup{At: drivers.Item{Space: "input", Address: 3, UnitPlus: 1}}
	level.UnitFrom = &drivers.Lookup{At: drivers.Item{Space: "discrete", Address: 9, UnitPlus: 2}, Map: map[uint64]float64{0: 1, 1: 0.01}}
	tests := []struct {
		name                string
		value, decimals, cm uint16
		want                string
		quality             point.Quality
	}{
		{"as it is", 1234, 0, 0, "1234", point.Good},
		{"one decimal", 1234, 1, 0, "123.4", point.Good},
		{"one decimal, in centimetres", 1234, 1, 1, "1.234", point.Good},
		{"below zero", 0xFF9C, 3, 1, "-0.001", point.Good},
		{"fifteen decimals", 1, 15, 0, "0.000000000000001", point.Good},
		{"more than a number has", 1234, 16, 0, "-", point.Fault},
		{"far more", 1234, 0xFFFF, 0, "-", point.Fault},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			link := &drivertest.Script{Record: true, Otherwise: func(request []byte) []byte {
				return drivertest.ReplyRTU(nil, request, func(unit, function byte, address uint16) uint16 {
					switch {
					case unit == 1 && function == 3 && address == 4:
						return tt.value
					case unit == 2 && function == 4 && address == 3:
						return tt.decimals
					case unit == 3 && function == 2 && address == 9:
						return tt.cm
					}
					t.Errorf("asked unit %d, function %d, address %d", unit, function, address)
					return 0
				})
			}}
			d := build(t, spec(level), link)
			var got []point.Reading
			if err := d.Do(t.Context(), 0, func(r point.Reading) { got = append(got, r) }); err != nil {
				t.Fatal(err)
			}
			if len(d.Jobs()) != 1 || len(link.Sent) != 3 {
				t.Errorf("%d jobs, %d requests; want one of three", len(d.Jobs()), len(link.Sent))
			}
			if len(got) != 1 || got[0].Value.String() != tt.want || got[0].Quality != tt.quality {
				t.Errorf("%+v, want %s (%v)", got, tt.want, tt.quality)
			}
		})
	}
}

func TestAUnitOfNothingIsAFault(t *testing.T) {
	p := holding("p", 0)
	p.UnitFrom = &drivers.Lookup{At: drivers.Item{Space: "holding", Address: 1}}
	for data, want := range map[string]point.Quality{"0005 0003": point.Good, "0005 0000": point.Fault} {
		if got := readOne(t, spec(p), unhex(t, data))["d/p"]; got.Quality != want {
			t.Errorf("%s: %+v, want %v", data, got, want)
		}
	}
}
