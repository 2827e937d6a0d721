package osdp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
)

// DefaultKey returns SCBK-D (OSDP, annex D): the key everybody knows. It is good
// for nothing but to bring in another one.
func DefaultKey() []byte {
	key := make([]byte, KeySize)
	for i := range key {
		key[i] = 0x30 + byte(i)
	}
	return key
}

// Guessable reports whether a key is one that anybody would try: SCBK-D, or one
// byte again and again, as a key that nobody has written yet.
func Guessable(key []byte) bool {
	if Same(key, DefaultKey()) {
		return true
	}
	for _, b := range key {
		if b != key[0] {
			return false
		}
	}
	return true
}

// Channel is one secure session, of either side (OSDP, annex D). Its messages
// come in pairs, a command and its reply, and each is chained to the one before.
type Channel struct {
	enc, mac1, mac2 cipher.Block
	cp              [RandomSize]byte

	// The chain: the MACs of the last command and the last reply.
	command, reply [aes.BlockSize]byte

	iv, block [aes.BlockSize]byte // scratch
	kind      [1]byte             // of the frame that is made
	plain     [MaxFrame]byte      // the last payload that was opened
}

// NewChannel derives the keys of a session from the pair's key and the panel's
// random number.
func NewChannel(key, cpRandom []byte) (*Channel, error) {
	if len(key) != KeySize || len(cpRandom) != RandomSize {
		return nil, fmt.Errorf("osdp: a key of %d bytes and a random number of %d: want %d and %d",
			len(key), len(cpRandom), KeySize, RandomSize)
	}
	base, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	c := &Channel{}
	copy(c.cp[:], cpRandom)
	for _, k := range []struct {
		prefix byte
		cipher *cipher.Block
	}{{0x82, &c.enc}, {0x01, &c.mac1}, {0x02, &c.mac2}} {
		clear(c.block[:])
		c.block[0], c.block[1] = 0x01, k.prefix
		copy(c.block[2:], c.cp[:6])
		base.Encrypt(c.block[:], c.block[:])
		if *k.cipher, err = aes.NewCipher(c.block[:]); err != nil {
			return nil, err
		}
	}
	clear(c.block[:])
	return c, nil
}

// PDCryptogram is how the reader proves that it holds the key.
func (c *Channel) PDCryptogram(pdRandom []byte) [KeySize]byte { return c.cryptogram(c.cp[:], pdRandom) }

// CPCryptogram is how the panel proves that it holds the key.
func (c *Channel) CPCryptogram(pdRandom []byte) [KeySize]byte { return c.cryptogram(pdRandom, c.cp[:]) }

func (c *Channel) cryptogram(first, second []byte) (out [KeySize]byte) {
	copy(out[:RandomSize], first)
	copy(out[RandomSize:], second)
	c.enc.Encrypt(out[:], out[:])
	return out
}

// Begin starts the chain from the panel's cryptogram and returns the first
// R-MAC, which the reader sends and the panel compares.
func (c *Channel) Begin(cpCryptogram [KeySize]byte) [KeySize]byte {
	c.mac1.Encrypt(c.reply[:], cpCryptogram[:])
	c.mac2.Encrypt(c.reply[:], c.reply[:])
	c.command = [aes.BlockSize]byte{}
	return c.reply
}

// Same compares secrets in constant time.
func Same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// Seal appends a secured frame to dst: f's address, direction, control, code and
// payload; its block and MAC are made here. The payload is encrypted.
func (c *Channel) Seal(dst []byte, f *Frame) []byte {
	sent, last := &c.command, &c.reply
	mac, enc := BlockCmdMAC, BlockCmdEnc
	if f.Reply {
		sent, last = last, sent
		mac, enc = BlockRepMAC, BlockRepEnc
	}
	c.kind[0] = mac
	if len(f.Payload) > 0 {
		c.kind[0] = enc
	}
	start := len(dst)
	head := Frame{Address: f.Address, Reply: f.Reply, Control: f.Control, Block: c.kind[:], Code: f.Code}
	dst = appendHead(dst, &head)
	if len(f.Payload) > 0 {
		dst = c.encrypt(dst, f.Payload, last)
	}
	dst[start+lengthPlace] = byte(len(dst) - start + CMACSize + tail(f.Control))
	dst[start+lengthPlace+1] = byte((len(dst) - start + CMACSize + tail(f.Control)) >> 8)
	*sent = c.sum(dst[start:], last)
	dst = append(dst, sent[:CMACSize]...)
	return finish(dst, start)
}

