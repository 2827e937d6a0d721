package sim

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// panel is a small control panel (CP): enough of one to judge a reader.
type panel struct {
	t    *testing.T
	r    station
	addr byte
	ctrl byte // ctrlCRC or 0
	seq  byte
	s    *session
}

func newPanel(t *testing.T, opts ReaderOptions) (*panel, *Reader) {
	t.Helper()
	r, err := NewReader(opts)
	if err != nil {
		t.Fatal(err)
	}
	return &panel{t: t, r: readers{opts.Address: r}, addr: opts.Address, ctrl: ctrlCRC}, r
}

// send sends a whole frame and returns the reply taken apart, false if none came.
func (p *panel) send(frame []byte) (osdpFrame, bool) {
	p.t.Helper()
	if n := p.r.split(frame); n != len(frame) {
		p.t.Fatalf("%x is split at %d", frame, n)
	}
	got := p.r.answer(frame)
	if len(got) == 0 {
		return osdpFrame{}, false
	}
	f, ok := osdpParse(got[0].bytes)
	if !ok || osdpSplit(got[0].bytes) != len(got[0].bytes) || f.addr&osdpIsReply == 0 {
		p.t.Fatalf("reply %x is no reply", got[0].bytes)
	}
	return f, true
}

// clear asks in clear with the next sequence number.
func (p *panel) clear(code byte, payload ...byte) osdpFrame {
	p.t.Helper()
	f, ok := p.send(p.frame(nil, code, payload))
	if !ok {
		p.t.Fatalf("no answer to command %02x", code)
	}
	p.step()
	return f
}

func (p *panel) frame(security []byte, code byte, payload []byte) []byte {
	return osdpBuild(p.addr, p.ctrl|p.seq, security, code, payload, nil)
}

func (p *panel) step() { p.seq = p.seq%3 + 1 }

// open makes a secure session; it returns the NAK code that refused it.
func (p *panel) open(key []byte, which byte) byte {
	p.t.Helper()
	cpRandom := newRandom()
	f, ok := p.send(p.frame([]byte{scsChallenge, which}, cmdChlng, cpRandom[:]))
	p.step()
	if !ok || f.code == repNak {
		return f.payload[0]
	}
	if f.code != repCCrypt || len(f.payload) != 32 || !bytes.Equal(f.security, []byte{scsCCrypt, which}) {
		p.t.Fatalf("CCRYPT: %+v", f)
	}
	s := newSession(key, cpRandom, [8]byte(f.payload[8:16]))
	if !bytes.Equal(f.payload[16:], s.readerCryptogram()) {
		p.t.Log("the reader holds another key")
	}
	f, _ = p.send(p.frame([]byte{scsSCrypt, which}, cmdSCrypt, s.panelCryptogram()))
	p.step()
	if f.code == repNak {
		return f.payload[0]
	}
	if f.code != repRMAC || f.security[1] != 1 {
		return nakCondition
	}
	if s.begin(); !bytes.Equal(f.payload, s.replyMAC) {
		p.t.Fatal("initial R-MAC differs")
	}
	p.s = s
	return 0
}

// sealed is the next command in the session, kept so that it can be repeated.
func (p *panel) sealed(code byte, payload ...byte) []byte {
	security := []byte{scsCommand}
	if len(payload) > 0 {
		security[0], payload = scsCommandData, p.s.encrypt(payload, p.s.replyMAC)
	}
	return osdpBuild(p.addr, p.ctrl|p.seq, security, code, payload, func(w []byte) []byte {
		p.s.commandMAC = p.s.sign(w, p.s.replyMAC)
		return p.s.commandMAC[:4]
	})
}

// unseal checks a reply in the session and returns its payload in clear.
func (p *panel) unseal(f osdpFrame) []byte {
	p.t.Helper()
	if f.security == nil {
		p.t.Fatalf("reply %02x %x came in clear", f.code, f.payload)
	}
	mac := p.s.sign(f.wire, p.s.commandMAC)
	if !bytes.Equal(mac[:4], f.mac) {
		p.t.Fatalf("MAC of reply %02x", f.code)
	}
	p.s.replyMAC = mac
	if f.security[0] == scsReply {
		return nil
	}
	out, ok := p.s.decrypt(f.payload, p.s.commandMAC)
	if !ok {
		p.t.Fatalf("reply %02x does not decrypt", f.code)
	}
	return out
}

