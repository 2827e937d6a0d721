package osdp

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/osdp"
)

func TestWithoutAKeyCardsAreDroppedUnlessTheSiteAllowsThem(t *testing.T) {
	for _, allow := range []bool{false, true} {
		for _, noAES := range []bool{false, true} {
			r := newReader(nil)
			r.setup, r.noAES = true, noAES
			r.tamper = 1
			g := newRig(t, r, &vault{}, func(s *drivers.Spec) { s.AllowClear = allow })
			g.present(26, 0xBD, 0x88, 0xEB, 0x80)
			r.events = append(r.events, []byte{osdp.ReplyKeypad, 0, 2, '1', '#'})
			if err := g.run(12); err != nil {
				t.Fatal(err)
			}
			if !g.last["d/tamper"].Value.On() {
				t.Error("its tamper is not told")
			}
			if allow {
				g.wantState(Clear)
				g.wantEvents("h10301:123:4567", "code:1")
			} else {
				g.wantState(NotInstalled)
				g.wantEvents()
			}
			if r.defaults > 0 {
				t.Error("the default key was used without an order")
			}
		}
	}
}

func TestAnInstallOrderGivesTheReaderAKeyOfItsOwn(t *testing.T) {
	r := newReader(nil)
	r.setup = true
	v := &vault{}
	g := newRig(t, r, v, nil)
	g.run(10)
	g.wantState(NotInstalled)
	if err := g.driver.Command(t.Context(), "instal"); err == nil {
		t.Error("an unknown command")
	}
	if err := g.driver.Command(t.Context(), "install"); !errors.Is(err, drivers.ErrUnderway) {
		t.Fatal(err)
	}
	if err := g.run(10); err != nil {
		t.Fatal(err)
	}
	g.wantState(Secure)
	if r.defaults != 1 || len(v.keys) != 1 || v.settled != 1 || !bytes.Equal(v.keys[0], r.key) || bytes.Equal(r.key, osdp.DefaultKey()) {
		t.Errorf("%d sessions by the default key, %d keys, settled %d times", r.defaults, len(v.keys), v.settled)
	}
	if !g.driver.install.until.IsZero() {
		t.Error("the window is still open")
	}
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	g.run(2)
	g.wantEvents("h10301:123:4567")

	// The same order again changes the key, and needs no default key for it.
	old := bytes.Clone(r.key)
	g.driver.Command(t.Context(), "install")
	g.run(10)
	g.wantState(Secure)
	if bytes.Equal(old, r.key) || !bytes.Equal(v.keys[0], r.key) || len(v.keys) != 1 || r.defaults != 1 {
		t.Error("the key was not changed inside the session")
	}
}

func TestTheWindowClosesAfterTenMinutes(t *testing.T) {
	r := newReader(nil)
	r.deaf = true
	g := newRig(t, r, &vault{}, nil)
	g.driver.Command(t.Context(), "install")
	g.run(1)
	g.clock = g.clock.Add(installWindow)
	r.deaf, r.setup = false, true
	g.run(20)
	g.wantState(NotInstalled)
	if r.defaults != 0 {
		t.Error("the default key was taken after the window")
	}
}

func TestTheDefaultKeyHasOneSessionInAnOrder(t *testing.T) {
	r := newReader(nil)
	r.setup = true
	r.nak[osdp.CmdKeySet] = byte(osdp.NAKUnknown)
	g := newRig(t, r, &vault{}, nil)
	g.driver.Command(t.Context(), "install")
	g.run(400)
	if r.defaults != 1 || g.state() == Secure {
		t.Errorf("%d sessions by the default key, state %d", r.defaults, g.state())
	}
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	g.run(2)
	g.wantEvents()
}

func TestNoCardIsBelievedInASessionByTheDefaultKey(t *testing.T) {
	r := newReader(nil)
	r.setup = true
	r.instead[osdp.CmdKeySet] = []byte{osdp.ReplyRaw, 0, 1, 26, 0, 0xBD, 0x88, 0xEB, 0x80}
	g := newRig(t, r, &vault{}, nil)
	g.driver.Command(t.Context(), "install")
	g.run(400)
	g.wantEvents()
	if !bytes.Contains(r.commands, []byte{osdp.CmdKeySet}) || r.defaults != 1 {
		t.Errorf("%d sessions by the default key", r.defaults)
	}
	g.wantState(Fallback) // whether it took the key nobody knows: a new order decides
	clear(r.instead)
	g.driver.Command(t.Context(), "install")
	g.run(20)
	g.wantState(Secure)
}

func TestASessionByTheDefaultKeyEndsWithTheWindow(t *testing.T) {
	r := newReader(nil)
	r.setup, r.deaf = true, true
	g := newRig(t, r, &vault{}, nil)
	g.driver.Command(t.Context(), "install")
	g.clock = g.clock.Add(installWindow - 2*time.Second)
	r.deaf = false
	for n := 0; !r.up && n < 8; n++ {
		g.run(1)
	}
	if !g.driver.session.byDefault() {
		t.Fatal("no session by the default key")
	}
	g.clock = g.clock.Add(2 * time.Second)
	g.run(8)
	if g.driver.session.up || bytes.Contains(r.commands, []byte{osdp.CmdKeySet}) {
		t.Error("it outlives the window")
	}
	g.wantState(NotInstalled)
}

