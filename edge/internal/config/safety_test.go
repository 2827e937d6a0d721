package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/edge/internal/rule"
)

// A site of one device: what is written of its bus, its profile and the rest of it.
func oneDevice(bus, profile, rest string) string {
	return fmt.Sprintf(`gateway: {id: gw-1, division: "530102001003"}
buses: [{id: b, %s}]
devices: [{id: d, place: p, bus: b, profile: %s, %s}]
`, bus, profile, rest)
}

const (
	served = `link: "tcp://10.0.0.8:4001", framing: rtu`
	plcBus = `link: "tcp://10.0.0.9:502", framing: tcp`
	wired  = `link: "serial:/dev/serial/by-path/x?baud=9600"`
	signed = `address: 3, confirmed: {by: a, on: 2026-11-01, source: s}, `
)

// What could keep a safety point silent is refused, at the key where it stands.
func TestASlipThatWouldSilenceAnAlarmIsRefused(t *testing.T) {
	const register = "devices[0].points."
	for _, tt := range []struct{ name, bus, profile, rest, key string }{
		{"one code of smoke", served, "register-alarm", signed + `points: {alarm: {register: {space: holding, address: 0, active: 1}}}`, register + "alarm.register.active"},
		{"one code of what became a gas alarm", served, "register-bool", signed + `points: {active: {role: gas_alarm, register: {space: holding, address: 0, active: 1}}}`, register + "active.register.active"},
		{"codes and a sense", served, "smoke-485", `address: 3, points: {smoke: {contact: nc}}`, register + "smoke.contact"},
		{"scale of zero", served, "register-gas", signed + `points: {gas: {register: {space: holding, address: 0, unit: "%LEL", scale: 0}}}`, register + "gas.register.scale"},
		{"scale of zero, not of safety", served, "register-number", signed + `points: {value: {register: {space: holding, address: 0, unit: V, scale: 0}}}`, register + "value.register.scale"},
		{"scale below zero", served, "register-gas", signed + `points: {gas: {register: {space: holding, address: 0, unit: "%LEL", scale: -0.1}}}`, register + "gas.register.scale"},
		{"a sentinel that never occurs", served, "register-gas", signed + `points: {gas: {register: {space: holding, address: 0, type: s16, unit: "%LEL", sentinels: [0x1FFFF]}}}`, register + "gas.register.sentinels"},
		{"a state that never occurs", served, "register-gas-state", signed + `points: {gas: {register: {space: holding, address: 0, unit: "%LEL"}}, state: {register: {space: holding, address: 1, bits: 0x0F00, states: {0: {name: ok, class: normal}, 0x300: {name: high, class: alarm}}}}}`, register + "state.register.states"},
		{"a detector that is never well", served, "register-gas-state", signed + `points: {gas: {register: {space: holding, address: 0, unit: "%LEL"}}, state: {register: {space: holding, address: 1, states: {1: {name: high, class: alarm}}}}}`, register + "state.register.states"},
		{"a sleeper behind Modbus TCP", plcBus, "minyuan-ws61", `address: 3`, "devices[0].bus"},
		{"a unit id on a line", wired, "wellpro-wp8026", `address: 0`, "devices[0].address"},
		{"a unit id of two bytes", plcBus, "wellpro-wp8026", `address: 256`, "devices[0].address"},
		{"a reader asked too seldom", wired, "own/reader.yaml", `address: 0, poll: 5s`, "devices[0].poll"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("g.yaml", []byte(oneDevice(tt.bus, tt.profile, tt.rest)), fakeFiles)
			var problems Errors
			if !errors.As(err, &problems) || !slices.ContainsFunc(problems, func(p Problem) bool { return p.Key == tt.key && p.Hint != "" }) {
				t.Errorf("got %v, want a finding at %s", err, tt.key)
			}
		})
	}
}

// What may be right, and would silence an alarm if it is not, is warned of.
func TestADoubtfulSafetyPointIsWarnedOf(t *testing.T) {
	const gas = `points: {gas: {register: {space: holding, address: 0, unit: %s}}}`
	point := func(unit, more string) string { return signed + fmt.Sprintf(gas, unit+", "+more) }
	state := signed + `points: {gas: {register: {space: holding, address: 0, unit: "%LEL"}}, state: {register: {space: holding, address: 1, states: {0: {name: ok, class: normal}}}}}`
	for _, tt := range []struct{ name, profile, rest, key string }{
		{"above clean air", "register-gas", point(`"%LEL"`, "min: 50"), "devices[0].points.gas.register.min"},
		{"an alarm among the sentinels", "register-gas", point(`"%LEL"`, "sentinels: [0xFFFF, 25]"), "devices[0].points.gas.register.sentinels"},
		{"a high value among the sentinels", "register-gas", point(`"ppm"`, "type: s16, sentinels: [0x7FFF, 500]"), "devices[0].points.gas.register.sentinels"},
		{"marks at the ends of a type", "register-gas", point(`"ppm"`, "type: s16, sentinels: [0x7FFF, 0x8000, 0xFFFF]"), ""},
		{"a mark beyond all gas", "register-gas", point(`"%LEL"`, "sentinels: [0xFFFF], min: -5"), ""},
		{"a detector without an alarm", "register-gas-state", state, "devices[0].points.state.register.states"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := Parse("g.yaml", []byte(oneDevice(served, tt.profile, tt.rest)), fakeFiles)
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, w := range plan.Warnings {
				if strings.Contains(w.Key, "register") {
					keys = append(keys, w.Key)
				}
			}
			if want := strings.Fields(tt.key); !slices.Equal(keys, want) {
				t.Errorf("warned of %v, want %v", keys, want)
			}
		})
	}
}