func (p *panel) secure(code byte, payload ...byte) (byte, []byte) {
	p.t.Helper()
	f, _ := p.send(p.sealed(code, payload...))
	p.step()
	return f.code, p.unseal(f)
}

func TestOSDPFramesAreThoseOfTheFacts(t *testing.T) {
	for _, frame := range []string{
		"53 7F 0D 00 04 6E 00 80 25 00 00 6E 38",
		"53 00 09 00 04 61 00 C0 66",
		"53 7F 0C 00 00 6E 00 80 25 00 00 0F",
		"53 00 08 00 00 61 00 44",
		"53 00 08 00 04 60 EB AA",
		"53 00 08 00 05 60 DA 99",
		"53 80 08 00 05 40 68 9F",
		"53 80 10 00 06 50 00 01 1A 00 BD 88 EB 80 02 D4",
	} {
		b := unhex(t, frame)
		f, ok := osdpParse(b)
		if !ok || osdpSplit(b) != len(b) {
			t.Errorf("%s does not parse", frame)
		}
		if again := osdpBuild(f.addr, f.ctrl, nil, f.code, f.payload, nil); !bytes.Equal(again, b) {
			t.Errorf("%s is built as %x", frame, again)
		}
	}
	r, _ := NewReader(ReaderOptions{})
	r.Present(Wiegand26(123, 4567))
	line := readers{0: r}
	for _, c := range []struct{ ask, want string }{
		{"53 00 08 00 04 60 EB AA", "53 80 10 00 04 50 00 01 1A 00 BD 88 EB 80"},
		{"53 00 08 00 05 60 DA 99", "53 80 08 00 05 40 68 9F"},
	} {
		if got := line.answer(unhex(t, c.ask)); !bytes.HasPrefix(got[0].bytes, unhex(t, c.want)) {
			t.Errorf("%s is answered %x, want %s", c.ask, got[0].bytes, c.want)
		}
	}
}

func TestSecureChannelHasTheValuesOfTheFacts(t *testing.T) {
	s := newSession(defaultKey(), [8]byte(unhex(t, "B0B1B2B3B4B5B6B7")), [8]byte(unhex(t, "A0A1A2A3A4A5A6A7")))
	s.begin()
	for what, v := range map[string]struct {
		got  []byte
		want string
	}{
		"reader cryptogram": {s.readerCryptogram(), "FDE5D2F428EC16312471EA3C02BD7796"},
		"panel cryptogram":  {s.panelCryptogram(), "26D3356E07762D262801FC8E6665A891"},
		"initial R-MAC":     {s.replyMAC, "B2A30057EB98BA2229EC1F875662B524"},
	} {
		if !bytes.Equal(v.got, unhex(t, v.want)) {
			t.Errorf("%s %X, want %s", what, v.got, v.want)
		}
	}
}

func TestSequenceRules(t *testing.T) {
	p, r := newPanel(t, ReaderOptions{})
	p.seq = 2
	if f := p.clear(cmdPoll); f.code != repNak || f.payload[0] != nakSequence {
		t.Errorf("a reader just switched on took sequence 2: %+v", f)
	}
	p.seq = 0
	r.SetTamper(true)
	p.clear(cmdID, 0)
	poll := p.frame(nil, cmdPoll, nil)
	first, _ := p.send(poll)
	again, _ := p.send(poll)
	if first.code != repLStat || !bytes.Equal(first.wire, again.wire) {
		t.Errorf("a repeated poll brings %x after %x", again.wire, first.wire)
	}
	p.step()
	if f := p.clear(cmdPoll); f.code != repAck {
		t.Errorf("the event came twice: %+v", f)
	}
	p.seq = 1
	if f := p.clear(cmdPoll); f.payload[0] != nakSequence {
		t.Errorf("sequence 1 after 2: %+v", f)
	}
	r.SetFault(Fault{Busy: true, Requests: 1})
	p.seq = 3
	if f, _ := p.send(p.frame(nil, cmdPoll, nil)); f.code != repBusy || f.ctrl&ctrlSequence != 0 {
		t.Errorf("busy: %+v", f)
	}
	if f := p.clear(cmdPoll); f.code != repAck {
		t.Errorf("the same number after BUSY: %+v", f)
	}
}

