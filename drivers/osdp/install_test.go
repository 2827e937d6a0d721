package osdp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/protocol/osdp"
)

func (g *rig) logTo(w io.Writer) { g.driver.log = slog.New(slog.NewTextHandler(w, nil)) }

// order opens an install window.
func (g *rig) order() {
	g.t.Helper()
	if err := g.driver.Command(g.t.Context(), "install"); !errors.Is(err, drivers.ErrUnderway) {
		g.t.Fatal(err)
	}
}

const installed = "the reader is installed"

func TestAKeyChangeIsNoWayInForAnotherReader(t *testing.T) {
	refuse := func(_ byte, b []byte) []byte {
		f, err := osdp.Parse(b)
		if err != nil {
			panic(err)
		}
		return clearReply(&f, osdp.ReplyNAK, byte(osdp.NAKCondition))
	}
	for name, before := range map[string]func(*rig){
		"swapped after the order": func(g *rig) { g.order() },
		"a poll outstanding": func(g *rig) {
			g.run(100)
			g.reader.mute = true
			g.run(3)
			g.order()
		},
		"between two sessions": func(g *rig) {
			g.run(100)
			g.reader.change = refuse
			g.run(1)
			g.order()
		},
		"while it is away": func(g *rig) {
			g.reader.deaf = true
			g.run(60)
			g.order()
		},
		"after a start of the gateway": func(g *rig) {
			g.restart()
			g.order()
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := secureRig(t)
			before(g)
			other := newReader(nil)
			other.setup, other.last = true, g.reader.last
			g.reader = other
			alarmed := false
			for range 200 {
				g.run(1)
				alarmed = alarmed || g.state() == Fallback
			}
			g.wantState(Fallback)
			g.wantNothingBelieved()
			if !alarmed || other.defaults > 0 || other.key != nil || !bytes.Equal(g.vault.keys[len(g.vault.keys)-1], ownKey()) {
				t.Errorf("told: %v, %d sessions by the default key, the true one's key is lost", alarmed, other.defaults)
			}
			// Who looks at it and orders again means this reader.
			g.order()
			g.run(20)
			g.wantState(Secure)
			if other.defaults != 1 || !bytes.Equal(g.vault.keys[0], other.key) {
				t.Errorf("%d sessions by the default key", other.defaults)
			}
		})
	}
}

func TestAnOrderIsForTheReaderThatProvesItsKeyFirst(t *testing.T) {
	g := secureRig(t)
	mine := g.reader
	g.reader = newReader(nil)
	g.run(60)
	g.wantState(Fallback)
	g.order() // and the true one is back before another can use it
	g.reader = mine
	mine.reboot()
	mine.instead[osdp.CmdKeySet] = []byte{osdp.ReplyACK} // it keeps its key: the order stays open
	g.run(20)
	g.wantState(Secure)
	if !g.driver.install.open(g.clock) {
		t.Fatal("the order has ended")
	}
	g.reader = newReader(nil)
	g.reader.setup = true
	g.run(100)
	g.wantState(Fallback)
	if g.reader.defaults > 0 {
		t.Error("the default key was taken in place of a proven one")
	}
}

func TestThatTheDefaultKeyReplacesAnOwnOneIsLoggedAndTold(t *testing.T) {
	var log bytes.Buffer
	g := secureRig(t)
	g.logTo(&log)
	g.reader.reboot()
	g.reader.key, g.reader.setup = nil, true
	g.run(20)
	g.wantState(Fallback)
	g.order()
	var told []int
	for range 20 {
		g.run(1)
		told = append(told, g.state())
	}
	if told[0] != Fallback || !strings.Contains(log.String(), "it is taken for another") {
		t.Errorf("states %v, log:\n%s", told, &log)
	}
	g.wantState(Secure)
}

func TestAKeyThatEverybodyKnowsIsNoProof(t *testing.T) {
	for _, key := range [][]byte{osdp.DefaultKey(), make([]byte, osdp.KeySize)} {
		g := newRig(t, newReader(key), &vault{keys: [][]byte{key}}, nil)
		g.run(20)
		g.wantState(Fallback)
		g.wantNothingBelieved()
	}
}

// tap is a link that shows what is sent.
type tap struct {
	drivers.Link
	sent func(tx []byte)
}

func (l tap) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	l.sent(tx)
	return l.Link.Exchange(ctx, tx, f)
}

