package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const fixtures = "../../testdata/sim"

func load(t testing.TB, file string) *Scenario {
	t.Helper()
	sc, err := Load(filepath.Join(fixtures, file))
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func TestEveryBuiltInScenarioLoads(t *testing.T) {
	if len(Names()) == 0 {
		t.Fatal("no built-in scenario")
	}
	for _, name := range Names() {
		if _, err := Load(name); err != nil {
			t.Error(err)
		}
	}
}

func TestAWrongScenarioNamesEveryErrorWithItsPosition(t *testing.T) {
	for file, want := range map[string][]string{
		"wrong.yaml": {
			"wrong.yaml:3:5: give one of tcp: host:port, pty: path and dial: host:port",
			`wrong.yaml:4:12: name "plant" is taken`,
			"wrong.yaml:6:40: discrete 0: want 0 or 1, not 2",
			`wrong.yaml:7:16: listener "west": no such listener`,
			"wrong.yaml:7:26: id 250: want 1 to 247",
			`wrong.yaml:9:21: unit "plant/8": no such unit`,
			"wrong.yaml:10:35: discrete 5: the unit has no such address",
			"wrong.yaml:11:5: step ends at 30s, not before the period of 30s",
		},
		"wrong-lines.yaml": {
			`wrong-lines.yaml:2:36: framing "tcp": want rtu, or tcp on a TCP address`,
			"wrong-lines.yaml:3:47: server: want chop, pause and latency not below 0",
			"wrong-lines.yaml:3:47: server: register is for a listener with dial",
			"wrong-lines.yaml:6:45: server: Modbus TCP needs none",
			"wrong-lines.yaml:8:39: breaker: holding 16, its state, does not exist",
			"wrong-lines.yaml:10:5: address 127: want 0 to 126",
			"wrong-lines.yaml:10:5: key of 1 bytes: want 16",
			"wrong-lines.yaml:11:5: key: want 32 hexadecimal digits",
			`wrong-lines.yaml:12:16: listener "plant": the line carries Modbus units`,
			`wrong-lines.yaml:14:5: address "12": want 12 digits`,
			`wrong-lines.yaml:14:5: a meter has no "colour": want one of apparent,`,
			"wrong-lines.yaml:18:5: a gas module has no address",
			`wrong-lines.yaml:20:5: values: a gas module has no "radon"`,
			"wrong-lines.yaml:21:5: card and keys are for readers",
			`wrong-lines.yaml:22:5: values: the meter has no "power"`,
			"wrong-lines.yaml:23:47: for 1s: want a time above 0, beside set, values or fault",
			"wrong-lines.yaml:23:5: text is for text readers",
			"wrong-lines.yaml:24:5: card: number 70000 is above 65535",
			"wrong-lines.yaml:25:5: fault: want at least one of",
		},
		"unknown-key.yaml": {`unknown-key.yaml:4:30: unknown field "discreet"`},
		"range-value.yaml": {`range-value.yaml:8:12: value "70000": want a number of one register`},
		"overlap.yaml":     {"overlap.yaml:8:7: address 1 is given twice"},
	} {
		_, err := Load(filepath.Join(fixtures, file))
		if err == nil {
			t.Errorf("%s: loaded", file)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(want) {
			t.Errorf("%s: %d errors, want %d:\n%v", file, len(lines), len(want), err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: no error %q in\n%v", file, w, err)
			}
		}
	}
}

func TestCellsFillRegistersHighWordFirst(t *testing.T) {
	units := newUnits(load(t, "short.yaml"))
	for _, c := range []struct {
		space Space
		addr  uint16
		want  []uint16
	}{
		{Holding, 16, []uint16{1, 4464}},
		{Holding, 18, []uint16{1, 0xFFFE}},
		{Input, 0, []uint16{0x4366, 0x8000}},
		{Discrete, 0, []uint16{1, 0, 0, 0, 0, 0, 0, 0}},
	} {
		got, err := units["plant/7"].read(c.space, c.addr, uint16(len(c.want)))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s %d: %v, %v; want %v", c.space, c.addr, got, err, c.want)
		}
	}
}

// script prints the changes until an offset.
func script(t *timeline, until time.Duration) string {
	var b strings.Builder
	for {
		c, ok := t.next()
		if !ok || c.At > until {
			return b.String()
		}
		fmt.Fprintf(&b, "%s %s %s\n", c.At, c.Unit, c)
	}
}

func TestASeedRepeatsTheScenario(t *testing.T) {
	for _, name := range Names() {
		sc, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		one := script(newTimeline(sc, 7, true), 5*time.Minute)
		if again := script(newTimeline(sc, 7, true), 5*time.Minute); again != one {
			t.Errorf("%s: the same seed made other changes", name)
		}
		if len(sc.Noise) > 0 && script(newTimeline(sc, 8, true), 5*time.Minute) == one {
			t.Errorf("%s: another seed made the same noise", name)
		}
	}
}

func TestStepsHappenInOrderAndReturn(t *testing.T) {
	sc := load(t, "short.yaml")
	sc.Noise = nil
	const want = `1s plant/7 discrete 0 = 0
2s meters/1 silent
3s plant/7 discrete 0 = 1
4s plant/7 holding 1 = 300
5s meters/1 answers again
5s plant/7 holding 1 = 160
6s plant/7 holding 1 = 20
`
	if got := script(newTimeline(sc, 1, false), time.Hour); got != want {
		t.Errorf("changes:\n%swant:\n%s", got, want)
	}
	sc.Period = 10 * time.Second
	if got := strings.Count(script(newTimeline(sc, 1, true), 29*time.Second), "silent"); got != 3 {
		t.Errorf("%d rounds of a 10 s period in 29 s, want 3", got)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(fixtures + "/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 4096 {
			return
		}
		sc, err := parse("fuzz", "fuzz.yaml", src)
		if err != nil {
			return
		}
		// What loads can be played: every change fits the tables.
		units := newUnits(sc)
		devices := make(map[string]device)
		for name, u := range units {
			devices[name] = u
		}
		for _, p := range sc.others(func(at string, err error) { t.Fatal(at, err) }) {
			devices[p.name] = p.device
		}
		tl := newTimeline(sc, 1, false)
		for range 100 {
			c, ok := tl.next()
			if !ok {
				break
			}
			for _, a := range c.Set {
				if _, err := units[c.Unit].read(a.Space, a.Address, 1); err != nil {
					t.Fatalf("change %s of %s: %v", c, c.Unit, err)
				}
			}
			apply(devices[c.Unit], c)
		}
	})
}