func TestALostReplyIsBroughtByTheRepeatedCommand(t *testing.T) {
	p, r := newPanel(t, ReaderOptions{})
	p.clear(cmdPoll)
	r.Type("12#")
	r.SetFault(Fault{Lost: true, Requests: 1})
	poll := p.frame(nil, cmdPoll, nil)
	if f, ok := p.send(poll); ok {
		t.Errorf("the lost reply came: %+v", f)
	}
	if f, _ := p.send(poll); f.code != repKeypad || string(f.payload) != "\x00\x0312\r" {
		t.Errorf("repeated: %+v", f)
	}
}

func TestAReaderWithoutCRCAsksForChecksums(t *testing.T) {
	p, _ := newPanel(t, ReaderOptions{Checksum: true})
	if f := p.clear(cmdPoll); f.code != repNak || f.payload[0] != nakCheck || f.ctrl&ctrlCRC != 0 {
		t.Errorf("CRC: %+v", f)
	}
	p.ctrl, p.seq = 0, 0
	if f := p.clear(cmdPoll); f.code != repAck || f.ctrl&ctrlCRC != 0 {
		t.Errorf("checksum: %+v", f)
	}
}

func TestCommandsAreObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, r := newPanel(t, ReaderOptions{Serial: 0x01020304, Inputs: 2, Outputs: 2})
		if f := p.clear(cmdID, 0); !bytes.Equal(f.payload, unhex(t, "CA446C 01 01 04030201 010000")) {
			t.Errorf("ID %x", f.payload)
		}
		if f := p.clear(cmdCap, 0); len(f.payload)%3 != 0 || !bytes.Contains(f.payload, []byte{9, 1, 0}) {
			t.Errorf("CAP %x", f.payload)
		}
		r.SetInput(1, true)
		if f := p.clear(cmdPoll); f.code != repIStat || !bytes.Equal(f.payload, []byte{0, 1}) {
			t.Errorf("input event %+v", f)
		}
		if f := p.clear(cmdIStat); !bytes.Equal(f.payload, []byte{0, 1}) {
			t.Errorf("ISTAT %+v", f)
		}
		p.clear(cmdOut, 0, 2, 0, 0, 1, 5, 20, 0)
		if f := p.clear(cmdOStat); !bytes.Equal(f.payload, []byte{1, 1}) {
			t.Errorf("OSTAT %+v", f)
		}
		<-time.After(3 * time.Second) // the bubble's clock
		if f := p.clear(cmdOStat); !bytes.Equal(f.payload, []byte{1, 0}) || r.Output(1) {
			t.Errorf("OSTAT after the timer %+v", f)
		}
		led := make([]byte, 14)
		led[2] = 2
		if f := p.clear(cmdLED, led...); f.code != repAck || !bytes.Equal(r.Commanded(cmdLED), led) {
			t.Errorf("LED %+v, %x", f, r.Commanded(cmdLED))
		}
		for _, c := range []struct {
			code, why byte
			payload   []byte
		}{
			{cmdLED, nakLength, led[:13]}, {cmdOut, nakLength, []byte{7, 2, 0, 0}}, {cmdBuz, nakLength, nil},
			{0x6E, nakUnknown, []byte{1}}, {cmdKeySet, nakCondition, make([]byte, 18)},
		} {
			if f := p.clear(c.code, c.payload...); f.code != repNak || f.payload[0] != c.why {
				t.Errorf("command %02x %x: %+v, want NAK %d", c.code, c.payload, f, c.why)
			}
		}
		r.SetFault(Fault{Refuse: 9, Requests: 1})
		if f := p.clear(cmdPoll); f.code != repNak || f.payload[0] != 9 {
			t.Errorf("injected NAK: %+v", f)
		}
	})
}

