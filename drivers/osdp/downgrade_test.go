package osdp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

// swap puts a reader that knows no secure channel in the place of the reader.
func (g *rig) swap() {
	g.reader.reboot()
	g.reader.key, g.reader.noAES = nil, true
}

// age is how long ago a point was told.
func (g *rig) age(p point.ID) time.Duration { return g.clock.Sub(g.last[p].At) }

// wantNothingBelieved holds a card to the reader and looks at what is told of it.
func (g *rig) wantNothingBelieved() {
	g.t.Helper()
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	g.run(10)
	g.wantEvents()
	for _, p := range []point.ID{"d/in0", "d/in1"} {
		if r := g.last[p]; r.Quality != point.Fault || g.age(p) > 2*time.Second {
			g.t.Errorf("%s: %v %v, %v ago", p, r.Value, r.Quality, g.age(p))
		}
	}
}

func clearReply(f *osdp.Frame, code byte, payload ...byte) []byte {
	return osdp.Append(nil, &osdp.Frame{Address: f.Address, Reply: true, Control: f.Control, Code: code, Payload: payload})
}

func TestAReaderThatIsNotProvenIsBelievedNoContact(t *testing.T) {
	g := secureRig(t)
	g.swap()
	g.reader.inputs = []byte{1, 0}
	g.run(60)
	g.wantState(Fallback)
	g.wantNothingBelieved()
	for _, p := range []point.ID{"d/tamper", "d/power"} {
		if r := g.last[p]; r.Quality != point.Fault || g.age(p) > 2*time.Second {
			t.Errorf("that nothing is wrong is believed: %s %v %v", p, r.Value, r.Quality)
		}
	}
	g.reader.tamper, g.reader.power = 1, 1
	g.run(10)
	for _, p := range []point.ID{"d/tamper", "d/power"} {
		if r := g.last[p]; r.Quality != point.Good || !r.Value.On() {
			t.Errorf("what it says is wrong does not stand: %s %v %v", p, r.Value, r.Quality)
		}
	}
}

func TestClearTextThatTheSiteAllowsIsNotForAnInstalledReader(t *testing.T) {
	g := newRig(t, newReader(ownKey()), &vault{keys: [][]byte{ownKey()}}, func(s *drivers.Spec) { s.AllowClear = true })
	g.run(10)
	g.wantState(Secure)
	g.swap()
	g.run(20)
	g.wantState(Fallback)
	g.wantNothingBelieved()
}

func TestAReaderWhoseKeysCannotBeReadWasInstalled(t *testing.T) {
	for _, allow := range []bool{false, true} {
		g := secureRig(t)
		g.vault.broken = errors.New("disk error")
		g.spec.AllowClear = allow
		g.restart()
		g.run(20)
		g.wantState(Fallback)
		g.wantNothingBelieved()
		if err := g.driver.Command(t.Context(), "install"); !errors.Is(err, g.vault.broken) {
			t.Errorf("an order that would lose a key: %v", err)
		}
		n := testing.AllocsPerRun(40, func() { g.run(1) })
		g.vault.broken = nil // as after a start with a file put right
		g.restart()
		g.run(10)
		g.wantState(Secure)
		if n > 2 { // the rig's own
			t.Errorf("a poll allocates %v times", n)
		}
	}
}

