package osdp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPublishedFrames(t *testing.T) {
	tests := []struct {
		name  string
		frame Frame
		want  string
	}{
		{"COMSET", Frame{Address: Broadcast, Control: Control(0, true), Code: CmdComSet, Payload: []byte{0, 0x80, 0x25, 0, 0}},
			"53 7F 0D 00 04 6E 00 80 25 00 00 6E 38"},
		{"ID", Frame{Control: Control(0, true), Code: CmdID, Payload: []byte{0}}, "53 00 09 00 04 61 00 C0 66"},
		{"COMSET by checksum", Frame{Address: Broadcast, Code: CmdComSet, Payload: []byte{0, 0x80, 0x25, 0, 0}},
			"53 7F 0C 00 00 6E 00 80 25 00 00 0F"},
		{"ID by checksum", Frame{Code: CmdID, Payload: []byte{0}}, "53 00 08 00 00 61 00 44"},
		{"POLL 0", Frame{Control: Control(0, true), Code: CmdPoll}, "53 00 08 00 04 60 EB AA"},
		{"POLL 1", Frame{Control: Control(1, true), Code: CmdPoll}, "53 00 08 00 05 60 DA 99"},
		{"ACK 1", Frame{Reply: true, Control: Control(1, true), Code: ReplyACK}, "53 80 08 00 05 40 68 9F"},
		{"RAW", Frame{Reply: true, Control: Control(2, true), Code: ReplyRaw, Payload: []byte{0, 1, 0x1A, 0, 0xBD, 0x88, 0xEB, 0x80}},
			"53 80 10 00 06 50 00 01 1A 00 BD 88 EB 80 02 D4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := unhex(t, tt.want)
			if got := Append(nil, &tt.frame); !bytes.Equal(got, want) {
				t.Errorf("got % X, want % X", got, want)
			}
			f, err := Parse(want)
			if err != nil || f.Address != tt.frame.Address || f.Reply != tt.frame.Reply || f.Control != tt.frame.Control ||
				f.Code != tt.frame.Code || !bytes.Equal(f.Payload, tt.frame.Payload) || f.Block != nil || f.MAC != nil {
				t.Errorf("parsed %+v (%v)", f, err)
			}
			for i := range want {
				for bit := range 8 {
					bad := bytes.Clone(want)
					bad[i] ^= 1 << bit
					if f, err := Parse(bad); err == nil {
						t.Errorf("byte %d, bit %d: taken for %+v", i, bit, f)
					}
				}
			}
		})
	}
}

// The session of the published vector: CP random B0 to B7, PD random A0 to A7, SCBK-D.
var (
	cpRandom = []byte{0xB0, 0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7}
	pdRandom = []byte{0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7}
)

func newChannel(t testing.TB) *Channel {
	t.Helper()
	c, err := NewChannel(DefaultKey(), cpRandom)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestThePublishedSession(t *testing.T) {
	c := newChannel(t)
	check := func(name string, got []byte, want string) {
		t.Helper()
		if !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%s: %X, want %s", name, got, want)
		}
	}
	check("SCBK-D", DefaultKey(), "303132333435363738393A3B3C3D3E3F")
	pd, cp := c.PDCryptogram(pdRandom), c.CPCryptogram(pdRandom)
	first := c.Begin(cp)
	check("PD cryptogram", pd[:], "FDE5D2F428EC16312471EA3C02BD7796")
	check("CP cryptogram", cp[:], "26D3356E07762D262801FC8E6665A891")
	check("initial R-MAC", first[:], "B2A30057EB98BA2229EC1F875662B524")
	// The derived keys show by what they encrypt: the empty block.
	for name, k := range map[string]struct {
		got  func(dst, src []byte)
		want string
	}{
		"S-ENC":  {c.enc.Encrypt, "BF8DC2A8329ACB8C67C6D0CD9A451682"},
		"S-MAC1": {c.mac1.Encrypt, "5E86C676603BDEE2D8BEAFE178637332"},
		"S-MAC2": {c.mac2.Encrypt, "6FDA86E857777E81132035758239172E"},
	} {
		var got, want [16]byte
		k.got(got[:], got[:])
		newBlock(t, unhex(t, k.want)).Encrypt(want[:], want[:])
		if got != want {
			t.Errorf("%s is not %s", name, k.want)
		}
	}
}

