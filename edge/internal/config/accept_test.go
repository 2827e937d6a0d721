package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/all"
	"gatehouse/drivers/drivertest"
	profiles "gatehouse/firmware-profiles"
)

// build makes the driver of a device, as the gateway does when it starts.
func build(driver string, spec drivers.Spec) error {
	_, err := all.Factories[driver](spec, drivers.Deps{
		Link: &drivertest.Script{}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Card: func([]byte) string { return "" },
	})
	return err
}

// What mutation puts for a value, and adds to a point.
var (
	mutable = regexp.MustCompile(`(: ?|\[|, )(-?(?:0x[0-9A-Fa-f]+|[0-9][0-9.]*)|u16|s16|u32|f32|bcd|sbcd|hex|decimal|holding|input|coil|discrete|HL|LH|frame)([,}\]\n ])`)

	values = []string{"0", "1", "-1", "3", "0.5", "255", "65535", "65536", "0xFFFFFFFF", "18446744073709551615", "1e308", ".inf", ".nan",
		"s16", "s32", "u32", "u64", "f32", "f64", "bit", "bcd", "holding", "input", "coil", "LH", "text", "u8", "s8", "hex"}

	additions = []string{", sentinels: [0x1FFFF]", ", max_step: 1", ", bits: 0x8000", ", active: 1", ", active: 70000, inactive: 0", ", active: 1, inactive: 2",
		", min: 5, max: 1e300", ", unit_from: {address: 1, map: {0: 0}}", ", unit_from: {address: 1, map: {0: 2}}", ", decimals: {address: 65535, map: {0: 9}}",
		", decimals: {space: holding, address: 3, map: {0: 1}}", ", offset: 1e308", ", scale: 1e308", ", scale: 0", ", scale: -1", ", swap: true", ", order: LH", ", unit_plus: 0",
		", size: 3", ", count: 4", ", invert: true", ", write: {address: 65535}", ", write: {address: 65533, on: 1, off: 0, multiple: true}",
		", write: {address: 3, on: 7, off: 0, multiple: true}", ", write: {address: 3, pulse_address: 4, pulse_max: 9h}",
		", sentinels: [18446744073709551615]", ", min: -1e308", ", max: .inf"}
)

// mutants are a profile with one slip each.
func mutants(text string) []string {
	list := []string{text}
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "  - {name:") {
			continue
		}
		for _, more := range additions {
			longer := strings.TrimSuffix(line, "}") + more + "}"
			list = append(list, strings.Replace(text, line, longer, 1))
			if strings.Contains(more, "write") {
				output := strings.NewReplacer("role: input", "role: relay", "role: voltage, unit: V", "role: relay").Replace(longer)
				list = append(list, strings.Replace(text, line, output, 1))
			}
		}
	}
	for _, at := range mutable.FindAllStringSubmatchIndex(text, -1) {
		for _, value := range values {
			list = append(list, text[:at[4]]+value+text[at[5]:])
		}
	}
	return list
}

// Whatever a profile may say, its driver takes: a config that loads is one that
// the gateway starts with. Of the many slips each run makes a part; MUTATE=all
// makes them all.
func TestWhatAProfileMayItsDriverTakes(t *testing.T) {
	t.Parallel()
	stride, taken := strideOf(17), 0
	for _, name := range profiles.Names() {
		file := filepath.Join("../../../firmware-profiles", name+".yaml")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range mutants(string(data)) {
			if i%stride == 0 {
				taken += buildEach(t, filepath.Base(file), string(data), text)
			}
		}
	}
	if taken < 300 {
		t.Errorf("only %d profiles with a slip were accepted: the test shows little", taken)
	}
}

// strideOf is which part of the slips a run makes: each that many.
func strideOf(usual int) int {
	if os.Getenv("MUTATE") == "all" {
		return 1
	}
	return usual
}

// buildEach builds every variant of a profile that is accepted, and counts them.
func buildEach(t *testing.T, file, right, text string) (built int) {
	p, err := profiles.Parse(file, []byte(text))
	if err != nil {
		return 0
	}
	variants := []string{""}
	for v := range p.Variants {
		variants = append(variants, v)
	}
	for _, v := range variants {
		of, err := p.With(v)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(of.Points, profiles.Point.Open) {
			continue
		}
		first, _, _ := p.Addresses()
		target := Target{Device: "d", Address: max(first, 1), Meter: "000000000001", Every: p.Timing.Poll, Framing: drivers.RTU, AllowClear: true}
		if err := build(p.Driver, Compile(of, target, nil)); err != nil {
			t.Errorf("%s, variant %q, with %s: %v", file, v, changed(right, text), err)
		}
		built++
	}
	return built
}

// changed is the line in which two texts differ.
func changed(right, wrong string) string {
	lines := strings.Split(right, "\n")
	for i, line := range strings.Split(wrong, "\n") {
		if i < len(lines) && line != lines[i] {
			return line
		}
	}
	return "nothing changed"
}

// The same of what an installer may say of a register.
func TestWhatARegisterMayItsDriverTakes(t *testing.T) {
	t.Parallel()
	const site = `gateway: {id: gw-1, division: "530102001003"}
buses: [{id: b, link: "tcp://10.0.0.8:4001", framing: rtu}]
devices: [{id: d, place: p, bus: b, address: 3, profile: %s, confirmed: {by: a, on: 2026-11-01, source: s}, points: {%s}}]
`
	points := map[string]string{
		"register-gas":       `gas: {register: {unit: "%LEL", PLACE}}`,
		"register-number":    `value: {role: pressure, register: {unit: MPa, PLACE}}`,
		"register-alarm":     `alarm: {register: {active: 2, inactive: 1, PLACE}}`,
		"register-bool":      `active: {role: water_leak, register: {PLACE}}`,
		"register-gas-state": `gas: {register: {unit: "%LEL", space: holding, address: 1}}, state: {register: {states: {0: {name: ok, class: normal}, 9: {name: high, class: alarm}}, PLACE}}`,
		"qdy30a":             `level: {register: {PLACE}}`,
		"jialan-breaker":     `current: {register: {PLACE}}`,
	}
	places := []string{"space: holding, address: 3", "space: input, address: 65535", "space: coil, address: 0", "space: discrete, address: 7"}
	stride, n, taken := strideOf(7), 0, 0
	for profile, point := range points {
		for _, place := range places {
			for _, kind := range []string{"", "u16", "s16", "u32", "s64", "f32", "f64", "bit"} {
				for _, more := range append(additions, "", ", sentinels: [0xFFFF8000]", ", bits: 0xFF00, sentinels: [0x100]", ", bits: 3") {
					if n++; n%stride != 0 {
						continue
					}
					more += map[bool]string{true: ", type: " + kind}[kind != ""]
					text := fmt.Sprintf(site, profile, strings.Replace(point, "PLACE", place+more, 1))
					plan, err := Parse("g.yaml", []byte(text), fakeFiles)
					if err != nil {
						continue
					}
					taken++
					if d := plan.Buses[0].Devices[0]; build(d.Driver, d.Spec) != nil {
						t.Errorf("%s, %s%s: %v", profile, place, more, build(d.Driver, d.Spec))
					}
				}
			}
		}
	}
	if taken < 40 {
		t.Errorf("only %d registers were accepted: the test shows little", taken)
	}
}
