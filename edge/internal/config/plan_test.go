package config

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/edge/internal/bus"
	"gatehouse/protocol/point"
)

const mixed = `
gateway: {id: gw-1, division: "530102001003"}
cards: {key_file: cards.secret}
buses:
  - {id: east, link: "serial:/dev/serial/by-path/x?baud=9600"}
  - {id: doors, link: "serial:/dev/serial/by-path/y?baud=9600"}
  - {id: gate, link: "serial:/dev/serial/by-path/z?baud=9600"}
  - {id: meter, link: "tcp://10.0.0.8:4001?baud=2400", framing: rtu}
devices:
  - {id: di, place: 3/2, bus: east, address: 7, profile: wellpro-wp8026}
  - {id: meter-1, place: 3/2, bus: east, profile: own/meter.yaml, meter: "000012345678", serial: {baud: 2400, parity: even}, timeout: 800ms, gap: 20ms}
  - {id: gas-1, place: 锅炉房, bus: east, profile: own/gas.yaml}
  - {id: reader-1, place: 南门, bus: doors, address: 0, profile: own/reader.yaml, key_file: door.secret, points: {lock: {pulse: 3s}}}
  - {id: reader-2, place: 北门, bus: doors, address: 126, profile: own/reader.yaml, allow_clear_text: true}
  - {id: cards-1, place: 车库, bus: gate, profile: own/cards.yaml}
  - {id: meter-2, place: 泵房, bus: meter, profile: own/meter.yaml, meter: any}
`

// plans returns the plan of a config by device.
func plans(t *testing.T, text string) (Plan, map[string]DevicePlan) {
	t.Helper()
	plan, err := Parse("/etc/gatehouse/g.yaml", []byte(text), fakeFiles)
	if err != nil {
		t.Fatalf("\n%v", err)
	}
	devices := make(map[string]DevicePlan)
	for _, b := range plan.Buses {
		for _, d := range b.Devices {
			devices[d.Spec.Device] = d
		}
	}
	return plan, devices
}

func TestEachDriverGetsWhatItsDeviceNeeds(t *testing.T) {
	plan, devices := plans(t, mixed)
	if plan.CardKey != "0123456789abcdef0123456789abcdef" || plan.Config.Cards.KeyFile != "/etc/gatehouse/cards.secret" {
		t.Errorf("card key %q of %s", plan.CardKey, plan.Config.Cards.KeyFile)
	}
	if di := devices["di"]; di.Timing.Mode != (bus.Mode{}) || di.Timing.Reveal != 0 || di.Offline != 0 || di.Spec.Frame != nil {
		t.Errorf("di %+v", di)
	}

	meter := devices["meter-1"]
	if meter.Driver != "dlt645" || meter.Spec.Meter != "000012345678" || meter.Timing.Timeout != 800*time.Millisecond || meter.Timing.Gap != 20*time.Millisecond ||
		meter.Timing.Mode != (bus.Mode{Baud: 2400, Parity: bus.ParityEven, StopBits: 1}) ||
		!bytes.Equal(meter.Timing.Wake, []byte{0xFE, 0xFE, 0xFE, 0xFE}) || meter.Timing.WakePause != 5*time.Millisecond {
		t.Errorf("meter-1 %+v", meter)
	}
	if p := meter.Spec.Points[0]; p.At.Space != "di" || p.At.Address != 0x00010000 || p.Type != "bcd" || p.Size != 4 || p.Scale != 0.01 {
		t.Errorf("energy %+v", p)
	}
	if any := devices["meter-2"]; any.Spec.Meter != "" {
		t.Errorf("meter-2 asks for %q", any.Spec.Meter)
	}

	gas := devices["gas-1"]
	f := gas.Spec.Frame
	if gas.Offline != 10*time.Second || gas.Timing.Reveal != 0 || f == nil || len(f.Request) != 9 || !bytes.Equal(f.Start, []byte{0xFF, 0x86}) || f.Size != 11 ||
		f.Check != (drivers.Check{Kind: "neg8", From: 1, Until: -1, At: -1}) {
		t.Errorf("gas-1 %+v, frame %+v", gas, f)
	}
	if p := gas.Spec.Points[0]; p.MaxStep == nil || *p.MaxStep != 200 || !p.Critical {
		t.Errorf("co %+v", p)
	}
}

func TestDoorReadersKeepTheirSecrets(t *testing.T) {
	plan, devices := plans(t, mixed)
	reader := devices["reader-1"]
	if reader.KeyFile != "/etc/gatehouse/door.secret" || reader.Spec.AllowClear || reader.Timing.Reveal != 6 || reader.Offline != 8*time.Second || reader.Spec.Every != 50*time.Millisecond {
		t.Errorf("reader-1 %+v", reader)
	}
	lock := reader.Spec.Points[3]
	if w := lock.Write; w == nil || w.At != (drivers.Item{Space: "output", Address: 1}) || w.PulseAt == nil || *w.PulseAt != w.At || w.PulseFor != 3*time.Second {
		t.Errorf("lock %+v, write %+v", lock, w)
	}
	if card := plan.Points["reader-1/card"]; card.Kind != point.Text || card.Role != "card" {
		t.Errorf("card %+v", card)
	}
	open := devices["reader-2"]
	if open.KeyFile != "" || !open.Spec.AllowClear {
		t.Errorf("reader-2 %+v", open)
	}
	if !slices.ContainsFunc(plan.Warnings, func(p Problem) bool {
		return p.Key == "devices[4].allow_clear_text" && strings.Contains(p.What, "forge its cards")
	}) {
		t.Errorf("clear text is not warned of: %v", plan.Warnings)
	}
	// What talks unasked has no poll of its own: values are as fresh as its silence may be long.
	if cards := devices["cards-1"]; cards.Timing.Reveal != 1 || cards.Offline != 3*time.Hour || cards.Spec.Every != time.Hour {
		t.Errorf("cards-1 %+v", cards)
	}
}

