package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"gatehouse/drivers"
	"gatehouse/edge/internal/keyring"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/protocol/point"
)

const cardKeySize = 32 // characters at the least

// How many bytes of a frame a trace may show: not those that carry a card's
// number, nor those that carry a key.
const (
	revealOSDP      = 6 // up to the command or reply code
	revealLineFrame = 1
)

func reveal(driver string, spec drivers.Spec) int {
	switch {
	case driver == "osdp":
		return revealOSDP // a reader without cards is given a key all the same
	case slices.ContainsFunc(spec.Points, func(p drivers.PointSpec) bool { return p.Kind == point.Text }):
		return revealLineFrame
	}
	return 0
}

// door checks what a site says of a door reader's secrets, and returns the path
// of its key file, if it names one.
func (l *loader) door(key string, d *Device, p profiles.Profile, spec drivers.Spec) string {
	for _, ps := range spec.Points {
		if ps.Kind == point.Text && l.cardReader == "" {
			l.cardReader = string(ps.ID)
		}
	}
	if p.Driver != "osdp" {
		for _, part := range []string{".key_file", ".allow_clear_text"} {
			if l.Has(key + part) {
				l.Fail(key+part, "remove it", "driver %s has no secure channel", p.Driver)
			}
		}
		return ""
	}
	if d.ClearText {
		l.warn(key+".allow_clear_text", "install the reader's key, and remove this",
			"whoever cuts the wire of reader %s can read and forge its cards", d.ID)
	}
	if !l.Has(key + ".key_file") {
		return ""
	}
	path := l.path(d.KeyFile)
	if other, taken := l.keyFiles[path]; taken {
		l.Fail(key+".key_file", "give each reader its own: a key change of one would lose the other's", "reader %s has its key in %s too", other, d.KeyFile)
		return ""
	}
	l.keyFiles[path] = d.ID
	if _, _, err := l.read(path); errors.Is(err, fs.ErrNotExist) {
		return path // made when the reader is installed
	}
	text := l.secret(key+".key_file", d.KeyFile)
	if text == "" {
		return ""
	}
	if _, err := keyring.Parse(text); errors.Is(err, keyring.ErrGuessable) {
		l.Fail(key+".key_file", "put a random one in its place, as from: openssl rand -hex 16", "the file %s holds a key that anybody would try", d.KeyFile)
	} else if err != nil {
		l.Fail(key+".key_file", "write 32 hexadecimal digits into it", "the file %s holds no key", d.KeyFile)
	}
	return path
}

// cardKey reads the secret by which credentials are hashed. A device that
// reads any needs it.
func (l *loader) cardKey() {
	const key = "cards.key_file"
	name := l.cfg.Cards.KeyFile
	if name == "" {
		if l.cardReader != "" {
			l.Fail(key, "name a file of mode 0600 with 32 characters or more; all gateways of a compound share it",
				"is missing: %s reads credentials, which leave the driver only as keyed hashes", l.cardReader)
		}
		return
	}
	secret := l.secret(key, name)
	if n := len(secret); n > 0 && n < cardKeySize {
		l.Fail(key, fmt.Sprintf("write %d random characters or more, as from: openssl rand -hex 32", cardKeySize), "the file %s holds only %d", name, n)
	}
	l.cfg.Cards.KeyFile = l.path(name)
	l.plan.CardKey = secret
}
