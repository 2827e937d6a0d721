package osdp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

func contract(key []byte, allowClear bool, state point.Value) drivertest.Contract {
	spec := doorSpec()
	spec.AllowClear = allowClear
	return drivertest.Contract{
		New: New, Spec: spec, Checked: true, Rounds: 14,
		Deps: func() drivers.Deps {
			deps := drivers.Deps{Card: hash}
			if key != nil {
				deps.Key = &vault{keys: [][]byte{key}}
			}
			return deps
		},
		Play: func() func([]byte) []byte {
			r := newReader(key)
			r.tamper = 1
			raw := []byte{osdp.ReplyRaw, 0, 1, 26, 0, 0xBD, 0x88, 0xEB, 0x80}
			r.events = [][]byte{{osdp.ReplyKeypad, 0, 3, '1', '2', '#'}, raw}
			return r.play
		},
		Want: map[point.ID]point.Value{
			"d/card":   {Kind: point.Text, Text: hash([]byte("h10301:123:4567"))},
			"d/pin":    {Kind: point.Text, Text: hash([]byte("code:12"))},
			"d/tamper": point.Truth(true),
			"d/power":  point.Truth(false),
			"d/secure": state,
			"d/lost":   point.Truth(false),
			"d/in0":    point.Truth(true),
			"d/in1":    point.Truth(true),
		},
		Events: []point.ID{"d/card", "d/pin"},
	}
}

func TestContractInASession(t *testing.T) {
	contract(ownKey(), false, point.Value{Kind: point.State, Num: Secure, Text: "secure"}).Run(t)
}

func TestContractInClearText(t *testing.T) {
	contract(nil, true, point.Value{Kind: point.State, Num: Clear, Text: "clear"}).Run(t)
}

func TestASteadyPollWithItsLevelsDoesNotAllocate(t *testing.T) {
	for _, key := range [][]byte{nil, ownKey()} {
		v := &vault{}
		if key != nil {
			v.keys = [][]byte{key}
		}
		g := newRig(t, newReader(key), v, nil)
		g.run(30)
		ctx, emitted := t.Context(), 0
		emit := func(point.Reading) { emitted++ }
		g.reader.commands = make([]byte, 0, 10_000)
		if n := testing.AllocsPerRun(200, func() {
			g.clock = g.clock.Add(g.spec.Every)
			if err := g.driver.Do(ctx, 0, emit); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("a poll allocates %v times", n)
		}
		if emitted < 200 { // 40 s: levels, inputs and state once a second
			t.Errorf("only %d readings", emitted)
		}
	}
}

func TestLevelsAreToldOftenEnoughAtEveryPeriod(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 700 * time.Millisecond, time.Second, 3 * time.Second} {
		g := newRig(t, newReader(ownKey()), &vault{keys: [][]byte{ownKey()}}, func(s *drivers.Spec) { s.Every = every })
		g.run(10)
		limit := max(3*every, 3*time.Second) // what the point table grants
		for range 60 {
			if err := g.run(1); err != nil {
				t.Fatal(err)
			}
			for _, p := range []point.ID{"d/tamper", "d/power", "d/secure", "d/lost", "d/in0", "d/in1"} {
				if age := g.clock.Sub(g.last[p].At); age > limit*2/3 {
					t.Fatalf("polled every %v, %s is %v old", every, p, age)
				}
			}
		}
	}
}

func TestALostReplyIsSentAgainAndReadOnce(t *testing.T) {
	g := secureRig(t)
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	for g.reader.mute = true; len(g.reader.events) > 0; {
		if err := g.run(1); !errors.Is(err, drivers.ErrNoReply) {
			t.Fatal(err)
		}
	}
	g.run(3)
	g.reader.mute = false
	n := len(g.reader.commands)
	g.run(3)
	g.wantEvents("h10301:123:4567")
	g.wantState(Secure)
	for _, code := range g.reader.commands[n:] {
		if code == osdp.CmdChlng {
			t.Error("a lost reply cost the session")
		}
	}
}

func TestALostCommandIsSentAgain(t *testing.T) {
	g := secureRig(t)
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	g.reader.deaf = true
	if err := g.run(5); !errors.Is(err, drivers.ErrNoReply) {
		t.Fatal(err)
	}
	g.reader.deaf = false
	if err := g.run(3); err != nil {
		t.Fatal(err)
	}
	g.wantEvents("h10301:123:4567")
	g.wantState(Secure)
}

func TestBusyIsAskedAgainWithTheSameCommand(t *testing.T) {
	g := secureRig(t)
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	g.reader.busy = 3
	for range 3 {
		if err := g.run(1); !errors.Is(err, drivers.ErrBusy) {
			t.Fatal(err)
		}
	}
	if err := g.run(2); err != nil {
		t.Fatal(err)
	}
	g.wantEvents("h10301:123:4567")
	g.reader.busy = 100 // for ever: all begins anew
	g.run(100)
	g.run(10)
	g.wantState(Secure)
}

