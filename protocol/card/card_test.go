package card

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// bits packs a text of ones and zeros, the first in the top bit.
func pack(t testing.TB, s string) (raw []byte, n int) {
	t.Helper()
	s = strings.ReplaceAll(s, " ", "")
	raw = make([]byte, (len(s)+7)/8)
	for i, c := range s {
		if c == '1' {
			raw[i/8] |= 0x80 >> (i % 8)
		}
	}
	return raw, len(s)
}

// sealed puts even parity before the first half and odd parity behind the second.
func sealed(data string, low, high int) string {
	first, last := "0", "1"
	if strings.Count(data[:low], "1")%2 == 1 {
		first = "1"
	}
	if strings.Count(data[len(data)-high:], "1")%2 == 1 {
		last = "0"
	}
	return first + data + last
}

func TestEachFormatHasOneForm(t *testing.T) {
	tests := []struct {
		name     string
		bits     string
		reversed bool
		want     string
	}{
		{"26", sealed(fmt.Sprintf("%08b%016b", 123, 4567), 12, 12), false, "h10301:123:4567"},
		{"26, other byte order", sealed(fmt.Sprintf("%08b%016b", 123, 4567), 12, 12), true, "h10301:123:4567"},
		{"34", sealed(fmt.Sprintf("%032b", 0x0A1B2C3D), 16, 16), false, "uid:0A1B2C3D"},
		{"34, other byte order", sealed(fmt.Sprintf("%032b", 0x3D2C1B0A), 16, 16), true, "uid:0A1B2C3D"},
		{"37", sealed(fmt.Sprintf("%016b%019b", 60001, 500001), 18, 18), false, "h10304:60001:500001"},
		{"32", fmt.Sprintf("%032b", 0x0A1B2C3D), false, "uid:0A1B2C3D"},
		{"32, other byte order", fmt.Sprintf("%032b", 0x3D2C1B0A), true, "uid:0A1B2C3D"},
		{"56", fmt.Sprintf("%056b", uint64(0x04AABBCCDDEEFF)), false, "uid:04AABBCCDDEEFF"},
		{"56, other byte order", fmt.Sprintf("%056b", uint64(0x04AABBCCDDEEFF)), true, "uid:FFEEDDCCBBAA04"},
		{"40", fmt.Sprintf("%040b", uint64(0x0102030405)), false, "uid:0102030405"},
		{"40, other byte order", fmt.Sprintf("%040b", uint64(0x0102030405)), true, "uid:0504030201"},
		{"64", fmt.Sprintf("%064b", uint64(0xE004010203040506)), false, "uid:E004010203040506"},
		{"64, other byte order", fmt.Sprintf("%064b", uint64(0xE004010203040506)), true, "uid:06050403020104E0"},
		{"35", fmt.Sprintf("%035b", uint64(0x5_0000_0001)), false, "bits:35:A000000020"},
		{"48, other byte order", fmt.Sprintf("%048b", uint64(0x010203040506)), true, "bits:48:010203040506"},
		{"1", "1", false, "bits:1:80"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw, n := pack(t, tt.bits)
			got, err := Wiegand(raw, n, tt.reversed)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s (%v), want %s", []byte(got), err, tt.want)
			}
			if n%8 != 0 { // what stands behind the last bit is nobody's
				raw[len(raw)-1] |= 0xFF >> (n % 8)
				if again, err := Wiegand(raw, n, tt.reversed); err != nil || !bytes.Equal(got, again) {
					t.Errorf("with ones as padding: %s (%v)", []byte(again), err)
				}
			}
		})
	}
}

func TestTheVectorOfARawReply(t *testing.T) {
	// Facility 123, card 4567, as an OSDP RAW reply carries it.
	got, err := Wiegand([]byte{0xBD, 0x88, 0xEB, 0x80}, 26, false)
	if err != nil || string(got) != "h10301:123:4567" {
		t.Errorf("got %s, %v", []byte(got), err)
	}
}

