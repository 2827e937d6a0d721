package osdp

import (
	"testing"

	"gatehouse/protocol/osdp"
	"gatehouse/protocol/point"
)

// forged is a reading that only a reader which has proven its key may give.
func forged(r point.Reading) bool {
	switch r.Point {
	case "d/card", "d/pin":
		return true
	case "d/in0", "d/in1":
		return r.Quality == point.Good
	case "d/tamper", "d/power":
		return r.Quality == point.Good && !r.Value.On()
	}
	return false
}

// FuzzReader: whatever an installed reader says in clear text, however it is
// asked, it is no card, no code, no contact and no confirmed output; without a
// session an alarm stands, and the panel is there for the true one.
func FuzzReader(f *testing.F) {
	f.Add([]byte{osdp.ReplyPDID, 0, osdp.ReplyPDCAP, 3, 9, 1, 1, osdp.ReplyRaw, 8, 0, 1, 26, 0, 0xBD, 0x88, 0xEB, 0x80})
	f.Add([]byte{osdp.ReplyNAK, 1, 5, osdp.ReplyNAK, 1, 4, osdp.ReplyBusy, 0, osdp.ReplyKeypad, 4, 0, 2, '1', '#'})
	f.Add([]byte{osdp.ReplyACK, 0, osdp.ReplyACK, 0, osdp.ReplyLStat, 2, 1, 1, osdp.ReplyIStat, 1, 1})
	f.Add([]byte{osdp.ReplyACK, 0, osdp.ReplyLStat, 2, 0, 0, osdp.ReplyIStat, 2, 0, 0, osdp.ReplyACK, 0, osdp.ReplyOStat, 1, 1, osdp.ReplyACK, 0})
	f.Add([]byte{osdp.ReplyNAK, 1, 4, osdp.ReplyNAK, 1, 4, osdp.ReplyNAK, 1, 4, osdp.ReplyNAK, 1, 4, osdp.ReplyNAK, 1, 4, osdp.ReplyNAK, 1, 4})
	f.Fuzz(func(t *testing.T, script []byte) {
		g := newRig(t, newReader(ownKey()), &vault{keys: [][]byte{ownKey()}}, nil)
		g.run(7)
		rest := script
		g.reader.change = func(_ byte, b []byte) []byte {
			if len(rest) < 2 {
				return b
			}
			n := min(int(rest[1]), len(rest)-2)
			sent, err := osdp.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			reply := osdp.Frame{Address: sent.Address, Reply: true, Control: sent.Control, Code: rest[0], Payload: rest[2 : 2+n]}
			if rest[0] == osdp.ReplyCCrypt || rest[0] == osdp.ReplyRMACI {
				reply.Block = []byte{rest[0]&0x0F | 0x10, 1}
			}
			rest = rest[2+n:]
			return osdp.Append(nil, &reply)
		}
		emit := func(r point.Reading) {
			if len(rest) >= 2 && forged(r) {
				t.Fatalf("%v was believed", r)
			}
			g.take(r)
		}
		for n := 0; len(rest) >= 2; n++ {
			g.clock = g.clock.Add(g.spec.Every)
			if n%3 == 2 {
				if err := g.driver.Write(t.Context(), "d/strike", point.Truth(true)); err == nil && len(rest) >= 2 {
					t.Fatal("an output was confirmed in clear text")
				}
			}
			g.driver.Do(t.Context(), 0, emit)
			d := g.driver
			if d.phase == phaseOnline && !d.session.up && d.state != Fallback {
				t.Fatalf("without a session the state is %d", d.state)
			}
			if r := g.last["d/secure"]; r.At.Equal(g.clock) && (int(r.Value.Num) == Fallback) != g.last["d/lost"].Value.On() {
				t.Fatalf("state %v, and secure_lost is %v", r.Value, g.last["d/lost"].Value)
			}
		}
		if len(g.events) > 0 {
			t.Fatalf("%v was believed", g.events)
		}
		g.reader.change = nil
		g.reader.reboot()
		g.reader.deaf = true
		g.run(50)
		g.reader.deaf = false
		g.run(10)
		g.wantState(Secure)
	})
}