func TestAReaderThatKnowsChecksumsOnly(t *testing.T) {
	r := newReader(ownKey())
	r.sumsOnly = true
	g := newRig(t, r, &vault{keys: [][]byte{ownKey()}}, nil)
	if err := g.run(10); err != nil {
		t.Fatal(err)
	}
	g.wantState(Secure)
}

func TestACommandThatTheLineSpoiltIsSentAgain(t *testing.T) {
	g := secureRig(t)
	n := len(g.reader.commands)
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	g.reader.garbled = 2
	for range 2 {
		if err := g.run(1); !errors.Is(err, drivers.ErrBusy) {
			t.Fatal(err)
		}
	}
	g.run(3)
	g.wantEvents("h10301:123:4567")
	if slices.Contains(g.reader.commands[n:], osdp.CmdChlng) {
		t.Error("it cost the session")
	}
	g.reader.garbled = 5 // a reader that understands nothing is started anew
	g.run(30)
	g.wantState(Secure)
}

func TestNoNumberIsInALogOrAnError(t *testing.T) {
	var log bytes.Buffer
	g := secureRig(t)
	g.driver.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
	for _, wrong := range [][]byte{{0x3D, 0x88, 0xEB, 0x80}, {0x3D, 0x88}} {
		g.present(26, wrong...)
		g.clock = g.clock.Add(quietLog)
		g.run(20)
	}
	if !strings.Contains(log.String(), "parity") {
		t.Errorf("a card that was not taken is not logged: %s", &log)
	}
	for _, secret := range []string{"3d88", "3D88", "61 136", "123", "4567"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %s: %s", secret, &log)
		}
	}
}

func TestARefusalInASessionStartsItAnew(t *testing.T) {
	for _, reason := range []osdp.NAK{osdp.NAKSequence, osdp.NAKUnsupported, osdp.NAKCondition} {
		g := secureRig(t)
		g.run(60) // a session that lived is begun again at once
		g.reader.nak[osdp.CmdPoll] = byte(reason)
		g.run(1)
		delete(g.reader.nak, osdp.CmdPoll)
		n := len(g.reader.commands)
		if err := g.run(6); err != nil {
			t.Fatal(err)
		}
		g.wantState(Secure)
		if first := g.reader.commands[n]; (first == osdp.CmdID) != (reason == osdp.NAKSequence) {
			t.Errorf("after %v the first command is %02X", reason, first)
		}
	}
}

func TestAReaderThatWasWithoutPowerIsSecureAgainQuickly(t *testing.T) {
	for _, away := range []time.Duration{0, time.Second, 20 * time.Second} {
		g := secureRig(t)
		g.run(100)
		g.reader.reboot()
		g.reader.deaf = true
		g.run(int(away / g.spec.Every))
		g.reader.deaf = false
		for range 10 {
			g.run(1)
			if g.state() == Fallback {
				t.Fatalf("after %v: a power cut is taken for an attack", away)
			}
		}
		g.wantState(Secure)
		if !g.reader.up {
			t.Errorf("after %v there is no session", away)
		}
	}
}

func TestAWrongSequenceNumberIsNoAnswer(t *testing.T) {
	g := secureRig(t)
	g.reader.change = func(_ byte, b []byte) []byte {
		f, err := osdp.Parse(b)
		if err != nil {
			return nil
		}
		f.Control = osdp.Control(f.Sequence()%3+1, true)
		return osdp.Append(nil, &f)
	}
	if err := g.run(1); !errors.Is(err, drivers.ErrNoReply) {
		t.Fatal(err)
	}
	g.reader.change = nil
	if err := g.run(2); err != nil {
		t.Fatal(err)
	}
	g.wantState(Secure)
}

func TestSilenceEndsTheSessionAndTellsNothing(t *testing.T) {
	g := secureRig(t)
	g.reader.deaf = true
	told := g.last["d/tamper"].At
	n := len(g.reader.commands)
	g.run(60)
	if g.driver.session.up || g.driver.phase != phaseID {
		t.Error("after 12 s of silence the session still stands")
	}
	if !g.last["d/tamper"].At.Equal(told) {
		t.Error("a level was told in silence")
	}
	g.reader.deaf = false
	g.run(8)
	if g.reader.commands[n] != osdp.CmdID {
		t.Errorf("it begins with %02X", g.reader.commands[n])
	}
	g.wantState(Secure)
}

