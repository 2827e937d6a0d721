package fleet

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// newSecret returns 256 random bits as text.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// digest is what is kept of a secret.
type digest struct {
	Salt []byte `json:"salt"`
	Hash []byte `json:"sha256"`
}

func newDigest(secret string) digest {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	return digest{Salt: salt, Hash: hash(salt, secret)}
}

func (d digest) matches(secret string) bool {
	return subtle.ConstantTimeCompare(d.Hash, hash(d.Salt, secret)) == 1
}

func hash(salt []byte, secret string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(secret))
	return h.Sum(nil)
}
