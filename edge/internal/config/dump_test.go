package config

import (
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/all"
	"gatehouse/drivers/drivertest"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

const dumpDir = "../../../testdata/profiles"

// dump is what a device of one model holds, and what it means.
type dump struct {
	Model string     `yaml:"model"`
	Cases []dumpCase `yaml:"cases"`
}

type dumpCase struct {
	Name      string                          `yaml:"name"`
	Variant   string                          `yaml:"variant"`
	Address   int                             `yaml:"address"`
	Overrides map[string]DevicePoint          `yaml:"overrides"`
	Image     map[uint64]map[string]registers `yaml:"image"`    // by address and space
	Readings  map[string]string               `yaml:"readings"` // "value quality" of every point
}

// registers is runs of values by the address of the first.
type registers map[uint64][]uint16

func loadDump(t *testing.T, model string) dump {
	t.Helper()
	file := filepath.Join(dumpDir, model+".yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: each profile needs a register dump", err)
	}
	var d dump
	if err := strict.Decode(file, data, &d).Err(); err != nil {
		t.Fatal(err)
	}
	if d.Model != model || len(d.Cases) == 0 {
		t.Fatalf("%s is of %q, with %d cases", file, d.Model, len(d.Cases))
	}
	return d
}

// slave answers RTU requests from a register image. Like a real device it
// refuses a read that touches an address it does not have.
func (c dumpCase) slave() *drivertest.Script {
	spaces := map[byte]string{
		modbus.ReadCoils: "coil", modbus.ReadDiscreteInputs: "discrete",
		modbus.ReadHoldingRegisters: "holding", modbus.ReadInputRegisters: "input",
	}
	cells := make(map[[3]uint64]uint16) // unit, function, address
	for unit, image := range c.Image {
		for function, space := range spaces {
			for first, run := range image[space] {
				for i, v := range run {
					cells[[3]uint64{unit, uint64(function), first + uint64(i)}] = v
				}
			}
		}
	}
	at := func(unit, function byte, address uint16) (uint16, bool) {
		v, ok := cells[[3]uint64{uint64(unit), uint64(function), uint64(address)}]
		return v, ok
	}
	return &drivertest.Script{Otherwise: func(request []byte) []byte {
		address, count := binary.BigEndian.Uint16(request[2:]), binary.BigEndian.Uint16(request[4:])
		for i := range count {
			if _, ok := at(request[0], request[1], address+i); !ok {
				return drivertest.Exception(nil, request, modbus.IllegalDataAddress)
			}
		}
		return drivertest.ReplyRTU(nil, request, func(unit, function byte, address uint16) uint16 {
			v, _ := at(unit, function, address)
			return v
		})
	}}
}

// read polls the case's device once through the real driver.
func (c dumpCase) read(t *testing.T, p profiles.Profile) map[string]string {
	t.Helper()
	p, err := p.With(c.Variant)
	if err != nil {
		t.Fatal(err)
	}
	overrides := make(map[string]Override)
	for name, o := range c.Overrides {
		overrides[name] = Override{Role: o.Role, Contact: o.Contact, Pulse: o.Pulse}
	}
	spec := Compile(p, Target{Device: "d", Address: c.Address, Every: time.Second, Framing: drivers.RTU}, overrides)
	driver, err := all.Factories[p.Driver](spec, drivers.Deps{Link: c.slave()})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close()
	got := make(map[string]string)
	for job := range driver.Jobs() {
		err := driver.Do(t.Context(), job, func(r point.Reading) {
			got[r.Point.Name()] = r.Value.String() + " " + r.Quality.String()
		})
		if err != nil && !errors.Is(err, drivers.ErrRefused) {
			t.Fatal(err)
		}
	}
	return got
}

func TestEveryProfileDecodesItsRegisterDump(t *testing.T) {
	for _, name := range profiles.Names() {
		p, err := profiles.Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, c := range loadDump(t, name).Cases {
			t.Run(name+"/"+c.Name, func(t *testing.T) {
				got := c.read(t, p)
				if want := slices.Sorted(slices.Values(p.PointNames())); !slices.Equal(slices.Sorted(maps.Keys(c.Readings)), want) {
					t.Errorf("the dump expects readings of %v, the profile has %v", slices.Sorted(maps.Keys(c.Readings)), want)
				}
				for point, want := range c.Readings {
					if got[point] != want {
						t.Errorf("%s: read %q, want %q", point, got[point], want)
					}
				}
			})
		}
	}
}

// A dump is worth something only if a wrong profile cannot pass it. Each
// mistake that an author of a profile makes is made in each point.
func TestEveryDumpTellsAWrongProfile(t *testing.T) {
	mistakes := map[string]func(p *profiles.Point) (applies bool){
		"scale": func(p *profiles.Point) bool { p.Scale *= 10; return p.Kind() == point.Number },
		"word order": func(p *profiles.Point) bool {
			p.Order = map[string]string{"HL": "LH", "LH": "HL"}[p.Order]
			return strings.HasSuffix(p.Type, "32")
		},
		"address":     func(p *profiles.Point) bool { p.Address++; return true },
		"sign":        func(p *profiles.Point) bool { p.Scale *= -1; return p.Kind() == point.Number },
		"bits":        func(p *profiles.Point) bool { had := p.Bits != 0; p.Bits = 0; return had },
		"decimals":    func(p *profiles.Point) bool { had := p.Decimals != nil; p.Decimals = nil; return had },
		"unit":        func(p *profiles.Point) bool { had := p.UnitFrom != nil; p.UnitFrom = nil; return had },
		"status":      func(p *profiles.Point) bool { had := p.StatusOf != ""; p.StatusOf = ""; return had },
		"invert":      func(p *profiles.Point) bool { p.Invert = !p.Invert; return p.Kind() == point.Bool },
		"sub-address": func(p *profiles.Point) bool { p.UnitPlus = (p.UnitPlus + 1) % 4; return p.UnitPlus > 0 },
	}
	for _, name := range profiles.Names() {
		p, err := profiles.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		cases := loadDump(t, name).Cases
		for i, right := range p.Points {
			for mistake, make := range mistakes {
				wrong := p
				wrong.Points = slices.Clone(p.Points)
				if !make(&wrong.Points[i]) {
					continue
				}
				if !slices.ContainsFunc(cases, func(c dumpCase) bool {
					return c.read(t, wrong)[right.Name] != c.Readings[right.Name]
				}) {
					t.Errorf("%s: no case tells a wrong %s of %s", name, mistake, right.Name)
				}
			}
		}
	}
}