const confirmedSite = `
gateway: {id: gw-1, division: "530102001003"}
buses: [{id: east, link: "serial:/dev/serial/by-path/x?baud=9600"}]
devices:
  - id: d
    place: 食堂
    bus: east
    address: 5
    profile: own/template.yaml
    confirmed: {by: 王工, on: 2026-11-01, source: 说明书第 12 页}
    points:
      gas: {role: co, register: {space: input, address: 4, type: u32, order: LH, swap: true, unit: ppm, scale: 0.1, offset: 1, sentinels: [0xFFFFFFFF], min: 0, max: 1000, max_step: 100}}
      state: {register: {space: holding, address: 6, bits: 0x0F, states: {0: {name: ok, class: normal}, 2: {name: leak, class: alarm}}}}
      alarm: {register: {space: holding, address: 9, active: 2, inactive: 1}}
`

func TestConfirmedRegisterIsWhatIsRead(t *testing.T) {
	plan, devices := plans(t, confirmedSite)
	spec := devices["d"].Spec
	gas, state, alarm := spec.Points[0], spec.Points[1], spec.Points[2]
	if gas.Role != "co" || gas.Unit != point.PPM || gas.At != (drivers.Item{Space: "input", Address: 4}) || gas.Type != "u32" || gas.Order != "LH" || !gas.Swap ||
		gas.Scale != 0.1 || gas.Offset != 1 || len(gas.Sentinels) != 1 || *gas.Min != 0 || *gas.Max != 1000 || *gas.MaxStep != 100 || gas.StatusOf != "state" {
		t.Errorf("gas %+v", gas)
	}
	if state.At.Address != 6 || state.Type != "u16" || state.Bits != 0x0F || state.States[2] != (drivers.State{Name: "leak", Class: drivers.ClassAlarm}) {
		t.Errorf("state %+v", state)
	}
	if alarm.At.Space != "holding" || alarm.Type != "u16" || *alarm.Active != 2 || *alarm.Inactive != 1 {
		t.Errorf("alarm %+v", alarm)
	}
	if info := plan.Points["d/state"]; !slices.Equal(info.AlarmStates, []string{"leak"}) {
		t.Errorf("%+v", info)
	}
	if info := plan.Points["d/gas"]; info.Unit != point.PPM || info.Role != "co" {
		t.Errorf("%+v", info)
	}
	if c := spec.Commands; len(c) != 1 || c[0].Name != "reset" || len(c[0].Steps) != 2 ||
		c[0].Steps[0] != (drivers.Step{At: drivers.Item{Space: "holding", Address: 0x80}, Value: 0x0155, Multiple: true, Pause: 50 * time.Millisecond}) ||
		c[0].Steps[1].At != (drivers.Item{Space: "coil", Address: 3}) {
		t.Errorf("commands %+v", c)
	}
}

// Two devices of one template: what one site register says must not show in the other.
func TestRegistersOfOneDeviceLeaveTheOthersAlone(t *testing.T) {
	second := strings.NewReplacer("id: d\n", "id: e\n", "address: 5", "address: 6", "name: leak", "name: smell", "address: 4,", "address: 40,").Replace(
		confirmedSite[strings.Index(confirmedSite, "  - id: d"):])
	_, devices := plans(t, confirmedSite+second)
	d, e := devices["d"].Spec.Points, devices["e"].Spec.Points
	if d[0].At.Address != 4 || e[0].At.Address != 40 || d[1].States[2].Name != "leak" || e[1].States[2].Name != "smell" {
		t.Errorf("d %+v %+v, e %+v %+v", d[0].At, d[1].States, e[0].At, e[1].States)
	}
}

// A date to come is a slip, or a box that lost its clock. The second must not
// stop it from guarding.
func TestConfirmationToComeIsWarnedOf(t *testing.T) {
	plan, _ := plans(t, strings.Replace(confirmedSite, "2026-11-01", "9999-11-01", 1))
	if !slices.ContainsFunc(plan.Warnings, func(p Problem) bool { return p.Key == "devices[0].confirmed.on" }) {
		t.Errorf("warnings %v", plan.Warnings)
	}
	plan, _ = plans(t, confirmedSite)
	if slices.ContainsFunc(plan.Warnings, func(p Problem) bool { return p.Key == "devices[0].confirmed.on" }) {
		t.Errorf("warnings %v", plan.Warnings)
	}
}

func TestALongTimeoutIsToldBesideItsNeighbours(t *testing.T) {
	text := strings.Replace(small, "profile: 4mz-hh4}", "profile: 4mz-hh4, timeout: 20s}", 1)
	if text == small {
		t.Fatal("the small site has no device to slow down")
	}
	plan, err := Load(writeSite(t, text))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(plan.Warnings, func(p Problem) bool {
		return strings.HasSuffix(p.Key, ".timeout") && strings.Contains(p.What, "20s late")
	}) {
		t.Errorf("warnings: %v", plan.Warnings)
	}
}