func TestOneChipIsOneCredentialByEveryWay(t *testing.T) {
	const want = "uid:0A1B2C3D"
	ways := map[string]func(reversed bool) (Credential, error){
		"34 bits": func(reversed bool) (Credential, error) {
			v := 0x0A1B2C3D
			if reversed {
				v = 0x3D2C1B0A
			}
			raw, n := pack(t, sealed(fmt.Sprintf("%032b", v), 16, 16))
			return Wiegand(raw, n, reversed)
		},
		"32 bits": func(reversed bool) (Credential, error) {
			raw := []byte{0x0A, 0x1B, 0x2C, 0x3D}
			if reversed {
				slices.Reverse(raw)
			}
			return Wiegand(raw, 32, reversed)
		},
		"hexadecimal": func(reversed bool) (Credential, error) {
			if reversed {
				return Hex("3d:2c:1b:0a", true)
			}
			return Hex(" 0A1B2C3D\r\n", false)
		},
		"decimal": func(reversed bool) (Credential, error) {
			if reversed {
				return Decimal("1026300682", true)
			}
			return Decimal("0169552957", false)
		},
	}
	for name, way := range ways {
		for _, reversed := range []bool{false, true} {
			if got, err := way(reversed); err != nil || string(got) != want {
				t.Errorf("%s, reversed %v: %s (%v), want %s", name, reversed, []byte(got), err, want)
			}
		}
	}
}

func TestEveryFlippedBitOfAFormatWithParityShows(t *testing.T) {
	for _, bits := range []string{
		sealed(fmt.Sprintf("%08b%016b", 123, 4567), 12, 12),
		sealed(fmt.Sprintf("%032b", 0x0A1B2C3D), 16, 16),
		sealed(fmt.Sprintf("%016b%019b", 60001, 500001), 18, 18),
	} {
		for i := range bits {
			raw, n := pack(t, bits)
			raw[i/8] ^= 0x80 >> (i % 8)
			// The middle bit of 37 is in both halves, every other in one.
			if got, err := Wiegand(raw, n, false); !errors.Is(err, ErrParity) {
				t.Errorf("%d bits, bit %d flipped: %s, %v", n, i+1, []byte(got), err)
			}
		}
	}
}

