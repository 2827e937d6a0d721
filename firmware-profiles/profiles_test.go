package profiles

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

func TestEveryShippedProfileLoads(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d profiles, %v", len(files), err)
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, ".yaml")
	}
	if got := Names(); !slices.Equal(got, files) {
		t.Errorf("Names() = %q, want %q", got, files)
	}
	for _, name := range Names() {
		p, err := Load(name)
		if err != nil {
			t.Errorf("%s:\n%v", name, err)
			continue
		}
		for variant := range p.Variants {
			if _, err := p.With(variant); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestLoadOfUnknownProfileNamesTheNearest(t *testing.T) {
	_, err := Load("4mz-hh5")
	if err == nil || !strings.Contains(err.Error(), `did you mean "4mz-hh4"?`) {
		t.Errorf("got %v", err)
	}
}

func TestRowOfPointsIsWrittenOut(t *testing.T) {
	p, err := Load("waveshare-relay-d")
	if err != nil {
		t.Fatal(err)
	}
	relay, ok := p.Point("relay8")
	if !ok || relay.Address != 7 || relay.Write.Address != 7 || *relay.Write.PulseAddress != 0x0207 {
		t.Errorf("relay8: %+v, write %+v", relay, relay.Write)
	}
	if relay.Write.PulseMax != 0x7FFF*100*time.Millisecond {
		t.Errorf("longest pulse %v", relay.Write.PulseMax)
	}
	if di, _ := p.Point("di3"); di.Address != 2 || di.Type != "bit" || di.Names.ZH != "输入3" || di.Write != nil {
		t.Errorf("di3: %+v", di)
	}
	if n := len(p.Points); n != 16 {
		t.Errorf("%d points, want 16", n)
	}
}

func TestVariantLeavesTheModelAsItIs(t *testing.T) {
	p, err := Load("4mz-hh4")
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.With("h2s-ppm")
	if err != nil {
		t.Fatal(err)
	}
	before, _ := p.Point("h2s")
	after, _ := v.Point("h2s")
	if before.Unit != point.MgPerM3 || after.Unit != point.PPM || after.UnitFrom.Map[4] != 10000 || after.UnitFrom.Space != "holding" {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if _, err := p.With("h2s"); err == nil {
		t.Error("a variant that does not exist was accepted")
	}
}

const patched = `model: patched
maker: none
names: {zh: 变体, en: Patched}
source: bench reading
grade: B
driver: modbus
link: {baud: 9600, parity: none, stop: 1, address: 1}
timing: {poll: 1s}
points:
  - {name: a, names: {zh: 甲, en: A}, role: smoke, space: holding, address: 3, active: 1, inactive: 0}
  - {name: b, names: {zh: 乙, en: B}, role: temperature, unit: Cel, space: holding, address: 4}
variants:
  old:
    names: {zh: 旧版, en: Old}
    points:
      a: {address: 9, active: 2, inactive: 1}
      b: {space: input, type: f32, order: LH, scale: 0.1, min: -40, max: 85, max_step: 5}
`

func TestVariantMovesAPoint(t *testing.T) {
	p, err := Parse("patched.yaml", []byte(patched))
	if err != nil {
		t.Fatal(err)
	}
	old, err := p.With("old")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := old.Point("a")
	if a.Address != 9 || *a.Active != 2 || *a.Inactive != 1 || a.Space != "holding" || a.Type != "u16" {
		t.Errorf("a: %+v", a)
	}
	b, _ := old.Point("b")
	if b.Space != "input" || b.Address != 4 || b.Type != "f32" || b.Order != "LH" || b.Scale != 0.1 || *b.Min != -40 || *b.Max != 85 || *b.MaxStep != 5 {
		t.Errorf("b: %+v", b)
	}
	if b, _ := p.Point("b"); b.Space != "holding" || b.Type != "u16" || b.Min != nil {
		t.Errorf("the model's b became %+v", b)
	}
}

// alarmsAt is the way from clean air, or none, to the level at which the standard
// rules (configs/rules/standard.yaml) raise an alarm of a role, by its unit.
var alarmsAt = map[point.Role]map[point.Unit]float64{
	"gas":              {point.PercentLEL: 25},
	"septic_methane":   {point.PercentLEL: 25},
	"co":               {point.PPM: 160},
	"h2s":              {point.MgPerM3: 10, point.PPM: 10 / 1.4},
	"oxygen":           {point.PercentVol: 20.9 - 19.5},
	"residual_current": {point.MilliAmpere: 300},
}

// One damaged frame that its check value cannot tell must raise no alarm.
func TestWhatWouldRaiseAnAlarmIsReadTwice(t *testing.T) {
	checked := 0
	for _, name := range Names() {
		model, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, variant := range append(slices.Collect(maps.Keys(model.Variants)), "") {
			p, err := model.With(variant)
			if err != nil {
				t.Fatal(err)
			}
			for _, pt := range p.Points {
				if pt.Kind() != point.Number || !point.Roles[pt.Role].Safety || pt.Open() || p.Unasked() {
					continue
				}
				checked++
				if level := alarmsAt[pt.Role][pt.Unit]; pt.MaxStep == nil || *pt.MaxStep >= level {
					t.Errorf("%s %s: point %s: max_step %v, want less than %v %s", name, variant, pt.Name, deref(pt.MaxStep), level, pt.Unit)
				}
			}
		}
	}
	if checked == 0 {
		t.Error("no life-safety number is shipped: this proved nothing")
	}
}

func TestDeviceThatTalksUnaskedIsAsFreshAsItMayBeSilent(t *testing.T) {
	text := `model: cards
maker: none
names: {zh: 读卡器, en: Reader}
source: bench reading
grade: B
driver: lineframe
link: {baud: 9600, parity: none, stop: 1}
timing: {offline: 9m}
frame: {start: 02, end: 0D 0A, max: 32}
points:
  - {name: n, names: {zh: 甲, en: A}, role: measurement, space: frame, address: 1, type: decimal, size: 3, count: 2}
`
	p, err := Parse("cards.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !p.Unasked() || p.Timing.Poll != 3*time.Minute || !slices.Equal(p.Frame.End, Hex{0x0D, 0x0A}) {
		t.Errorf("%+v, frame %+v", p.Timing, p.Frame)
	}
	if n2, _ := p.Point("n2"); n2.Address != 4 {
		t.Errorf("the second number of three digits stands at %d", n2.Address)
	}
	if _, _, has := p.Addresses(); has {
		t.Error("it has an address")
	}
}

// Each wrong profile beside its list of problems: all of them, each where it
// stands. GOLDEN=update rewrites the lists; read the difference.
func TestWrongProfilePrintsEveryProblemWithItsPosition(t *testing.T) {
	files, err := filepath.Glob("../testdata/profiles/wrong/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d wrong profiles, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), data)
			var problems strict.Errors
			if !errors.As(err, &problems) {
				t.Fatalf("got %v", err)
			}
			list := strings.TrimSuffix(file, ".yaml") + ".txt"
			if os.Getenv("GOLDEN") == "update" {
				if err := os.WriteFile(list, []byte(problems.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(list)
			if err != nil {
				t.Fatal(err)
			}
			if got := problems.Error() + "\n"; got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestLoadFileReadsAProfileFromDisk(t *testing.T) {
	data, err := shipped.ReadFile("eastron-sdm120.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "eastron-sdm120.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := LoadFile(file); err != nil || len(p.Points) != 14 {
		t.Errorf("%d points, %v", len(p.Points), err)
	}
	if _, err := LoadFile(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// FuzzParse: no bytes make Parse panic, and what it accepts keeps its promise
// that every role, unit and name is a published or valid one.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		data, err := shipped.ReadFile(name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	wrong, err := filepath.Glob("../testdata/profiles/wrong/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range wrong {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("points: [{name: a, count: 3, space: coil, write: {pulse_address: 65535}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("fuzz.yaml", data)
		if err != nil {
			return
		}
		for _, pt := range p.Points {
			info, known := point.Roles[pt.Role]
			if !known || !point.KnownUnit(pt.Unit) || !point.ValidName(pt.Name) || pt.Kind() != info.Kind {
				t.Errorf("accepted %+v", pt)
			}
		}
	})
}
