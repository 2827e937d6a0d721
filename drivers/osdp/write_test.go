package osdp

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

func TestOutputsAreWhatTheReaderIsTold(t *testing.T) {
	g := newRig(t, newReader(ownKey()), &vault{keys: [][]byte{ownKey()}}, func(s *drivers.Spec) {
		green, amber := uint16(osdp.Green), uint16(osdp.Amber)
		s.Points = append(s.Points,
			drivers.PointSpec{ID: "d/two", Kind: point.Bool, Write: &drivers.Output{At: at("led", 2), On: &green, Off: &amber}},
			drivers.PointSpec{ID: "d/nc", Kind: point.Bool, Invert: true, Write: &drivers.Output{At: at("output", 3)}},
			drivers.PointSpec{ID: "d/nct", Kind: point.Bool, Invert: true, Write: &drivers.Output{At: at("output", 3), PulseFor: time.Second}})
	})
	tests := []struct {
		point point.ID
		on    bool
		want  string
	}{
		{"d/lock", true, "68 00 02 0000"},
		{"d/lock", false, "68 00 01 0000"},
		{"d/strike", true, "68 01 05 1E00"},
		{"d/strike", false, "68 01 01 0000"},
		{"d/nc", true, "68 03 01 0000"},
		{"d/nc", false, "68 03 02 0000"},
		{"d/nct", true, "68 03 06 0A00"},
		{"d/led", true, "69 00 00 01000000000000 0101000101"},
		{"d/led", false, "69 00 00 01000000000000 0101000000"},
		{"d/two", true, "69 00 02 01000000000000 0101000202"},
		{"d/two", false, "69 00 02 01000000000000 0101000303"},
		{"d/flash", true, "69 01 01 02010001011400 0000000000"},
		{"d/beep", true, "6A 00 02 05 05 00"},
		{"d/beep", false, "6A 00 01 00 00 00"},
		{"d/chirp", true, "6A 00 02 03 00 01"},
	}
	for _, tt := range tests { // the first finds the reader and makes the session by itself
		if err := g.driver.Write(t.Context(), tt.point, point.Truth(tt.on)); err != nil {
			t.Fatalf("%s: %v", tt.point, err)
		}
		last := g.reader.outputs[len(g.reader.outputs)-1]
		if got := hex.EncodeToString(last); got != strings.ToLower(strings.ReplaceAll(tt.want, " ", "")) {
			t.Errorf("%s %v: %s, want %s", tt.point, tt.on, got, tt.want)
		}
	}
	if len(g.reader.outputs) != len(tests) || !g.reader.up {
		t.Errorf("%d commands for %d writes; in a session: %v", len(g.reader.outputs), len(tests), g.reader.up)
	}
	for p, v := range map[point.ID]point.Value{"d/card": point.Truth(true), "d/none": point.Truth(true), "d/lock": point.Float(1)} {
		if err := g.driver.Write(t.Context(), p, v); !errors.Is(err, drivers.ErrNotWritable) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestARefusedOutputIsAnError(t *testing.T) {
	g := secureRig(t)
	g.reader.nak[osdp.CmdOut] = byte(osdp.NAKRecord)
	err := g.driver.Write(t.Context(), "d/lock", point.Truth(true))
	if !errors.Is(err, drivers.ErrRefused) || !errors.Is(err, osdp.NAKRecord) {
		t.Error(err)
	}
	if err := g.run(3); err != nil {
		t.Error(err)
	}
	g.wantState(Secure)
}

func TestACardReadWhileAnOutputIsWrittenIsNotLost(t *testing.T) {
	g := secureRig(t)
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	g.reader.mute = true
	g.run(3) // the poll that reads the card
	g.reader.mute = false
	if err := g.driver.Write(t.Context(), "d/lock", point.Truth(true)); err != nil {
		t.Fatal(err)
	}
	g.run(1)
	g.wantEvents("h10301:123:4567")
}

func TestAnOutputThatIsBusyOrLostIsWrittenOnce(t *testing.T) {
	g := secureRig(t)
	g.run(2)
	g.reader.busy = 1
	if err := g.driver.Write(t.Context(), "d/strike", point.Truth(true)); !errors.Is(err, drivers.ErrBusy) {
		t.Fatal(err)
	}
	if err := g.driver.Write(t.Context(), "d/strike", point.Truth(true)); err != nil {
		t.Fatal(err)
	}
	g.reader.mute = true
	if err := g.driver.Write(t.Context(), "d/strike", point.Truth(false)); !errors.Is(err, drivers.ErrNoReply) {
		t.Fatal(err)
	}
	g.reader.mute = false
	if err := g.driver.Write(t.Context(), "d/strike", point.Truth(false)); err != nil {
		t.Fatal(err)
	}
	if n := len(g.reader.outputs); n != 2 {
		t.Errorf("%d commands were carried out, want 2", n)
	}
	if err := g.run(3); err != nil {
		t.Error(err)
	}
	g.wantState(Secure)
}

func TestAnOutputThatWasNotConfirmedIsNotSwitchedLater(t *testing.T) {
	g := secureRig(t)
	g.reader.deaf = true
	if err := g.driver.Write(t.Context(), "d/strike", point.Truth(true)); !errors.Is(err, drivers.ErrNoReply) {
		t.Fatal(err)
	}
	g.clock = g.clock.Add(outputLife)
	g.reader.deaf = false
	g.run(20)
	if len(g.reader.outputs) != 0 {
		t.Error("the door opened after everybody had given up")
	}
	g.wantState(Secure)
}

func TestAWriteToADeadReaderSaysSo(t *testing.T) {
	r := newReader(nil)
	r.deaf = true
	g := newRig(t, r, &vault{}, nil)
	if err := g.driver.Write(t.Context(), "d/lock", point.Truth(true)); !errors.Is(err, drivers.ErrNoReply) {
		t.Error(err)
	}
	g.driver.link = &drivertest.Script{Err: drivers.ErrLinkDown}
	if err := g.driver.Write(t.Context(), "d/lock", point.Truth(true)); !errors.Is(err, drivers.ErrLinkDown) {
		t.Error(err)
	}
}

func TestEveryFaultOfASpecIsReportedAtOnce(t *testing.T) {
	number, big := 1.0, uint16(300)
	one := uint64(1)
	out := func(space string, n uint32) *drivers.Output { return &drivers.Output{At: at(space, n)} }
	spec := drivers.Spec{Device: "d", Framing: drivers.TCP, Address: 127, Commands: []drivers.Command{{}}, Points: []drivers.PointSpec{
		{ID: "d/a", Kind: point.Number, At: at("tamper", 1), Every: time.Second},
		{ID: "d/a", Kind: point.Bool, At: at("coil", 0), Every: time.Second},
		{ID: "d/b", Kind: point.Text, At: at("card", 0), Order: "??"},
		{ID: "d/c", Kind: point.Bool, At: at("output", 0), Every: time.Second},
		{ID: "d/d", Kind: point.Bool, Write: &drivers.Output{At: at("led", 0), On: &big, Multiple: true, PulseFor: time.Millisecond}},
		{ID: "d/e", Kind: point.State, At: at("secure", 0), States: map[uint64]drivers.State{1: {}}, Every: time.Second},
		{ID: "d/f", Kind: point.Bool, At: drivers.Item{Space: "input", UnitPlus: 1}, Min: &number, Every: time.Second},
		{ID: "d/g", Kind: point.Bool, At: at("input", 0), Active: &one, Inactive: &one, Order: "LH", Every: time.Second},
		{ID: "d/h", Kind: point.Bool, Invert: true, Write: out("buzzer", 0)},
		{ID: "d/i", Kind: point.Bool, Write: &drivers.Output{At: at("output", 256), On: &big}},
		{ID: "d/j", Kind: point.Bool, Write: &drivers.Output{At: at("buzzer", 0), PulseFor: time.Minute}},
		{ID: "d/k", Kind: point.Bool, At: at("tamper", 0), States: map[uint64]drivers.State{}, Write: out("tamper", 0)},
	}}
	_, err := New(spec, drivers.Deps{Link: &drivertest.Script{}})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{
		"framing tcp", "address 127", "commands", "d/a: kind", "d/a: address 1", "d/a: listed twice", `space "coil"`, "no hash", "no poll period",
		`d/b: order "??"`, "d/c: space output", "300 is above 7", "multiple", "pulse 1ms", "code 0 (offline) is missing", "code 5 (fallback) is missing",
		"unit_plus 1", "d/f: bits", "both are 1", `d/g: order "LH"`, "d/h: invert", "d/i: address 256", "d/i: on and off", "pulse 1m0s", "d/k: space tamper",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in:\n%v", want, err)
		}
	}
	if _, err := New(doorSpec(), drivers.Deps{Card: hash}); err == nil {
		t.Error("a driver without a link")
	}
	rare := doorSpec()
	rare.Every = 5 * time.Second
	if _, err := New(rare, drivers.Deps{Link: &drivertest.Script{}, Card: hash}); err == nil || !strings.Contains(err.Error(), "a poll every 5s") {
		t.Errorf("a period that ends every session: %v", err)
	}
	if _, err := New(drivers.Spec{Device: "d"}, drivers.Deps{Link: &drivertest.Script{}}); err == nil {
		t.Error("a driver without points")
	}
}

func TestWhatIsReadAndWhatCanBeOrdered(t *testing.T) {
	g := newRig(t, newReader(nil), &vault{}, func(s *drivers.Spec) { s.Points[2].Critical, s.Points[6].Every = true, 100*time.Millisecond })
	jobs := g.driver.Jobs()
	if len(jobs) != 1 || jobs[0].Every != 100*time.Millisecond || !jobs[0].Critical || slices.Contains(jobs[0].Points, "d/lock") {
		t.Errorf("%+v", jobs)
	}
	if got := g.driver.Commands(); !slices.Equal(got, []string{"install"}) {
		t.Error(got)
	}
	if err := g.driver.Do(t.Context(), 1, g.take); err == nil {
		t.Error("a job that is none")
	}
	g.vault = nil
	g.restart()
	if g.driver.Commands() != nil || g.driver.Command(t.Context(), "install") == nil {
		t.Error("a reader can be installed where no key is kept")
	}
}

func TestContactsHaveASenseAndCodes(t *testing.T) {
	zero, one := uint64(0), uint64(1)
	for _, tt := range []struct {
		level level
		code  byte
		on    bool
		q     point.Quality
	}{
		{level{}, 0, false, point.Good},
		{level{}, 3, true, point.Good},
		{level{invert: true}, 0, true, point.Good},
		{level{active: &zero}, 0, true, point.Good},
		{level{active: &zero}, 1, false, point.Good},
		{level{inactive: &one}, 1, false, point.Good},
		{level{inactive: &one}, 0, true, point.Good},
		{level{active: &one, inactive: &zero}, 1, true, point.Good},
		{level{active: &one, inactive: &zero}, 2, false, point.Fault},
	} {
		r := tt.level.reading(tt.code, time.Now())
		if r.Value.On() != tt.on || r.Quality != tt.q {
			t.Errorf("%+v, code %d: %v %v", tt.level, tt.code, r.Value, r.Quality)
		}
	}
}
