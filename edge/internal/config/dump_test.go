package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/all"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

const dumpDir = "../../../testdata/profiles"

// dump is what a device of one model says, and what it means. The format is
// described beside the files.
type dump struct {
	Model string     `yaml:"model"`
	Cases []dumpCase `yaml:"cases"`
}

type dumpCase struct {
	Name      string                          `yaml:"name"`
	Variant   string                          `yaml:"variant"`
	Address   int                             `yaml:"address"`
	Meter     string                          `yaml:"meter"`
	Overrides map[string]DevicePoint          `yaml:"overrides"`
	Image     map[uint64]map[string]registers `yaml:"image"`     // modbus: by address and space
	Exchanges []exchange                      `yaml:"exchanges"` // dlt645, lineframe
	Replies   map[uint64][]profiles.Hex       `yaml:"replies"`   // osdp: by command code
	Readings  map[string]string               `yaml:"readings"`  // "value quality" of every point
}

// registers is runs of values by the address of the first.
type registers map[uint64][]uint16

// exchange is a frame, and what asked for it.
type exchange struct {
	Request profiles.Hex `yaml:"request"`
	Reply   profiles.Hex `yaml:"reply"`
}

func loadDump(t *testing.T, model string) (dump, *strict.Doc) {
	t.Helper()
	file := filepath.Join(dumpDir, model+".yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: each profile needs a register dump", err)
	}
	var d dump
	doc := strict.Decode(file, data, &d)
	if err := doc.Err(); err != nil {
		t.Fatal(err)
	}
	if d.Model != model || len(d.Cases) == 0 {
		t.Fatalf("%s is of %q, with %d cases", file, d.Model, len(d.Cases))
	}
	return d, doc
}

// profile is the model as the case's site has it.
func (c dumpCase) profile(t *testing.T, p profiles.Profile, doc *strict.Doc) profiles.Profile {
	t.Helper()
	p, err := p.With(c.Variant)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range c.Overrides {
		if o.Register != nil {
			p = p.Place(doc, "cases", name, o.Role, *o.Register)
		}
	}
	if err := doc.Err(); err != nil {
		t.Fatal(err)
	}
	p.Points = slices.Clone(p.Points)
	return p
}

// read asks the case's device through the real driver. A door reader is asked
// often enough to get through its greeting and all it has to tell.
func (c dumpCase) read(t *testing.T, p profiles.Profile) (map[string]string, error) {
	t.Helper()
	factory := all.Factories[p.Driver]
	if factory == nil {
		t.Fatalf("no driver %q in drivers/all", p.Driver)
	}
	overrides := make(map[string]Override)
	for name, o := range c.Overrides {
		overrides[name] = Override{Role: o.Role, Contact: o.Contact, Pulse: o.Pulse}
	}
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	spec := Compile(p, Target{Device: "d", Address: c.Address, Meter: c.Meter, Every: time.Second, Framing: drivers.RTU, AllowClear: true}, overrides)
	driver, err := factory(spec, drivers.Deps{
		Link: c.link(p.Driver), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Card: func(credential []byte) string { return fmt.Sprintf("%X", credential) },
	})
	if err != nil {
		return nil, err
	}
	defer driver.Close()
	got := make(map[string]string)
	emit := func(r point.Reading) { got[r.Point.Name()] = r.Value.String() + " " + r.Quality.String() }
	if source, ok := driver.(drivers.Source); ok && p.Unasked() {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		err := source.Run(ctx, emit)
		if !errors.Is(err, errSaidAll) {
			return nil, fmt.Errorf("the device said all, and the driver %w", err)
		}
		return got, nil
	}
	rounds := 1
	if p.Driver == "osdp" {
		rounds = 20
	}
	for range rounds {
		now = now.Add(time.Second)
		for job := range driver.Jobs() {
			if err := driver.Do(t.Context(), job, emit); err != nil && !errors.Is(err, drivers.ErrRefused) {
				return nil, err
			}
		}
	}
	return got, nil
}

func TestEveryProfileDecodesItsDump(t *testing.T) {
	t.Parallel()
	for _, name := range profiles.Names() {
		t.Run(name, func(t *testing.T) {
			p, err := profiles.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			d, doc := loadDump(t, name)
			seen := make(map[string]bool)
			for _, c := range d.Cases {
				t.Run(c.Name, func(t *testing.T) { c.check(t, p, doc, seen) })
			}
			for _, pt := range p.Points {
				if !seen[pt.Name] && !told(pt, p.Driver) {
					t.Errorf("no case reads point %s", pt.Name)
				}
			}
		})
	}
}