func TestASecureSessionFromInstallationToTheOwnKey(t *testing.T) {
	p, r := newPanel(t, ReaderOptions{Secure: true, Install: true, Outputs: 1})
	p.clear(cmdID, 0)
	r.Present(Wiegand26(123, 4567))
	if f := p.clear(cmdPoll); f.code != repAck {
		t.Errorf("a card was reported in clear: %+v", f)
	}
	if f := p.clear(cmdOut, 0, 2, 0, 0); f.code != repNak || f.payload[0] != nakCondition || r.Output(0) {
		t.Errorf("OUT in clear: %+v", f)
	}
	if why := p.open(defaultKey(), 1); why != nakCondition {
		t.Errorf("a session with a key that was never set: NAK %d", why)
	}
	if why := p.open(defaultKey(), 0); why != 0 {
		t.Fatalf("a session with SCBK-D: NAK %d", why)
	}
	key := unhex(t, "000102030405060708090A0B0C0D0E0F")
	if code, _ := p.secure(cmdKeySet, append([]byte{1, 16}, key...)...); code != repAck || !bytes.Equal(r.Key(), key) {
		t.Fatalf("KEYSET: %02x, the reader holds %x", code, r.Key())
	}
	if why := p.open(defaultKey(), 0); why != nakCondition {
		t.Errorf("SCBK-D after the installation: NAK %d", why)
	}
	if why := p.open(make([]byte, 16), 1); why == 0 || r.Secure() {
		t.Errorf("a session with a wrong key: NAK %d", why)
	}
	p.seq = 0
	if why := p.open(key, 1); why != 0 {
		t.Fatalf("a session with the own key: NAK %d", why)
	}
	if code, got := p.secure(cmdPoll); code != repRaw || !bytes.Equal(got, unhex(t, "00 01 1A00 BD88EB80")) {
		t.Errorf("the card: %02x %x", code, got)
	}
	if code, _ := p.secure(cmdOut, 0, 2, 0, 0); code != repAck || !r.Output(0) {
		t.Errorf("OUT: %02x", code)
	}
	poll := p.sealed(cmdPoll)
	first, _ := p.send(poll)
	if again, _ := p.send(poll); !bytes.Equal(first.wire, again.wire) || p.unseal(again) != nil {
		t.Errorf("repeated in the session: %x after %x", again.wire, first.wire)
	}
	p.step()
	r.SetFault(Fault{Busy: true, Requests: 1})
	poll = p.sealed(cmdPoll)
	p.send(poll)
	if f, _ := p.send(poll); f.code != repAck || p.unseal(f) != nil {
		t.Errorf("after BUSY: %+v", f)
	}
	p.step()
	spoilt := p.sealed(cmdPoll)
	spoilt[8] ^= 1 // the MAC
	spoilt = spoilt[:len(spoilt)-2]
	crc := crc16CCITT(spoilt)
	if f, _ := p.send(append(spoilt, byte(crc), byte(crc>>8))); f.code != repNak || f.payload[0] != nakCondition || r.Secure() {
		t.Errorf("a wrong MAC: %+v", f)
	}
}

func TestADowngradeAnswersInClear(t *testing.T) {
	key := make([]byte, 16)
	p, r := newPanel(t, ReaderOptions{Secure: true, Key: key})
	if why := p.open(key, 1); why != 0 {
		t.Fatalf("NAK %d", why)
	}
	r.SetFault(Fault{Clear: true})
	r.Present(RawCard([]byte{1, 2, 3, 4}))
	f, _ := p.send(p.sealed(cmdPoll))
	if f.security != nil || f.code != repRaw || !bytes.Equal(f.payload, []byte{0, 0, 32, 0, 1, 2, 3, 4}) {
		t.Errorf("downgraded: %+v", f)
	}
}

func TestPlainReadersKnowNoSecureChannel(t *testing.T) {
	p, _ := newPanel(t, ReaderOptions{Plain: true})
	if why := p.open(defaultKey(), 0); why != nakUnsupported {
		t.Errorf("NAK %d", why)
	}
	if _, err := NewReader(ReaderOptions{Address: 127, Plain: true, Secure: true, Key: []byte{1}, Inputs: 99}); err == nil {
		t.Error("wrong options were taken")
	}
}