func TestAReaderThatBeginsSessionsOnlyWhenBegunAnew(t *testing.T) {
	r := newReader(nil)
	r.setup, r.strict = true, true
	g := newRig(t, r, &vault{}, nil)
	g.run(10)
	g.driver.Command(t.Context(), "install")
	for range 20 {
		g.run(1)
		if g.state() == Fallback {
			t.Fatal("it is taken for an attack")
		}
	}
	g.wantState(Secure)
}

func TestTheRightReaderIsSecureAgainSoonAfterALongAttack(t *testing.T) {
	g := secureRig(t)
	g.reader.reboot()
	g.reader.key = []byte("fedcba9876543210")
	g.run(int(time.Hour / g.spec.Every))
	g.wantState(Fallback)
	g.reader.key = ownKey()
	g.reader.reboot() // too short to be noticed but by its sequence number
	g.run(int(firstRetry/g.spec.Every) + 10)
	g.wantState(Secure)
}

// keeper is a link that remembers the last reply.
type keeper struct {
	drivers.Link
	last []byte
}

func (k *keeper) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	rx, err := k.Link.Exchange(ctx, tx, f)
	k.last = rx
	return rx, err
}

func TestACardIsOverwrittenWhereItWasReceived(t *testing.T) {
	for _, key := range [][]byte{nil, ownKey()} {
		v := &vault{}
		if key != nil {
			v.keys = [][]byte{key}
		}
		g := newRig(t, newReader(key), v, func(s *drivers.Spec) { s.AllowClear = true })
		k := &keeper{Link: g.driver.link}
		g.driver.link = k
		g.run(12)
		g.present(26, 0xBD, 0x88, 0xEB, 0x80)
		g.run(1)
		g.wantEvents("h10301:123:4567")
		if bytes.Contains(k.last, []byte{0xBD, 0x88, 0xEB}) {
			t.Errorf("the card stands in the link's buffer: % X", k.last)
		}
	}
}

func TestAKeyThatCannotBeStoredIsNotSent(t *testing.T) {
	r := newReader(nil)
	r.setup = true
	g := newRig(t, r, &vault{err: errors.New("disk full")}, nil)
	g.driver.Command(t.Context(), "install")
	g.run(20)
	g.wantState(NotInstalled)
	if r.key != nil {
		t.Error("the reader has a key that nobody knows")
	}
}

// A gateway that dies while the key changes holds the reader's key afterwards.
func TestAKillWhileTheKeyChanges(t *testing.T) {
	for _, when := range []string{"before the reader has it", "after the reader has it", "after its answer"} {
		t.Run(when, func(t *testing.T) {
			g := secureRig(t)
			g.driver.Command(t.Context(), "install")
			for n := 0; len(g.vault.keys) == 1; n++ {
				switch when {
				case "before the reader has it":
					g.reader.deaf = true
				case "after the reader has it":
					g.reader.mute = true
				}
				if g.run(1); n > 10 {
					t.Fatal("no key was proposed")
				}
			}
			if changed := !bytes.Equal(g.reader.key, ownKey()); changed != (when != "before the reader has it") {
				t.Fatalf("the reader has the new key: %v", changed)
			}
			g.reader.deaf, g.reader.mute = false, false
			g.restart()
			if err := g.run(10); err != nil {
				t.Fatal(err)
			}
			g.wantState(Secure)
			if len(g.vault.keys) != 1 || !bytes.Equal(g.vault.keys[0], g.reader.key) {
				t.Errorf("%d keys are kept, the reader's first: %v", len(g.vault.keys), bytes.Equal(g.vault.keys[0], g.reader.key))
			}
		})
	}
}

func TestALostAnswerToTheNewKeyCostsNothing(t *testing.T) {
	r := newReader(nil)
	r.setup = true
	g := newRig(t, r, &vault{}, nil)
	g.driver.Command(t.Context(), "install")
	for n := 0; r.key == nil && n < 20; n++ {
		r.mute = len(g.vault.keys) > 0 || r.defaults > 0
		g.run(1)
	}
	g.run(3)
	r.mute = false
	g.run(8)
	g.wantState(Secure)
	if r.defaults != 1 || !bytes.Equal(g.vault.keys[0], r.key) {
		t.Errorf("%d sessions by the default key", r.defaults)
	}
}