func TestAnOutputIsNotOrderedInClearTextOfAnInstalledReader(t *testing.T) {
	g := secureRig(t)
	g.swap()
	g.run(20)
	g.wantState(Fallback)
	if err := g.driver.Write(t.Context(), "d/strike", point.Truth(true)); !errors.Is(err, drivers.ErrRefused) {
		t.Errorf("the strike: %v", err)
	}
	if n := len(g.reader.outputs); n != 0 {
		t.Errorf("%d orders went out", n)
	}
	for _, p := range []point.ID{"d/led", "d/beep"} { // who stands there may see that something is wrong
		if err := g.driver.Write(t.Context(), p, point.Truth(true)); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestOnlyAnAcknowledgementConfirmsAnOutput(t *testing.T) {
	for _, tt := range []struct {
		reply []byte
		busy  bool
		ok    bool
	}{
		{reply: []byte{osdp.ReplyACK}, ok: true},
		{reply: []byte{osdp.ReplyOStat, 1, 0}, ok: true},
		{reply: []byte{osdp.ReplyBusy}, busy: true},
		{reply: []byte{osdp.ReplyLStat, 0, 0}},
		{reply: []byte{0x99}},
	} {
		g := secureRig(t)
		g.reader.instead[osdp.CmdOut] = tt.reply
		err := g.driver.Write(t.Context(), "d/strike", point.Truth(true))
		if (err == nil) != tt.ok || errors.Is(err, drivers.ErrBusy) != tt.busy {
			t.Errorf("% X: %v", tt.reply, err)
		}
		clear(g.reader.instead)
		if err := g.driver.Write(t.Context(), "d/strike", point.Truth(true)); err != nil || len(g.reader.outputs) != 1 {
			t.Errorf("after % X: %v, %d orders carried out", tt.reply, err, len(g.reader.outputs))
		}
		if err := g.run(5); err != nil {
			t.Error(err)
		}
		g.wantState(Secure)
	}
}

func TestAPollThatIsPutOffInTheSessionIsMadeAnew(t *testing.T) {
	g := secureRig(t)
	g.reader.events = append(g.reader.events, []byte{osdp.ReplyBusy})
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	if err := g.run(1); !errors.Is(err, drivers.ErrBusy) {
		t.Fatal(err)
	}
	if err := g.run(2); err != nil {
		t.Fatal(err)
	}
	g.wantEvents("h10301:123:4567")
	g.wantState(Secure)
}

// Whatever somebody on the wire answers, that there is no session is told soon and
// for as long as it lasts.
func TestNoAnswerInClearTextHidesThatTheSessionIsLost(t *testing.T) {
	nak := func(reason byte) func(*osdp.Frame) []byte {
		return func(f *osdp.Frame) []byte { return clearReply(f, osdp.ReplyNAK, reason) }
	}
	only := func(silentAt byte) func(*osdp.Frame) []byte {
		return func(f *osdp.Frame) []byte {
			if f.Code == silentAt {
				return nil
			}
			return clearReply(f, osdp.ReplyACK)
		}
	}
	for name, reply := range map[string]func(*osdp.Frame) []byte{
		"NAK 1": nak(1), "NAK 2": nak(2), "NAK 3": nak(3), "NAK 4": nak(4), "NAK 5": nak(5), "NAK 6": nak(6),
		"ACK": only(0), "deaf to CHLNG": only(osdp.CmdChlng), "deaf to CAP": only(osdp.CmdCap),
		"NAK 4 to CHLNG": func(f *osdp.Frame) []byte {
			if f.Code == osdp.CmdChlng {
				return clearReply(f, osdp.ReplyNAK, 4)
			}
			return clearReply(f, osdp.ReplyACK)
		},
		"BUSY": func(f *osdp.Frame) []byte {
			g := *f
			g.Control = osdp.Control(0, f.CRC())
			return clearReply(&g, osdp.ReplyBusy)
		},
	} {
		for _, restarted := range []bool{false, true} {
			g := secureRig(t)
			if restarted {
				g.restart() // the gateway: it knows no more than the key file
			}
			g.reader.change = func(_ byte, b []byte) []byte {
				f, err := osdp.Parse(b)
				if err != nil {
					t.Fatal(err)
				}
				return reply(&f)
			}
			start := g.clock
			for g.clock.Sub(start) < 10*time.Minute {
				g.run(1)
				if r := g.last["d/lost"]; g.clock.Sub(start) > 30*time.Second && (!r.Value.On() || g.age("d/lost") > 10*time.Second) {
					t.Errorf("%s, gateway restarted %v: after %v it is %v, told %v ago", name, restarted, g.clock.Sub(start), r.Value, g.age("d/lost"))
					break
				}
			}
			g.wantEvents()
			g.reader.change = nil // the line is free again
			g.reader.reboot()
			g.run(int((lastRetry + time.Minute) / g.spec.Every))
			g.wantState(Secure)
		}
	}
}

func TestAReaderThatStaysBusyInASessionIsReported(t *testing.T) {
	g := secureRig(t)
	told := false
	for range 30 * 60 { // 8 s each time, and the true reader takes part in between
		g.reader.busy = 0
		if g.driver.session.up {
			g.reader.busy = 1
		}
		g.run(1)
		told = told || g.state() == Fallback
	}
	if !told {
		t.Error("sessions without one poll, for minutes, and nothing is told")
	}
	g.reader.busy = 0
	g.run(20)
	g.wantState(Secure)
}

func TestASwappedReaderThatRefusesChallengesByTheirNumber(t *testing.T) {
	g := secureRig(t)
	g.reader.deaf = true
	g.run(50)
	g.reader.deaf = false
	g.reader.reboot()
	g.reader.key = nil
	g.reader.nak[osdp.CmdChlng] = byte(osdp.NAKSequence)
	g.run(4) // ID, CAP, CHLNG, POLL: the number was right, so it is a refusal
	g.wantState(Fallback)
}

func TestManyCardsDoNotHideATamper(t *testing.T) {
	g := secureRig(t)
	g.reader.tamper = 1
	for range 60 {
		g.present(26, 0xBD, 0x88, 0xEB, 0x80)
		g.run(1)
		if g.age("d/tamper") > 3*refresh || g.age("d/in0") > 3*refresh {
			t.Fatalf("tamper is %v old, an input %v", g.age("d/tamper"), g.age("d/in0"))
		}
	}
	if !g.last["d/tamper"].Value.On() || len(g.events) != 60 {
		t.Errorf("tamper %v, %d cards", g.last["d/tamper"].Value, len(g.events))
	}
}

func TestOneForgedFrameNowAndThenKeepsNobodyOut(t *testing.T) {
	g := secureRig(t)
	var up, longest time.Duration
	last := g.clock // when there was a session
	forgeries := 0
	for range int(time.Hour / g.spec.Every) {
		if s := &g.driver.session; s.up && g.clock.Sub(s.since) > settled/2 {
			forgeries++
			g.reader.change = func(_ byte, b []byte) []byte {
				f, err := osdp.Parse(b)
				if err != nil {
					t.Fatal(err)
				}
				return clearReply(&f, osdp.ReplyACK)
			}
		}
		g.run(1)
		g.reader.change = nil
		if g.driver.session.up {
			up += g.spec.Every
			last = g.clock
		}
		longest = max(longest, g.clock.Sub(last))
	}
	if forgeries < 60 || longest > provenRetry+2*time.Second || up < 6*time.Minute {
		t.Errorf("%d forged frames in an hour; %v with a session, %v without at the longest", forgeries, up, longest)
	}
}

func TestAReplyInTheOtherCheckModeIsNotHis(t *testing.T) {
	g := newRig(t, newReader(nil), &vault{}, func(s *drivers.Spec) { s.AllowClear = true })
	g.run(10)
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	g.reader.change = func(_ byte, b []byte) []byte {
		f, err := osdp.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		f.Control = osdp.Control(f.Sequence(), false)
		return osdp.Append(nil, &f)
	}
	if err := g.run(1); !errors.Is(err, drivers.ErrNoReply) {
		t.Error(err)
	}
	g.wantEvents()
}

func TestARefusedPollStillTellsTheState(t *testing.T) {
	g := newRig(t, newReader(nil), &vault{}, nil)
	g.reader.nak[osdp.CmdPoll] = byte(osdp.NAKUnknown)
	for range 60 {
		if err := g.run(1); err != nil && !errors.Is(err, drivers.ErrRefused) {
			t.Fatal(err)
		}
	}
	g.wantState(NotInstalled)
	if g.age("d/secure") > 2*time.Second {
		t.Errorf("the state was told %v ago", g.age("d/secure"))
	}
}

func TestWhatSpeaksAgainstAReaderIsLoggedNowAndThen(t *testing.T) {
	var log bytes.Buffer
	g := secureRig(t)
	g.logTo(&log)
	g.reader.busy = 1 << 30
	g.run(int(5 * time.Minute / g.spec.Every))
	if n := strings.Count(log.String(), errBusyOnly.Error()); n < 2 || n > 6 {
		t.Errorf("%d lines in five minutes:\n%s", n, &log)
	}
}