func TestCardFormats(t *testing.T) {
	for want, c := range map[string]Card{
		"bd88eb80":   Wiegand26(123, 4567),
		"c000000040": Wiegand34(1 << 31),
		"00000001c0": Wiegand34(3),
		"c000000008": Wiegand37(1 << 34),
		"8000200000": Wiegand37(1 << 17), // the bit that both parities share
	} {
		if got := hex.EncodeToString(c.Raw); got != want || !c.Wiegand {
			t.Errorf("%d bits: %s, want %s", c.Bits, got, want)
		}
	}
	for _, s := range []Swipe{{}, {Format: 26, Number: 70000}, {Format: 34, Facility: 1}, {Raw: "0"}, {Raw: "01", Format: 26}, {Format: 30}} {
		if c, err := s.Card(); err == nil {
			t.Errorf("%+v is card %+v", s, c)
		}
	}
	if c, err := (Swipe{Raw: "04A1B2C3"}).Card(); err != nil || c.Wiegand || c.Bits != 32 {
		t.Errorf("a UID: %+v, %v", c, err)
	}
}

// pipeLine opens devices on an end in memory and returns the other.
func pipeLine(t *testing.T, devices ...Device) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	l, err := Open(Place{Stream: far}, Server{}, nil, devices...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return near
}

func TestSeveralReadersShareALine(t *testing.T) {
	var devices []Device
	for _, addr := range []byte{0, 1} {
		r, err := NewReader(ReaderOptions{Address: addr})
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, r)
	}
	conn := pipeLine(t, devices...)
	for _, addr := range []byte{1, 0, 1} {
		// Noise, a frame for nobody and a broadcast bring nothing.
		for _, nobody := range []byte{5, osdpBroadcast} {
			conn.Write(append([]byte{0x53, 0x00, 0xFF}, osdpBuild(nobody, ctrlCRC, nil, cmdPoll, nil, nil)...))
		}
		conn.Write(append([]byte{osdpMark}, osdpBuild(addr, ctrlCRC, nil, cmdPoll, nil, nil)...))
		got := make([]byte, 8)
		if _, err := io.ReadFull(conn, got); err != nil || got[1] != addr|osdpIsReply {
			t.Errorf("reader %d: %x, %v", addr, got, err)
		}
	}
	other, _ := NewReader(ReaderOptions{})
	if _, err := Open(Place{}, Server{}, nil, devices[0], other); err == nil {
		t.Error("two readers of one address share a line")
	}
	meter, _ := NewMeter(MeterOptions{Address: "000000000001"})
	if _, err := Open(Place{}, Server{}, nil, other, meter); err == nil {
		t.Error("a reader and a meter share a line")
	}
}

func FuzzOSDP(f *testing.F) {
	for _, s := range []string{"5300080004 60 EBAA", "53000900046100C066", "FF5300080000610044", "53000B000C0311006001020304"} {
		b, _ := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
		f.Add(b)
	}
	good := osdpBuild(0, ctrlCRC, nil, cmdPoll, nil, nil)
	f.Fuzz(func(t *testing.T, noise []byte) {
		r, err := NewReader(ReaderOptions{Install: true, Outputs: 1})
		if err != nil {
			t.Fatal(err)
		}
		var out replies
		e := &end{line: &Line{station: readers{0: r}}, rw: &out}
		if rest := e.consume(slices.Clone(noise)); len(rest) >= osdpMax {
			t.Errorf("%d bytes are kept as a frame that may come", len(rest))
		}
		e.consume(slices.Clone(good)) // after silence
		for rest := out.Bytes(); len(rest) > 0; {
			n := osdpSplit(rest)
			if n <= 0 {
				t.Fatalf("a reply is broken: %x", rest)
			}
			if rest = rest[n:]; len(rest) == 0 && r.last != 0 {
				t.Error("a good command after noise is not obeyed")
			}
		}
		if out.Len() == 0 {
			t.Error("a good command after noise is not answered")
		}
	})
}
