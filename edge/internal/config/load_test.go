package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// contract is the gateway.yaml that the project promised to read, key by key.
const contract = `
gateway: {id: gw-0001, division: "530102001003", compound: 砚峡小区, timezone: Asia/Shanghai}   # division is checked against the cloud's, which rules
store:   {dir: /var/lib/gatehouse, quota: 1GiB}        # default min(2 GiB, 25 % of the file system)
web:     {listen: 127.0.0.1:8080}
metrics: {listen: 127.0.0.1:9100}
cloud:   {broker: "mqtts://cloud.example:8883", secret_file: gateway.secret, flush: 10s, heartbeat: 5m}
buses:
  - {id: east-485, link: "serial:/dev/serial/by-path/…?baud=9600&parity=none&stop=1"}
  - {id: pump-room, link: "tcp://10.0.0.8:4001", framing: rtu}
  - {id: plc,       link: "tcp://10.0.0.9:502",  framing: tcp}
devices:
  - {id: di-3-2, name: 3栋2单元弱电箱, place: 3/2, zone: 3/2, bus: east-485, address: 7, profile: waveshare-relay-d, poll: 1s,
     points: {di1: {role: gas_alarm, place: 3/2/501, name: 501厨房燃气报警器, contact: nc, label: W-031}}}
  - {id: septic-1, name: 1号化粪池, place: 化粪池1, bus: plc, address: 1, profile: 4mz-hh4, poll: 2s}
cameras:
  - {id: cam-gate, name: 南门, zone: 南门, url: "rtsp://…", user: viewer, password_file: camera.secret}
residents:
  - {id: r-17, place: 3/2/501, lives_alone: true, door: door-501/contact, signs_of_life: [water-501/volume, pir-501/motion],
     consent: {by: 本人, signed: 2026-11-01, document: 档案柜A-17}}
rules:
  include: [standard]          # the shipped pack; a site overrides one by its id
  custom:
    - {id: pump-dry, role: level, when: "value < 0.3", clear: "value > 0.5", for: 30s, priority: P2, title: 水池水位低}
notify:
  - {id: duty, kind: webhook, url_file: duty.secret, template: wecom, priorities: [P1, P2]}
`