func TestWhatIsNoReadIsAnErrorWithoutNumbers(t *testing.T) {
	const secret = "4567891"
	bad := map[string]func() (Credential, error){
		"no bits":            func() (Credential, error) { return Wiegand(nil, 0, false) },
		"negative":           func() (Credential, error) { return Wiegand(nil, -8, false) },
		"too few bytes":      func() (Credential, error) { return Wiegand(make([]byte, 3), 26, false) },
		"too many bytes":     func() (Credential, error) { return Wiegand(make([]byte, 5), 26, false) },
		"too many bits":      func() (Credential, error) { return Wiegand(make([]byte, 100), 800, false) },
		"odd digits":         func() (Credential, error) { return Hex(secret, false) },
		"no digits":          func() (Credential, error) { return Hex(" : ", false) },
		"no hexadecimal":     func() (Credential, error) { return Hex(secret+"x", false) },
		"too long":           func() (Credential, error) { return Hex(strings.Repeat(secret, 5), false) },
		"a sign":             func() (Credential, error) { return Decimal("-"+secret, false) },
		"no number":          func() (Credential, error) { return Decimal("", false) },
		"letters":            func() (Credential, error) { return Decimal(secret+"A", false) },
		"beyond 64 bits":     func() (Credential, error) { return Decimal(strings.Repeat(secret, 3), false) },
		"no code":            func() (Credential, error) { return Code(nil) },
		"a code of letters":  func() (Credential, error) { return Code([]byte(secret + "A")) },
		"a code without end": func() (Credential, error) { return Code([]byte(strings.Repeat(secret, 3))) },
	}
	for name, read := range bad {
		got, err := read()
		if !errors.Is(err, ErrForm) || got != nil {
			t.Errorf("%s: %s, %v", name, []byte(got), err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells what was read: %v", name, err)
		}
	}
}

func TestDecimalsOfLongerUIDs(t *testing.T) {
	for text, want := range map[string]string{
		"0":                    "uid:00000000",
		"4294967295":           "uid:FFFFFFFF",
		"4294967296":           "uid:0100000000",
		"1099511627776":        "uid:00010000000000",
		"72057594037927936":    "uid:0100000000000000",
		"18446744073709551615": "uid:FFFFFFFFFFFFFFFF",
	} {
		if got, err := Decimal(text, false); err != nil || string(got) != want {
			t.Errorf("%s: %s (%v), want %s", text, []byte(got), err, want)
		}
	}
}

func TestCodesAndKeys(t *testing.T) {
	if c, err := Code([]byte("0012")); err != nil || string(c) != "code:0012" {
		t.Errorf("code: %s, %v", []byte(c), err)
	}
	for raw, want := range map[byte]byte{0xF0: '0', 0xE1: '1', 0x69: '9', 0x5A: '*', 0x4B: '#', 0xF1: 0, 0x00: 0, 0x3C: 0} {
		if key, ok := Key([]byte{raw}, 8); key != want || ok != (want != 0) {
			t.Errorf("8 bits %02X: %q, %v", raw, key, ok)
		}
	}
	for raw, want := range map[byte]byte{0x00: '0', 0x9F: '9', 0xA0: '*', 0xB0: '#', 0xC0: 0} {
		if key, ok := Key([]byte{raw}, 4); key != want || ok != (want != 0) {
			t.Errorf("4 bits %02X: %q, %v", raw, key, ok)
		}
	}
	if _, ok := Key([]byte{0, 0}, 12); ok {
		t.Error("12 bits are a key")
	}
}

func TestACredentialIsNeverShown(t *testing.T) {
	c := UID([]byte{0x0A, 0x1B}, false)
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("card", "credential", c)
	if !bytes.HasSuffix(out.Bytes(), []byte("credential=(credential)\n")) {
		t.Errorf("logged: %s", out.Bytes())
	}
	for _, verb := range []string{"%v", "%s", "%x", "%d", "%q", "%#v"} {
		if got := fmt.Sprintf(verb, c); got != "(credential)" {
			t.Errorf("%s shows %s", verb, got)
		}
	}
	c.Wipe()
	if !bytes.Equal(c, make([]byte, len(c))) {
		t.Error("not wiped")
	}
}

// uidSizes are the sizes in bytes that a UID has, however it is read.
var uidSizes = []int{4, 5, 7, 8, 10}

// FuzzWiegand: a credential is in one known form, both byte orders give UIDs that
// are each other's mirror, and whole bytes of a UID's size give what their text
// gives.
func FuzzWiegand(f *testing.F) {
	f.Add([]byte{0xBD, 0x88, 0xEB, 0x80}, 26)
	f.Add([]byte{0x0A, 0x1B, 0x2C, 0x3D}, 32)
	f.Add([]byte{1, 2, 3, 4, 5}, 40)
	f.Add([]byte{0xE0, 4, 1, 2, 3, 4, 5, 6}, 64)
	f.Add([]byte{1, 2, 3, 4, 0}, 34)
	f.Add([]byte{1, 2, 3, 4, 0}, 37)
	f.Fuzz(func(t *testing.T, raw []byte, bits int) {
		c, err := Wiegand(raw, bits, false)
		turned, turnedErr := Wiegand(raw, bits, true)
		if (err == nil) != (turnedErr == nil) {
			t.Fatalf("%v by one order, %v by the other", err, turnedErr)
		}
		if err != nil {
			if !errors.Is(err, ErrForm) && !errors.Is(err, ErrParity) {
				t.Fatal(err)
			}
			return
		}
		if bits%8 == 0 && slices.Contains(uidSizes, bits/8) {
			for _, reversed := range []bool{false, true} {
				text, err := Hex(hex.EncodeToString(raw), reversed)
				read, _ := Wiegand(raw, bits, reversed)
				if err != nil || !bytes.Equal(text, read) {
					t.Fatalf("reversed %v: %s by bits, %s by text (%v)", reversed, []byte(read), []byte(text), err)
				}
			}
		}
		if uid, ok := bytes.CutPrefix(c, []byte("uid:")); ok {
			b := make([]byte, len(uid)/2)
			if _, err := hex.Decode(b, uid); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(UID(b, true), turned) {
				t.Fatalf("%s and %s", []byte(c), []byte(turned))
			}
		} else if !bytes.Equal(c, turned) {
			t.Fatalf("%s and %s", []byte(c), []byte(turned))
		}
	})
}

// FuzzText: what one printer writes, the other's reading equals.
func FuzzText(f *testing.F) {
	f.Add("0169552957", false)
	f.Add("0A 1B 2C 3D", true)
	f.Fuzz(func(t *testing.T, text string, reversed bool) {
		if c, err := Hex(text, reversed); err == nil {
			again, err := Hex(string(c[len("uid:"):]), false)
			if err != nil || !bytes.Equal(c, again) {
				t.Fatalf("%q: %s, then %s (%v)", text, []byte(c), []byte(again), err)
			}
		}
		if c, err := Decimal(text, reversed); err == nil {
			if n := (len(c) - len("uid:")) / 2; !slices.Contains(uidSizes, n) {
				t.Fatalf("%q: a UID of %d bytes", text, n)
			}
			again, err := Hex(string(c[len("uid:"):]), false)
			if err != nil || !bytes.Equal(c, again) {
				t.Fatalf("%q: %s, then %s (%v)", text, []byte(c), []byte(again), err)
			}
		}
	})
}