// Open checks a secured frame and returns its payload, which is valid until the
// next Open. After an error the session is as it was.
func (c *Channel) Open(f *Frame) ([]byte, error) {
	got, last := &c.command, &c.reply
	mac, enc := BlockCmdMAC, BlockCmdEnc
	if f.Reply {
		got, last = last, got
		mac, enc = BlockRepMAC, BlockRepEnc
	}
	if len(f.Block) != 1 || f.Block[0] != mac && f.Block[0] != enc || len(f.MAC) != CMACSize {
		return nil, fmt.Errorf("%w: it is of the wrong type", ErrMAC)
	}
	sum := c.sum(f.body, last)
	if !Same(sum[:CMACSize], f.MAC) {
		return nil, ErrMAC
	}
	payload := f.Payload
	if f.Block[0] == enc {
		if len(payload) == 0 || len(payload)%aes.BlockSize != 0 || len(payload) > len(c.plain) {
			return nil, fmt.Errorf("%w: %d encrypted bytes", ErrMAC, len(payload))
		}
		payload = c.decrypt(payload, last)
	} else {
		payload = c.plain[:copy(c.plain[:], payload)]
	}
	*got = sum
	return payload, nil
}

// Wipe overwrites the payload that was opened last.
func (c *Channel) Wipe() { clear(c.plain[:]) }

// sum is the MAC of a frame up to the end of its payload: CBC from the last MAC of the
// other direction, the last block with the second key.
func (c *Channel) sum(body []byte, last *[aes.BlockSize]byte) [aes.BlockSize]byte {
	c.iv = *last
	for {
		n := copy(c.block[:], body)
		body = body[n:]
		if n < aes.BlockSize {
			c.block[n] = 0x80
			clear(c.block[n+1:])
		}
		subtle.XORBytes(c.iv[:], c.iv[:], c.block[:])
		if len(body) == 0 {
			c.mac2.Encrypt(c.iv[:], c.iv[:])
			return c.iv
		}
		c.mac1.Encrypt(c.iv[:], c.iv[:])
	}
}

// encrypt appends a payload, padded and encrypted by CBC from the complement of
// the last MAC of the other direction.
func (c *Channel) encrypt(dst, payload []byte, last *[aes.BlockSize]byte) []byte {
	c.complement(last)
	for whole := false; !whole; {
		n := copy(c.block[:], payload)
		payload = payload[n:]
		if n < aes.BlockSize {
			whole = true
			c.block[n] = 0x80
			clear(c.block[n+1:])
		}
		subtle.XORBytes(c.iv[:], c.iv[:], c.block[:])
		c.enc.Encrypt(c.iv[:], c.iv[:])
		dst = append(dst, c.iv[:]...)
	}
	clear(c.block[:])
	return dst
}

// decrypt is the reverse. A last block without the sign of padding is whole:
// some readers do not pad what fills its blocks.
func (c *Channel) decrypt(payload []byte, last *[aes.BlockSize]byte) []byte {
	c.complement(last)
	for at := 0; at < len(payload); at += aes.BlockSize {
		in, out := payload[at:at+aes.BlockSize], c.plain[at:at+aes.BlockSize]
		c.enc.Decrypt(out, in)
		subtle.XORBytes(out, out, c.iv[:])
		copy(c.iv[:], in)
	}
	plain := c.plain[:len(payload)]
	for n := len(plain) - 1; n >= len(plain)-aes.BlockSize; n-- {
		if plain[n] == 0x80 {
			return plain[:n]
		}
		if plain[n] != 0 {
			break
		}
	}
	return plain
}

func (c *Channel) complement(last *[aes.BlockSize]byte) {
	for i, b := range last {
		c.iv[i] = ^b
	}
}
