package osdp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"testing"
)

func newBlock(t testing.TB, key []byte) cipher.Block {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzParse: what is taken apart can be put together again, to the same bytes;
// the framer takes each reply whole and no prefix of it.
func FuzzParse(f *testing.F) {
	f.Add(Append(nil, &Frame{Reply: true, Control: Control(2, true), Code: ReplyRaw, Payload: []byte{0, 1, 26, 0, 1, 2, 3, 4}}))
	f.Add(Append(nil, &Frame{Address: 7, Block: []byte{BlockChlng, 1}, Code: CmdChlng, Payload: make([]byte, 8)}))
	f.Add(Append(nil, &Frame{Address: 7, Reply: true, Block: []byte{BlockRepMAC}, Code: ReplyACK, MAC: make([]byte, 4)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Almost no bytes have the right check value: they get one.
		if len(b) >= smallest && len(b) <= MaxFrame {
			fixed := bytes.Clone(b[:len(b)-tail(b[4])])
			fixed[0] = som
			if len(fixed) >= headSize {
				b = finish(fixed, 0)
			}
		}
		frame, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatal(err)
			}
			return
		}
		if again := Append(nil, &frame); !bytes.Equal(again, b) {
			t.Fatalf("% X became % X", b, again)
		}
		if !frame.Reply {
			return
		}
		judge := Framer{Address: frame.Address, Sequence: frame.Sequence(), CRC: frame.CRC()}
		for n := range b {
			if need, err := judge.Judge(b[:n]); err != nil || need <= 0 || n+need > len(b) {
				t.Fatalf("% X: %d bytes need %d, %v", b, n, need, err)
			}
		}
		if need, err := judge.Judge(b); need != 0 || err != nil {
			t.Fatalf("% X: need %d, %v", b, need, err)
		}
	})
}

// FuzzJudge: a framer takes only what Parse takes too, of its own reader.
func FuzzJudge(f *testing.F) {
	f.Add(byte(0), byte(1), true, Append(nil, &Frame{Reply: true, Control: Control(1, true), Code: ReplyACK}))
	f.Add(byte(0), byte(1), false, Append(nil, &Frame{Reply: true, Code: ReplyBusy}))
	f.Add(byte(0), byte(1), true, finish([]byte{som, replyBit, 0, 0, 1 | crcBit | blockBit, 9, BlockRepMAC, ReplyACK}, 0))
	f.Fuzz(func(t *testing.T, address, sequence byte, crc bool, rx []byte) {
		judge := Framer{Address: address & 0x7F, Sequence: sequence & seqMask, CRC: crc}
		if len(rx) >= smallest && len(rx) <= MaxFrame && sequence > seqMask {
			// Almost no bytes have the right check value: these get one.
			if n := len(rx) - tail(rx[4]); n >= headSize {
				rx = finish(bytes.Clone(rx[:n]), 0)
			}
		}
		need, err := judge.Judge(rx)
		if err != nil {
			if !errors.Is(err, ErrForeign) {
				t.Fatal(err)
			}
			return
		}
		if need > MaxFrame {
			t.Fatalf("needs %d more", need)
		}
		if need > 0 {
			return
		}
		frame, err := Parse(rx[:len(rx)+need])
		if err != nil {
			t.Fatalf("took % X, which is no frame: %v", rx[:len(rx)+need], err)
		}
		refusal := frame.Code == ReplyNAK
		numbered := frame.Sequence() == judge.Sequence || frame.Code == ReplyBusy && frame.Sequence() == 0
		if !frame.Reply || frame.Address != judge.Address || !refusal && (!numbered || frame.CRC() != judge.CRC) {
			t.Fatalf("took %+v", frame)
		}
	})
}

// FuzzReplies: no payload is taken for what its size cannot be.
func FuzzReplies(f *testing.F) {
	f.Add([]byte{0, 1, 26, 0, 1, 2, 3, 4})
	f.Add([]byte{0, 2, '1', '2'})
	f.Add([]byte{8, 1, 0, 9, 1, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		if r, err := DecodeRaw(p); err == nil && (r.Bits > 8*len(r.Data) || r.Bits <= 8*(len(r.Data)-1) || len(p) != 4+len(r.Data)) {
			t.Fatalf("%+v", r)
		}
		if _, keys, err := DecodeKeypad(p); err == nil && len(keys) != int(p[1]) {
			t.Fatalf("% X: %d keys", p, len(keys))
		}
		if _, err := DecodePDID(p); (err == nil) != (len(p) == 12) {
			t.Fatal(err)
		}
		if _, _, err := DecodeLStat(p); (err == nil) != (len(p) == 2) {
			t.Fatal(err)
		}
		if c, err := DecodeCCrypt(p); err == nil && !bytes.Equal(append(append(c.ClientUID[:], c.Random[:]...), c.Cryptogram[:]...), p) {
			t.Fatal("not what was there")
		}
		if reason, err := DecodeNAK(p); (err == nil) != (len(p) > 0) || err == nil && byte(reason) != p[0] {
			t.Fatalf("% X: %v, %v", p, reason, err)
		}
		for function := range byte(20) {
			compliance, count, ok := Capability(p, function)
			listed := false
			for at := 0; at+3 <= len(p) && !listed; at += 3 {
				listed = p[at] == function
				if listed && (!ok || compliance != p[at+1] || count != p[at+2]) {
					t.Fatalf("% X: function %d: %d, %d, %v", p, function, compliance, count, ok)
				}
			}
			if ok != listed {
				t.Fatalf("% X: function %d is listed: %v", p, function, ok)
			}
		}
	})
}
