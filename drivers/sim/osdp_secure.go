package sim

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"slices"
)

// Types of security block (OSDP v2.2, secure channel).
const (
	scsChallenge   = 0x11
	scsCCrypt      = 0x12
	scsSCrypt      = 0x13
	scsRMAC        = 0x14
	scsCommand     = 0x15
	scsReply       = 0x16
	scsCommandData = 0x17
	scsReplyData   = 0x18
)

// defaultKey is SCBK-D, which everybody knows.
func defaultKey() []byte {
	return []byte{0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F}
}

// session is one secure channel, of either side.
type session struct {
	byDefault        bool // opened with SCBK-D
	cpRandom, random [8]byte
	enc, mac1, mac2  cipher.Block
	commandMAC       []byte // C-MAC, the last of a command
	replyMAC         []byte // R-MAC, the last of a reply
	open             bool
}

// newSession derives the session's keys.
func newSession(key []byte, cpRandom, random [8]byte) *session {
	s := &session{cpRandom: cpRandom, random: random}
	base := block(key)
	derive := func(prefix byte) cipher.Block {
		var b [16]byte
		b[0], b[1] = 0x01, prefix
		copy(b[2:8], cpRandom[:6])
		base.Encrypt(b[:], b[:])
		return block(b[:])
	}
	s.enc, s.mac1, s.mac2 = derive(0x82), derive(0x01), derive(0x02)
	return s
}

func block(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // every key here is 16 bytes: options and KEYSET check theirs
	}
	return b
}

func newRandom() (r [8]byte) {
	_, _ = rand.Read(r[:]) // never fails
	return r
}

// readerCryptogram proves the reader's key, panelCryptogram the panel's.
func (s *session) readerCryptogram() []byte { return s.cryptogram(s.cpRandom, s.random) }

func (s *session) panelCryptogram() []byte { return s.cryptogram(s.random, s.cpRandom) }

func (s *session) cryptogram(a, b [8]byte) []byte {
	out := slices.Concat(a[:], b[:])
	s.enc.Encrypt(out, out)
	return out
}

// begin opens the session with the initial R-MAC.
func (s *session) begin() {
	mac := s.panelCryptogram()
	s.mac1.Encrypt(mac, mac)
	s.mac2.Encrypt(mac, mac)
	s.replyMAC, s.open = mac, true
}

// sign returns the 16 bytes of the MAC over data that follows the MAC iv.
func (s *session) sign(data, iv []byte) []byte {
	if len(data)%16 != 0 {
		data = pad(data)
	}
	mac := slices.Clone(iv)
	for i := 0; i < len(data); i += 16 {
		subtle.XORBytes(mac, mac, data[i:i+16])
		if i+16 == len(data) {
			s.mac2.Encrypt(mac, mac)
		} else {
			s.mac1.Encrypt(mac, mac)
		}
	}
	return mac
}

func (s *session) encrypt(payload, lastMAC []byte) []byte {
	out := pad(payload)
	cipher.NewCBCEncrypter(s.enc, invert(lastMAC)).CryptBlocks(out, out)
	return out
}

// decrypt returns false if nothing was padded as it must be.
func (s *session) decrypt(payload, lastMAC []byte) ([]byte, bool) {
	if len(payload) == 0 || len(payload)%16 != 0 {
		return nil, false
	}
	out := make([]byte, len(payload))
	cipher.NewCBCDecrypter(s.enc, invert(lastMAC)).CryptBlocks(out, payload)
	for i := len(out) - 1; i >= 0; i-- {
		switch out[i] {
		case 0x80:
			return out[:i], true
		case 0:
			continue
		}
		break
	}
	return nil, false
}

// pad appends 80 00 … up to a whole number of blocks.
func pad(p []byte) []byte {
	out := append(slices.Clone(p), 0x80)
	return append(out, make([]byte, (16-len(out)%16)%16)...)
}

func invert(p []byte) []byte {
	out := make([]byte, len(p))
	for i := range p {
		out[i] = ^p[i]
	}
	return out
}