func TestClearTextAfterASecureSessionIsAnAlarm(t *testing.T) {
	downgrades := map[string]func(*reader){
		"inside the session": func(r *reader) { r.downcast = true },
		"another reader":     func(r *reader) { r.reboot(); r.key = nil; r.noAES = true },
		"another key":        func(r *reader) { r.reboot(); r.key = []byte("fedcba9876543210") },
		"the default key":    func(r *reader) { r.reboot(); r.key = nil; r.setup = true },
	}
	for name, downgrade := range downgrades {
		t.Run(name, func(t *testing.T) {
			g := secureRig(t)
			downgrade(g.reader)
			g.present(26, 0xBD, 0x88, 0xEB, 0x80)
			g.reader.events = append(g.reader.events, []byte{osdp.ReplyKeypad, 0, 2, '1', '#'})
			g.run(10)
			g.wantState(Fallback)
			g.wantEvents()
			challenges := bytes.Count(g.reader.commands, []byte{osdp.CmdChlng})
			g.run(int(time.Hour / g.spec.Every))
			most := 30
			if g.reader.downcast {
				most = int(time.Hour / provenRetry) // it proves its key each time: it may be the true one
			}
			if n := bytes.Count(g.reader.commands, []byte{osdp.CmdChlng}) - challenges; n > most {
				t.Errorf("%d challenges in an hour", n)
			}
			g.wantEvents()
			if g.reader.defaults > 0 {
				t.Error("the default key was used without an order")
			}
			// The right one is back: it was without power, or is asked within ten minutes.
			g.reader.downcast, g.reader.noAES, g.reader.key = false, false, ownKey()
			g.reader.reboot()
			g.reader.deaf = true
			g.run(int(silence/g.spec.Every) + 2)
			g.reader.deaf = false
			g.run(10)
			g.wantState(Secure)
		})
	}
}

func TestARestartedGatewayKnowsThatAReaderWasInstalled(t *testing.T) {
	g := secureRig(t)
	g.reader.noAES, g.reader.key = true, nil
	g.restart()
	g.run(10)
	g.wantState(Fallback)
}

func TestASpoiltMACIsNoAnswerAndManyEndTheSession(t *testing.T) {
	g := secureRig(t)
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	spoil := func(_ byte, b []byte) []byte {
		f, err := osdp.Parse(b)
		if err != nil || !f.Secured() {
			return b
		}
		f.MAC = []byte{f.MAC[0] ^ 1, f.MAC[1], f.MAC[2], f.MAC[3]}
		return osdp.Append(nil, &f)
	}
	g.reader.change = spoil
	for range 2 {
		if err := g.run(1); !errors.Is(err, drivers.ErrForeign) || !errors.Is(err, osdp.ErrMAC) {
			t.Fatal(err)
		}
	}
	g.reader.change = nil // twice is another's: the stored reply is still good
	if err := g.run(1); err != nil {
		t.Fatal(err)
	}
	g.wantEvents("h10301:123:4567")
	g.wantState(Secure)
	g.reader.change = spoil
	g.run(100)
	g.wantState(Fallback)
	g.reader.change = nil
	g.run(int(lastRetry / g.spec.Every))
	g.wantState(Secure)
}

func TestAnOldReplyOfTheSessionIsNotBelieved(t *testing.T) {
	g := secureRig(t)
	g.present(26, 0xBD, 0x88, 0xEB, 0x80)
	var old []byte
	var seen osdp.Frame
	g.reader.change = func(code byte, b []byte) []byte {
		if f, err := osdp.Parse(b); err == nil && code == osdp.CmdPoll && len(f.Payload) > 0 && old == nil {
			old, seen = bytes.Clone(b), f
		}
		return b
	}
	g.run(2)
	g.wantEvents("h10301:123:4567")
	if old == nil {
		t.Fatal("no reply to play back")
	}
	want := seen.Sequence()
	for range 30 { // whenever its number fits, it is played in place of the true one
		g.reader.change = func(_ byte, b []byte) []byte {
			if f, err := osdp.Parse(b); err == nil && f.Sequence() == want && f.Secured() {
				return old
			}
			return b
		}
		g.run(1)
	}
	g.wantEvents()
}

func TestAPanelThatTheReaderRefusesIsNotSecure(t *testing.T) {
	for name, change := range map[string]func(*osdp.Frame){
		"not accepted":        func(f *osdp.Frame) { f.Block = []byte{osdp.BlockRMACI, 0} },
		"another first R-MAC": func(f *osdp.Frame) { f.Payload = make([]byte, 16) },
		"short":               func(f *osdp.Frame) { f.Payload = f.Payload[:15] },
		"another reply":       func(f *osdp.Frame) { f.Code = osdp.ReplyACK },
	} {
		r := newReader(ownKey())
		r.change = func(code byte, b []byte) []byte {
			f, err := osdp.Parse(b)
			if err != nil || code != osdp.CmdSCrypt {
				return b
			}
			change(&f)
			return osdp.Append(nil, &f)
		}
		g := newRig(t, r, &vault{keys: [][]byte{ownKey()}}, nil)
		g.run(20)
		if g.state() != Fallback || g.driver.session.up {
			t.Errorf("%s: state %d", name, g.state())
		}
	}
}

func TestAnOlderKeyIsFoundAndKeptAlone(t *testing.T) {
	v := &vault{keys: [][]byte{[]byte("fedcba9876543210"), make([]byte, 3), ownKey()}}
	g := newRig(t, newReader(ownKey()), v, nil)
	g.run(10)
	g.wantState(Secure)
	if len(v.keys) != 1 || !bytes.Equal(v.keys[0], ownKey()) {
		t.Errorf("%d keys are kept", len(v.keys))
	}
}