func TestUnitIDsOfModbusTCP(t *testing.T) {
	for _, id := range []string{"0", "255"} {
		if _, err := Parse("g.yaml", []byte(oneDevice(plcBus, "wellpro-wp8026", "address: "+id)), fakeFiles); err != nil {
			t.Error(err)
		}
	}
}

// A profile knows how long its device takes, and not the way to it.
func TestAProfileDoesNotOverruleTheTimeoutOfItsBus(t *testing.T) {
	profile := strings.Replace(strings.Replace(siteProfile, ", states: %s", "", 1), "poll: 1s", "poll: 1s, timeout: 500ms", 1)
	listener := `link: "tcp-listen://:9000?register=5A01", framing: rtu`
	for _, tt := range []struct {
		name, bus, rest string
		want            time.Duration
	}{
		{"on a line", wired, "", 500 * time.Millisecond},
		{"the site's, if longer", wired + ", timeout: 3s", "", 3 * time.Second},
		{"not the site's, if shorter", wired + ", timeout: 100ms", "", 500 * time.Millisecond},
		{"behind a serial server", served, "", 1500 * time.Millisecond},
		{"behind one that dials in", listener, "", 1500 * time.Millisecond},
		{"behind one that the site knows", served + ", timeout: 4s", "", 4 * time.Second},
		{"the device's own before all", served + ", timeout: 4s", ", timeout: 200ms", 200 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := oneDevice(tt.bus, "own/leak.yaml", "address: 1"+tt.rest)
			plan, err := Parse("g.yaml", []byte(text), reading("own/leak.yaml", profile))
			if err != nil {
				t.Fatal(err)
			}
			if got := plan.Buses[0].Devices[0].Timing.Timeout; got != tt.want {
				t.Errorf("timeout %v, want %v", got, tt.want)
			}
		})
	}
}

// A register moves what stands beside the value, and can undo what the profile has.
func TestARegisterMovesAPointWhole(t *testing.T) {
	rest := signed + `points: {level: {register: {space: input, swap: false, offset: 0, bits: 0}}}`
	plan, err := Parse("g.yaml", []byte(oneDevice(served, "qdy30a", rest)), fakeFiles)
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Buses[0].Devices[0].Spec.Points[0]
	if p.At.Space != "input" || p.Decimals.At != (drivers.Item{Space: "input", Address: 3}) || p.Offset != 0 {
		t.Errorf("%+v, decimals %+v", p, p.Decimals)
	}

	own := strings.NewReplacer(", states: %s", ", bits: 3, swap: true", "timing:", "confirm: true\ntiming:", "role: water_leak", "role: measurement, unit: V, offset: 5").Replace(siteProfile)
	text := oneDevice(served, "own/leak.yaml", signed+`points: {leak: {register: {offset: 0, bits: 0, swap: false}}}`)
	plan, err = Parse("g.yaml", []byte(text), reading("own/leak.yaml", own))
	if err != nil {
		t.Fatal(err)
	}
	if p := plan.Buses[0].Devices[0].Spec.Points[0]; p.Offset != 0 || p.Bits != 0 || p.Swap {
		t.Errorf("%+v", p)
	}
}

// Each unit that a shipped safety role comes in has a rule, but for gas by volume,
// of which the role does not say enough.
func TestSafetyNumbersInOtherUnitsAreGuarded(t *testing.T) {
	for _, tt := range []struct {
		role, unit string
		guarded    bool
	}{
		{"h2s", "ppm", true}, {"h2s", "mg/m3", true}, {"co", "ppm", true}, {"co", "mg/m3", true},
		{"septic_methane", `"%vol"`, true}, {"gas", `"%LEL"`, true}, {"gas", "ppm", false},
	} {
		rest := signed + fmt.Sprintf(`points: {gas: {role: %s, register: {space: holding, address: 0, unit: %s}}}`, tt.role, tt.unit)
		plan, err := Parse("g.yaml", []byte(oneDevice(served, "register-gas", rest)), fakeFiles)
		if err != nil {
			t.Fatal(err)
		}
		warned := slices.ContainsFunc(plan.Warnings, func(p Problem) bool { return p.Key == "rules" })
		if warned == tt.guarded {
			t.Errorf("%s in %s: warnings %v", tt.role, tt.unit, plan.Warnings)
		}
	}
}

// A leak sensor that died in a pump room would look dry for ever.
func TestWhatNobodyAsksAfterIsMissedToo(t *testing.T) {
	for _, role := range []string{"water_leak", "mains_lost"} {
		rest := signed + fmt.Sprintf(`points: {active: {role: %s, register: {space: coil, address: 0}}}`, role)
		plan, err := Parse("g.yaml", []byte(oneDevice(served, "register-bool", rest)), fakeFiles)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(plan.Rules, func(r rule.Bound) bool { return r.Def.When == "no_data" && r.Def.Priority == "P4" }) {
			t.Errorf("nothing tells that a %s gives no data", role)
		}
	}
}