// pair is both ends of one session.
func pair(t testing.TB) (panel, reader *Channel) {
	panel, reader = newChannel(t), newChannel(t)
	panel.Begin(panel.CPCryptogram(pdRandom))
	reader.Begin(reader.CPCryptogram(pdRandom))
	return panel, reader
}

func TestASessionCarriesWhatWasSentAndNothingElse(t *testing.T) {
	panel, reader := pair(t)
	for size := range 50 {
		payload := bytes.Repeat([]byte{0x80}, size) // what looks like padding is none
		for _, reply := range []bool{false, true} {
			from, to := panel, reader
			if reply {
				from, to = to, from
			}
			before := *to
			sent := from.Seal(nil, &Frame{Address: 5, Reply: reply, Control: Control(1, size%2 == 0), Code: 0x55, Payload: payload})
			f, err := Parse(sent)
			if err != nil || !f.Secured() {
				t.Fatalf("% X: %v", sent, err)
			}
			if size > 4 && bytes.Contains(sent, payload) {
				t.Errorf("%d bytes travel in clear: % X", size, sent)
			}
			for i := range f.MAC { // each spoilt byte shows, and costs nothing
				f.MAC[i] ^= 1
				if _, err := to.Open(&f); !errors.Is(err, ErrMAC) {
					t.Fatalf("a spoilt MAC: %v", err)
				}
				f.MAC[i] ^= 1
			}
			if to.command != before.command || to.reply != before.reply {
				t.Fatal("a spoilt frame moved the chain")
			}
			got, err := to.Open(&f)
			if err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("%d bytes, reply %v: got % X (%v)", size, reply, got, err)
			}
		}
	}
}