func TestTwoReadersOnOneLine(t *testing.T) {
	a, b := newReader(ownKey()), newReader([]byte("fedcba9876543210"))
	b.address = 9
	line := func(r []byte) []byte {
		if reply := a.play(r); reply != nil {
			return reply
		}
		return b.play(r)
	}
	one := newRig(t, a, &vault{keys: [][]byte{a.key}}, nil)
	two := newRig(t, b, &vault{keys: [][]byte{b.key}}, func(s *drivers.Spec) { s.Address = 9 })
	one.driver.link = &drivertest.Script{Otherwise: line}
	two.driver.link = one.driver.link
	one.present(26, 0xBD, 0x88, 0xEB, 0x80)
	two.present(32, 0x0A, 0x1B, 0x2C, 0x3D)
	for range 20 {
		if err := errors.Join(one.run(1), two.run(1)); err != nil {
			t.Fatal(err)
		}
	}
	one.wantState(Secure)
	two.wantState(Secure)
	one.wantEvents("h10301:123:4567")
	two.wantEvents("uid:0A1B2C3D")
}

func TestCardsOfEachFormatInBothByteOrders(t *testing.T) {
	for _, order := range []string{"HL", "LH"} {
		g := newRig(t, newReader(ownKey()), &vault{keys: [][]byte{ownKey()}}, func(s *drivers.Spec) { s.Points[0].Order = order })
		g.run(10)
		g.present(26, 0xBD, 0x88, 0xEB, 0x80)       // H10301
		g.present(34, 0x05, 0x0D, 0x96, 0x1E, 0xC0) // 0A1B2C3D
		g.present(37, 0x40, 0x00, 0x80, 0x00, 0x10) // facility 32769, card 1
		g.present(32, 0x0A, 0x1B, 0x2C, 0x3D)       // raw
		g.present(35, 0xA0, 0, 0, 0, 0x20)          // no known format
		g.present(26, 0xBD, 0x88, 0xEB, 0x81)       // what stands behind the last bit is nobody's
		g.present(26, 0x3D, 0x88, 0xEB, 0x80)       // wrong parity: not taken
		g.present(26, 0xBD)                         // too short: not taken
		g.run(20)
		uid := "uid:0A1B2C3D"
		if order == "LH" {
			uid = "uid:3D2C1B0A"
		}
		g.wantEvents("h10301:123:4567", uid, "h10304:32769:1", uid, "bits:35:A000000020", "h10301:123:4567")
	}
}

func TestTypedCodes(t *testing.T) {
	g := secureRig(t)
	type_ := func(keys string) {
		g.reader.events = append(g.reader.events, append([]byte{osdp.ReplyKeypad, 0, byte(len(keys))}, keys...))
	}
	type_("12")
	type_("34\r")
	g.run(4)
	g.wantEvents("code:1234")
	type_("5")
	g.run(4)
	g.wantEvents()
	g.run(20) // nobody goes on
	g.wantEvents("code:5")
	type_("12345678901234567\x7f") // no code is so long
	type_("9#")
	g.run(4)
	g.wantEvents("code:9")
	g.present(8, 0xF0) // a keypad that sends its keys as bits
	g.present(8, 0x69)
	g.present(4, 0xB0)
	g.run(6)
	g.wantEvents("code:09")
	type_("77")
	g.run(2)
	g.reader.deaf = true
	g.run(50) // offline: what was begun is forgotten
	g.reader.deaf = false
	g.run(30)
	g.wantEvents()
}

func TestLevelsOfAReaderThatHasNone(t *testing.T) {
	r := newReader(ownKey())
	r.noLevels = true
	g := newRig(t, r, &vault{keys: [][]byte{ownKey()}}, nil)
	if err := g.run(20); err != nil {
		t.Fatal(err)
	}
	for _, p := range []point.ID{"d/tamper", "d/power", "d/in0", "d/in1"} {
		if got := g.last[p]; got.Quality != point.Fault {
			t.Errorf("%s is %v", p, got.Quality)
		}
	}
	g.wantState(Secure)
	r.noLevels, r.inputs = false, []byte{0}
	g.run(20)
	if g.last["d/in0"].Quality != point.Good || g.last["d/in1"].Quality != point.Fault {
		t.Errorf("one input of two: %v, %v", g.last["d/in0"].Quality, g.last["d/in1"].Quality)
	}
}

func TestATamperIsToldByThePollThatTellsIt(t *testing.T) {
	g := secureRig(t)
	g.reader.tamper = 1
	g.reader.events = append(g.reader.events, []byte{osdp.ReplyLStat, 1, 0}, []byte{0x82, 1, 2, 3}) // and one that nobody knows
	g.run(1)
	if !g.last["d/tamper"].Value.On() {
		t.Error("not told")
	}
	if err := g.run(2); err != nil {
		t.Error(err)
	}
}

func TestAProbeLosesNothing(t *testing.T) {
	g := newRig(t, newReader(ownKey()), &vault{keys: [][]byte{ownKey()}}, nil)
	for range 5 {
		if err := g.driver.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	if err := g.driver.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.wantEvents()
	g.run(1)
	g.wantEvents("h10301:123:4567")
	g.reader.busy = 1
	if err := g.driver.Probe(t.Context()); err != nil {
		t.Errorf("busy is an answer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.driver.Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