// check holds what the driver reads against what the case says, and notes
// what was read.
func (c dumpCase) check(t *testing.T, p profiles.Profile, doc *strict.Doc, seen map[string]bool) {
	got, err := c.read(t, c.profile(t, p, doc))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		seen[name] = true
		if want := c.Readings[name]; got[name] != want {
			t.Errorf("%s: read %q, want %q", name, got[name], want)
		}
	}
	for name := range c.Readings {
		if got[name] == "" {
			t.Errorf("%s: not read", name)
		}
	}
	if p.Driver == "modbus" && len(got) != len(p.Points) {
		t.Errorf("read %d of %d points", len(got), len(p.Points))
	}
}

// told reports whether a point is only ever told, never read: an output of a
// door reader.
func told(p profiles.Point, driver string) bool { return driver == "osdp" && p.Write != nil }

// mistakes are those that an author of a profile makes; each says whether it
// can be made in a point.
var mistakes = map[string]func(p *profiles.Point) (applies bool){
	"scale": func(p *profiles.Point) bool { p.Scale *= 10; return p.Kind() == point.Number },
	"word order": func(p *profiles.Point) bool {
		p.Order = map[string]string{"HL": "LH", "LH": "HL"}[p.Order]
		return strings.HasSuffix(p.Type, "32") || strings.HasSuffix(p.Type, "64") || p.Space == "frame" && strings.HasSuffix(p.Type, "16")
	},
	"address": func(p *profiles.Point) bool {
		p.Address++
		// A door reader has one of these.
		return !slices.Contains([]string{"tamper", "power", "secure", "secure_lost"}, p.Space)
	},
	"sign":        func(p *profiles.Point) bool { p.Scale *= -1; return p.Kind() == point.Number },
	"bits":        func(p *profiles.Point) bool { had := p.Bits != 0; p.Bits = 0; return had },
	"decimals":    func(p *profiles.Point) bool { had := p.Decimals != nil; p.Decimals = nil; return had },
	"unit":        func(p *profiles.Point) bool { had := p.UnitFrom != nil; p.UnitFrom = nil; return had },
	"status":      func(p *profiles.Point) bool { had := p.StatusOf != ""; p.StatusOf = ""; return had },
	"invert":      func(p *profiles.Point) bool { p.Invert = !p.Invert; return p.Kind() == point.Bool },
	"sub-address": func(p *profiles.Point) bool { p.UnitPlus = (p.UnitPlus + 1) % 4; return p.UnitPlus > 0 },
	"swap": func(p *profiles.Point) bool {
		p.Swap = !p.Swap
		return (p.Space == "holding" || p.Space == "input") && p.Bits == 0
	},
	"active code": func(p *profiles.Point) bool {
		had := p.Active != nil
		if had {
			next := *p.Active + 1
			p.Active = &next
		}
		return had
	},
	"inactive code": func(p *profiles.Point) bool { had := p.Inactive != nil; p.Inactive = nil; return had },
	"sentinel":      func(p *profiles.Point) bool { had := len(p.Sentinels) > 0; p.Sentinels = nil; return had },
	"size": func(p *profiles.Point) bool {
		had := p.Size > 0
		if p.Size--; p.Size == 0 {
			p.Size = 2
		}
		return had
	},
}

// A dump is worth something only if a wrong profile cannot pass it. Each
// mistake is made in each point; a driver that refuses it tells it too.
func TestEveryDumpTellsAWrongProfile(t *testing.T) {
	t.Parallel()
	for _, name := range profiles.Names() {
		t.Run(name, func(t *testing.T) {
			p, err := profiles.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			d, doc := loadDump(t, name)
			for i, right := range p.Points {
				if told(right, p.Driver) {
					continue
				}
				for mistake, make := range mistakes {
					if applies, found := d.tells(t, p, doc, i, make); applies && !found {
						t.Errorf("no case tells a wrong %s of %s", mistake, right.Name)
					}
				}
			}
		})
	}
}

// tells reports whether a mistake can be made in a point, and whether a case
// shows it.
func (d dump) tells(t *testing.T, p profiles.Profile, doc *strict.Doc, i int, make func(*profiles.Point) bool) (applies, found bool) {
	for _, c := range d.Cases {
		wrong := c.profile(t, p, doc)
		if !make(&wrong.Points[i]) {
			continue
		}
		applies = true
		got, err := c.read(t, wrong)
		if name := p.Points[i].Name; err != nil || got[name] != c.Readings[name] {
			return true, true
		}
	}
	return applies, false
}