func TestAnOldReplyDoesNotAuthenticate(t *testing.T) {
	panel, reader := pair(t)
	exchange := func() Frame {
		command := panel.Seal(nil, &Frame{Control: Control(1, true), Code: CmdPoll})
		f, err := Parse(command)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := reader.Open(&f); err != nil {
			t.Fatal(err)
		}
		reply, err := Parse(reader.Seal(nil, &Frame{Reply: true, Control: Control(1, true), Code: ReplyRaw, Payload: []byte{1, 2, 3}}))
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	old := exchange()
	if _, err := panel.Open(&old); err != nil {
		t.Fatal(err)
	}
	exchange()
	if _, err := panel.Open(&old); !errors.Is(err, ErrMAC) {
		t.Errorf("an old reply: %v", err)
	}
	for name, f := range map[string]Frame{
		"a command":         {Block: []byte{BlockCmdMAC}, MAC: make([]byte, 4)},
		"no block":          {Reply: true},
		"block with data":   {Reply: true, Block: []byte{BlockRepMAC, 0}, MAC: make([]byte, 4)},
		"a command's block": {Reply: true, Block: []byte{BlockCmdEnc}, MAC: make([]byte, 4)},
	} {
		if _, err := panel.Open(&f); !errors.Is(err, ErrMAC) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWholeLastBlockNeedsNoPadding(t *testing.T) {
	panel, reader := pair(t)
	last := panel.reply
	panel.complement(&last)
	payload := []byte("sixteen bytes ..")
	block := bytes.Clone(payload)
	for i := range block {
		block[i] ^= panel.iv[i]
	}
	panel.enc.Encrypt(block, block)
	if got := reader.decrypt(block, &last); !bytes.Equal(got, payload) {
		t.Errorf("got %q", got)
	}
}

func TestKeysOfAWrongSizeAreRefused(t *testing.T) {
	if _, err := NewChannel(make([]byte, 15), cpRandom); err == nil {
		t.Error("a key of 15 bytes")
	}
	if _, err := NewChannel(DefaultKey(), cpRandom[:7]); err == nil {
		t.Error("a random number of 7 bytes")
	}
}

func TestAKeyThatAnybodyWouldTryIsNoSecret(t *testing.T) {
	for _, tt := range []struct {
		key  []byte
		want bool
	}{
		{DefaultKey(), true},
		{make([]byte, KeySize), true},
		{bytes.Repeat([]byte{0xFF}, KeySize), true},
		{append(make([]byte, KeySize-1), 1), false},
		{[]byte("0123456789abcdef"), false},
	} {
		if got := Guessable(tt.key); got != tt.want {
			t.Errorf("% X: %v", tt.key, got)
		}
	}
}

func TestTheFramerWaitsForItsOwnReply(t *testing.T) {
	ack := func(f Frame) []byte {
		f.Reply = true
		return Append(nil, &f)
	}
	tests := []struct {
		name string
		rx   []byte
		ok   bool
	}{
		{"its reply", ack(Frame{Address: 3, Control: Control(2, true), Code: ReplyACK}), true},
		{"by checksum", ack(Frame{Address: 3, Control: Control(2, false), Code: ReplyACK}), false},
		{"busy by checksum", ack(Frame{Address: 3, Control: Control(0, false), Code: ReplyBusy}), false},
		{"NAK by checksum", ack(Frame{Address: 3, Control: Control(2, false), Code: ReplyNAK, Payload: []byte{1}}), true},
		{"a block of no size", finish([]byte{som, 3 | replyBit, 0, 0, 2 | crcBit | blockBit, 0, ReplyACK}, 0), false},
		{"a block beyond its end", finish([]byte{som, 3 | replyBit, 0, 0, 2 | crcBit | blockBit, 9, BlockRepMAC, ReplyACK}, 0), false},
		{"a session's without a MAC", finish([]byte{som, 3 | replyBit, 0, 0, 2 | crcBit | blockBit, 2, BlockRepMAC, ReplyACK}, 0), false},
		{"a session's", ack(Frame{Address: 3, Control: Control(2, true), Block: []byte{BlockRepMAC}, Code: ReplyACK, MAC: make([]byte, 4)}), true},
		{"busy", ack(Frame{Address: 3, Control: Control(0, true), Code: ReplyBusy}), true},
		{"NAK of any number", ack(Frame{Address: 3, Control: Control(1, true), Code: ReplyNAK, Payload: []byte{4}}), true},
		{"another number", ack(Frame{Address: 3, Control: Control(1, true), Code: ReplyACK}), false},
		{"another number in a session", ack(Frame{Address: 3, Control: Control(1, true), Block: []byte{BlockRepMAC}, Code: ReplyACK, MAC: make([]byte, 4)}), false},
		{"another reader", ack(Frame{Address: 4, Control: Control(2, true), Code: ReplyACK}), false},
		{"a command, perhaps its own echo", Append(nil, &Frame{Address: 3, Control: Control(2, true), Code: CmdPoll}), false},
		{"too long", []byte{0x53, 0x83, 0xFF, 0xFF, 0x06, 0x40, 0, 0}, false},
		{"too short", []byte{0x53, 0x83, 0x06, 0x00, 0x02, 0x40}, false},
		{"a mark", []byte{0xFF, 0x53}, false},
	}
	for _, tt := range tests {
		f := Framer{Address: 3, Sequence: 2, CRC: true}
		for n := 0; n < len(tt.rx); n++ {
			need, err := f.Judge(tt.rx[:n])
			if err != nil && !tt.ok {
				break
			}
			if err != nil || need <= 0 || n+need > len(tt.rx) && tt.ok {
				t.Errorf("%s, %d bytes: need %d, %v", tt.name, n, need, err)
			}
		}
		need, err := f.Judge(tt.rx)
		if tt.ok && (need != 0 || err != nil) || !tt.ok && !errors.Is(err, ErrForeign) {
			t.Errorf("%s: need %d, %v", tt.name, need, err)
		}
		if tt.ok {
			if need, err := f.Judge(append(bytes.Clone(tt.rx), 1, 2, 3)); need != -3 || err != nil {
				t.Errorf("%s and more: need %d, %v", tt.name, need, err)
			}
			tt.rx[len(tt.rx)-1] ^= 1
			if _, err := f.Judge(tt.rx); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, damaged: %v", tt.name, err)
			}
		}
	}
}

func TestReplies(t *testing.T) {
	id, err := DecodePDID(unhex(t, "01 02 03 04 05 06 07 08 09 0A 0B 0C"))
	if want := (PDID{Vendor: 0x030201, Model: 4, Version: 5, Serial: 0x09080706, Firmware: [3]byte{10, 11, 12}}); err != nil || id != want {
		t.Errorf("PDID %+v, %v", id, err)
	}
	if level, count, ok := Capability([]byte{8, 1, 0, 9, 1, 2}, CapSecurity); !ok || level != 1 || count != 2 {
		t.Errorf("capability %d %d %v", level, count, ok)
	}
	if _, _, ok := Capability([]byte{8, 1, 0, 9, 1}, CapSecurity); ok {
		t.Error("a capability that is cut off")
	}
	if tamper, power, err := DecodeLStat([]byte{1, 0}); tamper != 1 || power != 0 || err != nil {
		t.Errorf("LSTATR %d %d %v", tamper, power, err)
	}
	if reader, keys, err := DecodeKeypad([]byte{1, 2, '3', '4'}); reader != 1 || string(keys) != "34" || err != nil {
		t.Errorf("KEYPAD %d %q %v", reader, keys, err)
	}
	raw, err := DecodeRaw(unhex(t, "00 01 1A 00 BD 88 EB 80"))
	if err != nil || raw.Bits != 26 || raw.Format != 1 || !bytes.Equal(raw.Data, unhex(t, "BD88EB80")) {
		t.Errorf("RAW %+v %v", raw, err)
	}
	for name, decode := range map[string]func() error{
		"PDID":        func() error { _, err := DecodePDID(make([]byte, 11)); return err },
		"LSTATR":      func() error { _, _, err := DecodeLStat(make([]byte, 1)); return err },
		"RAW, short":  func() error { _, err := DecodeRaw([]byte{0, 1, 26}); return err },
		"RAW, bits":   func() error { _, err := DecodeRaw([]byte{0, 1, 26, 0, 1, 2, 3}); return err },
		"RAW, none":   func() error { _, err := DecodeRaw([]byte{0, 1, 0, 0}); return err },
		"KEYPAD":      func() error { _, _, err := DecodeKeypad([]byte{0, 2, '1'}); return err },
		"CCRYPT":      func() error { _, err := DecodeCCrypt(make([]byte, 31)); return err },
		"NAK, no why": func() error { _, err := DecodeNAK(nil); return err },
	} {
		if err := decode(); !errors.Is(err, ErrReply) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := NAKSequence.Error() + "; " + NAK(77).Error(); got != "NAK 4 (unexpected sequence number); NAK 77" {
		t.Error(got)
	}
}

func TestCommands(t *testing.T) {
	for name, tt := range map[string]struct {
		got  []byte
		want string
	}{
		"OUT":            {AppendOut(nil, 2, OutOnTimed, 0x0132), "02 05 32 01"},
		"LED":            {AppendLED(nil, 0, 1, Green), "00 01 01 00 00 00 00 00 00 01 01 00 02 02"},
		"LED for a time": {AppendLEDFor(nil, 0, 1, Green, 50), "00 01 02 01 00 02 02 32 00 00 00 00 00 00"},
		"BUZ":            {AppendBuz(nil, 0, ToneDefault, 5, 5, 0), "00 02 05 05 00"},
		"KEYSET":         {AppendKeySet(nil, DefaultKey()), "01 10 303132333435363738393A3B3C3D3E3F"},
	} {
		if !bytes.Equal(tt.got, unhex(t, tt.want)) {
			t.Errorf("%s: % X, want %s", name, tt.got, tt.want)
		}
	}
}

func TestASessionDoesNotAllocate(t *testing.T) {
	panel, reader := pair(t)
	var tx, rx []byte
	payload := []byte{1, 2, 3}
	ack := func() {
		tx = panel.Seal(tx[:0], &Frame{Control: Control(1, true), Code: CmdPoll})
		f, err := Parse(tx)
		if err == nil {
			_, err = reader.Open(&f)
		}
		rx = reader.Seal(rx[:0], &Frame{Reply: true, Control: Control(1, true), Code: ReplyRaw, Payload: payload})
		r, rerr := Parse(rx)
		if rerr == nil {
			_, rerr = panel.Open(&r)
		}
		if err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
	}
	ack()
	if n := testing.AllocsPerRun(100, ack); n > 0 {
		t.Errorf("an exchange allocates %v times", n)
	}
}