func TestNothingIsSentByTheDefaultKeyAfterTheWindow(t *testing.T) {
	for _, deafTo := range []byte{osdp.CmdChlng, osdp.CmdSCrypt} {
		r := newReader(nil)
		r.setup = true
		g := newRig(t, r, &vault{}, nil)
		g.run(10)
		g.order()
		closes := g.driver.install.until
		r.deaf = true
		g.clock = closes.Add(-9 * time.Second)
		g.run(1)
		r.deaf = false
		g.clock = closes.Add(-1100 * time.Millisecond)
		early := 0
		g.driver.link = tap{g.driver.link, func(tx []byte) {
			f, err := osdp.Parse(tx)
			if err != nil || len(f.Block) != 2 || f.Block[1] != osdp.KeyDefault {
				return
			}
			if g.clock.Before(closes) {
				early++
			} else {
				t.Errorf("command %02X by the default key, %v after the window", f.Code, g.clock.Sub(closes))
			}
		}}
		r.change = func(code byte, b []byte) []byte {
			if code == deafTo && g.clock.Before(closes) {
				return nil
			}
			return b
		}
		for range 20 {
			g.run(1)
			if g.driver.session.byDefault() && !g.clock.Before(closes) {
				t.Errorf("a session by the default key, %v after the window", g.clock.Sub(closes))
			}
		}
		if early == 0 {
			t.Error("the default key was not tried at all")
		}
		g.wantState(NotInstalled)
	}
}

func TestARefusedKeyIsNotToldAsInstalled(t *testing.T) {
	for reason := osdp.NAKCheck; reason <= osdp.NAKRecord; reason++ {
		var log bytes.Buffer
		g := secureRig(t)
		g.logTo(&log)
		g.reader.nak[osdp.CmdKeySet] = byte(reason)
		g.order()
		g.run(20)
		g.reader.reboot()
		g.run(60)
		g.wantState(Secure)
		if strings.Contains(log.String(), installed) || !strings.Contains(log.String(), "refuses a new key") {
			t.Errorf("%v:\n%s", reason, &log)
		}
		if len(g.vault.keys) != 1 || !bytes.Equal(g.vault.keys[0], ownKey()) {
			t.Errorf("%v: %d keys are kept", reason, len(g.vault.keys))
		}
	}
}

func TestAKeyThatDidNotArriveIsNotToldAsInstalledAndSentAgain(t *testing.T) {
	var log bytes.Buffer
	g := secureRig(t)
	g.logTo(&log)
	g.order()
	g.reader.deaf = true
	g.run(50)
	g.reader.deaf = false
	g.run(20)
	g.wantState(Secure)
	if strings.Contains(log.String(), installed) || !strings.Contains(log.String(), "did not arrive") || !bytes.Equal(g.reader.key, ownKey()) {
		t.Errorf("the reader never got the key, and the log says:\n%s", &log)
	}
	if !g.driver.install.open(g.clock) {
		t.Error("the order has ended")
	}
	g.run(int(keyRetry / g.spec.Every))
	g.wantState(Secure)
	if !strings.Contains(log.String(), installed) || bytes.Equal(g.reader.key, ownKey()) || !bytes.Equal(g.vault.keys[0], g.reader.key) || len(g.vault.keys) != 1 {
		t.Errorf("%d keys are kept; the log says:\n%s", len(g.vault.keys), &log)
	}
}

// A reader that says yes and keeps its key wears nobody's flash out.
func TestAKeyThatIsNeverTakenIsTriedOnceAMinute(t *testing.T) {
	g := secureRig(t)
	g.reader.instead[osdp.CmdKeySet] = []byte{osdp.ReplyACK}
	settled := g.vault.settled
	g.order()
	g.run(int(2 * installWindow / g.spec.Every))
	g.wantState(Secure)
	if n := g.vault.settled - settled; n < 2 || n > int(installWindow/keyRetry) {
		t.Errorf("tried %d times", n)
	}
}

func TestAKeyThatIsPutOffIsSentAgain(t *testing.T) {
	g := secureRig(t)
	g.reader.instead[osdp.CmdKeySet] = []byte{osdp.ReplyBusy}
	g.order()
	g.run(5)
	if n := len(g.vault.keys); n != 2 {
		t.Errorf("%d keys are kept, want the old one and the new one", n)
	}
	clear(g.reader.instead)
	g.run(10)
	g.wantState(Secure)
	if len(g.vault.keys) != 1 || !bytes.Equal(g.vault.keys[0], g.reader.key) || bytes.Equal(g.reader.key, ownKey()) {
		t.Error("the reader has not the new key")
	}
}

func TestAReaderThatRefusesAKeyIsAsBefore(t *testing.T) {
	for _, allow := range []bool{false, true} {
		for reason := osdp.NAKLength; reason <= osdp.NAKRecord; reason++ {
			r := newReader(nil)
			r.setup = true
			r.nak[osdp.CmdKeySet] = byte(reason)
			g := newRig(t, r, &vault{}, func(s *drivers.Spec) { s.AllowClear = allow })
			want := NotInstalled
			if allow {
				want = Clear
			}
			g.run(10)
			g.wantState(want)
			g.order()
			g.run(100)
			g.wantState(want)
			r.reboot()
			g.restart()
			g.run(20)
			g.wantState(want)
			if len(g.vault.keys) != 0 || r.defaults != 1 {
				t.Errorf("%v: %d keys, %d sessions by the default key", reason, len(g.vault.keys), r.defaults)
			}
		}
	}
}