// writeSite puts a config and its secrets into a folder of their own.
func writeSite(t *testing.T, text string, secrets ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range secrets {
		secret := " s3cret\n"
		if strings.HasSuffix(name, ".key") {
			secret = "00112233445566778899aabbccddeeff\n"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPromisedConfigLoadsIntoAPlan(t *testing.T) {
	plan, err := Load(writeSite(t, contract, "gateway.secret", "camera.secret", "duty.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if plan.Secret != "s3cret" || plan.Location.String() != "Asia/Shanghai" || plan.Config.Store.Quota != 1<<30 {
		t.Errorf("secret %q, location %v, quota %d", plan.Secret, plan.Location, plan.Config.Store.Quota)
	}
	if len(plan.Buses) != 3 || len(plan.Points) != 24 {
		t.Fatalf("%d buses, %d points", len(plan.Buses), len(plan.Points))
	}

	gas := plan.Points["di-3-2/di1"]
	if gas.Name != "501厨房燃气报警器" || gas.Place != "3/2/501" || gas.Zone != "3/2" || gas.Label != "W-031" ||
		gas.Role != "gas_alarm" || gas.Kind != point.Bool || gas.Every != time.Second || gas.ID.Device() != "di-3-2" {
		t.Errorf("di-3-2/di1: %+v", gas)
	}
	if di2 := plan.Points["di-3-2/di2"]; di2.Place != "3/2" || di2.Name != "3栋2单元弱电箱 输入2" || di2.Role != "input" {
		t.Errorf("di-3-2/di2: %+v", di2)
	}
	ch4 := plan.Points["septic-1/ch4_state"]
	if got := strings.Join(ch4.AlarmStates, " "); got != "high_alarm low_alarm over_range stel_alarm twa_alarm" {
		t.Errorf("alarm states %q", got)
	}

	spec := plan.Buses[0].Devices[0].Spec
	if p := spec.Points[0]; spec.Framing != drivers.RTU || spec.Address != 7 || !p.Critical || !p.Invert || p.Role != "gas_alarm" {
		t.Errorf("framing %q, address %d, di1 %+v", spec.Framing, spec.Address, p)
	}
	if p := spec.Points[1]; p.Critical || p.Invert {
		t.Errorf("di2 %+v", p)
	}
	if septic := plan.Buses[2].Devices[0]; septic.Driver != "modbus" || septic.Spec.Framing != drivers.TCP || septic.Spec.Every != 2*time.Second {
		t.Errorf("septic: driver %q, spec %+v", septic.Driver, septic.Spec)
	}

	var guarded bool
	for _, r := range plan.Rules {
		guarded = guarded || r.Point.ID == "di-3-2/di1" && r.Priority == 1
	}
	if !guarded {
		t.Error("no P1 rule guards the gas detector's contact")
	}
}

func TestSectionsWithoutEffectAreWarnedOf(t *testing.T) {
	plan, err := Load(writeSite(t, contract, "gateway.secret", "camera.secret", "duty.secret"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, w := range plan.Warnings {
		said[w.Key] = true
		if w.Key == "notify" && !strings.Contains(w.What, "NOBODY WILL BE NOTIFIED OF P1") {
			t.Errorf("notify: %s", w.What)
		}
	}
	for _, key := range []string{"web", "cameras", "residents", "notify"} {
		if !said[key] {
			t.Errorf("no warning about %s in %v", key, plan.Warnings)
		}
	}
}

const small = `
gateway: {id: gw-1, division: "530102001003"}
buses:
  - {id: plc, link: "tcp://127.0.0.1:5020", framing: tcp}
  - {id: pty, link: "serial:/dev/pts/7?baud=4800"}
  - {id: fast, link: "serial:/dev/ttyS1?baud=115200", gap: 0s, timeout: 90ms, retries: 0}
devices:
  - {id: d, place: 3/2, bus: plc, address: 1, profile: 4mz-hh4}
`

func TestDefaultsAreFilledIn(t *testing.T) {
	plan, err := Parse("g.yaml", []byte(small), fakeFiles)
	if err != nil {
		t.Fatal(err)
	}
	c := plan.Config
	if c.Gateway.Timezone != "Asia/Shanghai" || c.Store.Dir != "/var/lib/gatehouse" || c.Store.Quota != 0 || c.Metrics.Listen != "127.0.0.1:9100" ||
		c.Cloud.Flush != 10*time.Second || c.Cloud.Heartbeat != 5*time.Minute || c.Cloud.Broker != "" || len(c.Rules.Include) != 1 {
		t.Errorf("%+v", c)
	}
	if d := c.Devices[0]; d.Name != "d" || d.Poll != 2*time.Second {
		t.Errorf("device %+v", d)
	}
	// What nobody states the bus computes from its line.
	for i, want := range []struct {
		timeout, gap time.Duration
		retries      int
	}{
		{0, 0, 1},
		{0, 0, 1},
		{90 * time.Millisecond, 0, 0},
	} {
		b := plan.Buses[i]
		if b.Timeout != want.timeout || b.Gap != want.gap || *b.Retries != want.retries {
			t.Errorf("bus %s: timeout %v, gap %v, retries %d", b.ID, b.Timeout, b.Gap, *b.Retries)
		}
	}
	if len(plan.Warnings) != 0 {
		t.Errorf("warnings %v", plan.Warnings)
	}
}

func TestEmptyIncludeTakesNoPackAndSaysWhatIsUnguarded(t *testing.T) {
	plan, err := Parse("g.yaml", []byte(small+"rules: {include: []}\n"), fakeFiles)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Rules) != 0 || len(plan.Warnings) != 8 || !strings.Contains(plan.Warnings[0].What, "no rule watches the safety point d/") {
		t.Errorf("%d rules, warnings %v", len(plan.Rules), plan.Warnings)
	}
}

func TestCustomRuleTakesThePlaceOfAShippedOne(t *testing.T) {
	shipped, err := Parse("g.yaml", []byte(small), fakeFiles)
	if err != nil {
		t.Fatal(err)
	}
	const own = `rules: {custom: [{id: detector-state, role: detector_state, when: alarm_state, priority: P2, title: 探头报警}]}`
	plan, err := Parse("g.yaml", []byte(small+own), fakeFiles)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Rules) != len(shipped.Rules) {
		t.Errorf("%d rules, shipped %d", len(plan.Rules), len(shipped.Rules))
	}
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0].What, "lowers the shipped rule detector-state from P1 to P2") {
		t.Errorf("warnings %v", plan.Warnings)
	}
	for _, r := range plan.Rules {
		if r.Def.ID == "detector-state" && (r.Priority != 2 || r.Def.Title != "探头报警") {
			t.Errorf("%+v", r)
		}
	}
}

func TestRoleThatLeavesLifeSafetyIsWarnedOf(t *testing.T) {
	const site = `
  - {id: e, place: 3/2, bus: plc, address: 9, profile: 4mz-hh4, points: {ch4_state: {role: state}, ch4: {role: gas}}}
`
	plan, err := Parse("g.yaml", []byte(small+site[1:]), fakeFiles)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Warnings) != 1 || plan.Warnings[0].Key != "devices[1].points.ch4_state.role" {
		t.Errorf("%v", plan.Warnings)
	}
	if p := plan.Points["e/ch4"]; p.Role != "gas" || p.Unit != point.PercentLEL {
		t.Errorf("%+v", p)
	}
}

func TestSirenIsAPulseThatTheModuleTimes(t *testing.T) {
	const site = `
  - {id: r, place: 3/2, bus: plc, address: 9, profile: waveshare-relay-d, points: {relay3: {role: siren, pulse: 30s}}}
`
	plan, err := Parse("g.yaml", []byte(small+site[1:]), fakeFiles)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plan.Buses[0].Devices[1].Spec.Points {
		switch p.ID {
		case "r/relay3":
			if w := p.Write; p.Role != "siren" || w.PulseFor != 30*time.Second || w.PulseAt.Address != 0x0202 || w.At.Address != 2 || w.At.Space != "coil" {
				t.Errorf("relay3 %+v, write %+v", p, w)
			}
		case "r/relay4":
			if w := p.Write; p.Role != "relay" || w.PulseFor != 0 {
				t.Errorf("relay4 %+v, write %+v", p, w)
			}
		}
	}
	if p := plan.Points["r/relay3"]; p.Kind != point.Bool || p.Role != "siren" {
		t.Errorf("%+v", p)
	}
}

func TestBrokerInClearOnlyWhereItCannotBeHeard(t *testing.T) {
	for broker, ok := range map[string]bool{
		"mqtt://127.0.0.1:1883": true, "mqtt://[::1]:1883": true, "mqtt://localhost:1883": true,
		"mqtt://10.0.0.1:1883": false, "mqtt://127.0.0.1.example:1883": false, "mqtts://cloud.example:8883": true,
		"mqtt://10.0.0.1:1883\", allow_plaintext: true, ca_file: \"": true,
	} {
		text := small + `cloud: {secret_file: good.secret, broker: "` + broker + "\"}\n"
		if _, err := Parse("g.yaml", []byte(text), fakeFiles); (err == nil) != ok {
			t.Errorf("%s: %v", broker, err)
		}
	}
}

func TestSecretFileMustBeItsOwnersAlone(t *testing.T) {
	text := small + `cloud: {broker: "mqtts://cloud.example:8883", secret_file: gateway.secret}` + "\n"
	file := writeSite(t, text, "gateway.secret")
	secret := filepath.Join(filepath.Dir(file), "gateway.secret")
	plan, err := Load(file)
	if err != nil || plan.Secret != "s3cret" || plan.Config.Cloud.SecretFile != secret {
		t.Fatalf("secret %q in %s, %v", plan.Secret, plan.Config.Cloud.SecretFile, err)
	}
	for name, spoil := range map[string]func() error{
		"is open to others (mode 0640)": func() error { return os.Chmod(secret, 0o640) },
		"is empty":                      func() error { return errors.Join(os.Chmod(secret, 0o600), os.WriteFile(secret, []byte("\n"), 0o600)) },
		"not a regular file":            func() error { return errors.Join(os.Remove(secret), os.Mkdir(secret, 0o700)) },
		"does not exist":                func() error { return os.RemoveAll(secret) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file)
		var problems Errors
		if !errors.As(err, &problems) || len(problems) != 1 || !strings.Contains(problems[0].What, name) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v", name, err)
		}
		if err := errors.Join(os.RemoveAll(secret), os.WriteFile(secret, []byte("s3cret"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadOfAMissingFileSaysSo(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSizesAreReadWithTheirUnit(t *testing.T) {
	for text, want := range map[string]Bytes{"4096": 4096, "64KiB": 64 << 10, "512MiB": 512 << 20, "1GiB": 1 << 30, "2 GiB": 2 << 30} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: %d, %v", text, b, err)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1.5GiB", "1GB", "9999999999TiB", "1e3"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, b)
		}
	}
}

// FuzzParse: no bytes make Parse panic, and a plan it returns keeps its
// promises: every point belongs to a bus, every rule to a point.
func FuzzParse(f *testing.F) {
	f.Add([]byte(contract))
	f.Add([]byte(small))
	files, err := filepath.Glob(filepath.Join(goldenDir, "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		plan, err := Parse("gateway.yaml", data, fakeFiles)
		if err != nil {
			return
		}
		seen := make(map[point.ID]bool)
		for _, b := range plan.Buses {
			for _, d := range b.Devices {
				for _, p := range d.Spec.Points {
					if seen[p.ID] {
						t.Errorf("%s stands on two devices", p.ID)
					}
					seen[p.ID] = true
				}
			}
		}
		if len(seen) != len(plan.Points) {
			t.Errorf("%d points in specs, %d in the plan", len(seen), len(plan.Points))
		}
		for _, r := range plan.Rules {
			if !seen[r.Point.ID] {
				t.Errorf("rule %s guards %s, which is not there", r.Def.ID, r.Point.ID)
			}
		}
	})
}

func TestSlowlyPolledLifeSafetyIsWarnedOf(t *testing.T) {
	for poll, want := range map[string]int{"10s": 0, "30s": 1} {
		plan, err := Parse("g.yaml", []byte(strings.Replace(small, "4mz-hh4", "4mz-hh4, poll: "+poll, 1)), fakeFiles)
		if err != nil || len(plan.Warnings) != want {
			t.Errorf("%s: warnings %v, %v", poll, plan.Warnings, err)
		}
	}
}
