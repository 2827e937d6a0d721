package dlt645

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

func address(t testing.TB, digits string) Address {
	t.Helper()
	a, err := ParseAddress(digits)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const (
	voltageA = 0x02010100
	energy   = 0x00000000
	wake     = "FE FE FE FE "
)

func TestRequestsAreThePublishedFrames(t *testing.T) {
	ten := address(t, "000000000010")
	next := NewReadNext(ten, voltageA)
	next.SetNumber(2)
	moved := NewRead(Any, voltageA)
	moved.SetAddress(ten)
	moved.SetNumber(9) // has none
	tests := []struct {
		name string
		r    *Request
		want string
	}{
		{"voltage A", NewRead(ten, voltageA), "68 10 00 00 00 00 00 68 11 04 33 34 34 35 C5 16"},
		{"combined energy", NewRead(ten, energy), "68 10 00 00 00 00 00 68 11 04 33 33 33 33 C1 16"},
		{"address", NewReadAddress(), "68 AA AA AA AA AA AA 68 13 00 DF 16"},
		{"directed later", moved, "68 10 00 00 00 00 00 68 11 04 33 34 34 35 C5 16"},
		{"second following frame", next, "68 10 00 00 00 00 00 68 12 05 33 34 34 35 35 FC 16"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := tt.r.Bytes(), unhex(t, wake+tt.want); !bytes.Equal(got, want) {
				t.Errorf("% X, want % X", got, want)
			}
		})
	}
}

func TestRepliesAreReadAsPublished(t *testing.T) {
	tests := []struct {
		name, frame string
		control     byte
		data        string
		want        uint64
	}{
		{"220.5 V", "68 10 00 00 00 00 00 68 91 06 33 34 34 35 38 55 D4 16", 0x91, "00 01 01 02 05 22", 2205},
		{"12345.67 kWh", wake + "68 10 00 00 00 00 00 68 91 08 33 33 33 33 9A 78 56 34 E1 16", 0x91, "00 00 00 00 67 45 23 01", 1234567},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse(unhex(t, tt.frame), nil)
			if err != nil {
				t.Fatal(err)
			}
			if f.Control != tt.control || f.Address.String() != "000000000010" || !bytes.Equal(f.Data, unhex(t, tt.data)) {
				t.Fatalf("%+v", f)
			}
			if n, ok := Decimal(Raw(f.Data[IDSize:])); !ok || n != tt.want {
				t.Errorf("%d, %v; want %d", n, ok, tt.want)
			}
		})
	}
	f, err := Parse(unhex(t, "68 10 00 00 00 00 00 68 D1 01 35 E7 16"), nil)
	if err != nil || f.Control != Read|ReplyBit|ErrorBit || Refusal(f.Data[0]) != NoSuchData {
		t.Errorf("%+v, %v; want no such data", f, err)
	}
	if got, want := Refusal(0x06).Error(), "meter error 0x06 (no such data, wrong password or no right)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOnlyWhatAnswersTheRequestIsAccepted(t *testing.T) {
	ten := address(t, "000000000010")
	read, next, who := NewRead(ten, voltageA), NewReadNext(ten, voltageA), NewReadAddress()
	frame := func(a string, control byte, data string) []byte {
		return Frame{Address: address(t, a), Control: control, Data: unhex(t, data)}.Append(nil)
	}
	const id = "00 01 01 02 "
	good := frame("000000000010", 0x91, id+"05 22")
	damaged := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	tests := []struct {
		name string
		r    *Request
		rx   []byte
		need int
		err  error
	}{
		{"nothing yet", read, nil, 13, nil},
		{"wake-up bytes", read, unhex(t, wake), 13, nil},
		{"one wake-up byte too many", read, unhex(t, wake+"FE"), 0, ErrForeign},
		{"the head", read, good[:10], 8, nil},
		{"all but one", read, good[:17], 1, nil},
		{"whole", read, good, 0, nil},
		{"woken by the meter", read, append(unhex(t, wake), good...), 0, nil},
		{"surplus", read, append(bytes.Clone(good), 1, 2), -2, nil},
		{"more follows", read, frame("000000000010", 0xB1, id+"05 22"), 0, nil},
		{"refusal", read, frame("000000000010", 0xD1, "02"), 0, nil},
		{"refusal without a reason", read, frame("000000000010", 0xD1, ""), 0, ErrForeign},
		{"another meter", read, frame("000000000011", 0x91, id+"05 22"), 0, ErrForeign},
		{"another id", read, frame("000000000010", 0x91, "00 02 01 02 05 22"), 0, ErrForeign},
		{"no data", read, frame("000000000010", 0x91, id), 0, ErrForeign},
		{"the request itself", read, read.Bytes()[Wakeups:], 0, ErrForeign},
		{"a reply to another request", read, frame("000000000010", 0x92, id+"05 01"), 0, ErrForeign},
		{"damaged data", read, damaged(14), 0, ErrDamaged},
		{"damaged sum", read, damaged(16), 0, ErrDamaged},
		{"damaged end", read, damaged(17), 0, ErrDamaged},
		{"damaged second 68", read, damaged(7), 0, ErrForeign},
		{"longer than any", read, append(bytes.Clone(good[:9]), 201), 0, ErrForeign},
		{"following frame", next, frame("000000000010", 0x92, id+"05 22 01"), 0, nil},
		{"another following frame", next, frame("000000000010", 0x92, id+"05 22 02"), 0, ErrForeign},
		{"address", who, frame("200812345678", 0x93, "78 56 34 12 08 20"), 0, nil},
		{"address that is not the sender's", who, frame("200812345678", 0x93, "79 56 34 12 08 20"), 0, ErrForeign},
		{"address of no digits", who, Frame{Address: Any, Control: 0x93, Data: Any[:]}.Append(nil), 0, ErrForeign},
		{"address refused", who, frame("200812345678", 0xD3, "01"), 0, nil},
		{"address that goes on", who, frame("200812345678", 0xB3, "78 56 34 12 08 20"), 0, ErrForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			need, err := tt.r.Judge(tt.rx)
			if need != tt.need || !errors.Is(err, tt.err) || errors.Is(err, ErrDamaged) != (tt.err == ErrDamaged) {
				t.Errorf("judge(% X) = %d, %v; want %d, %v", tt.rx, need, err, tt.need, tt.err)
			}
		})
	}
}

func TestAddressesAreTwelveDigits(t *testing.T) {
	for _, s := range []string{"", "12345678901", "1234567890123", "12345678901A", "１２３４"} {
		if a, err := ParseAddress(s); err == nil {
			t.Errorf("%q = %v, want an error", s, a)
		}
	}
	a := address(t, "012345678901")
	if want := (Address{0x01, 0x89, 0x67, 0x45, 0x23, 0x01}); a != want || !a.Valid() {
		t.Errorf("% X, want % X", a, want)
	}
	if Any.Valid() || address(t, "999999999999").Valid() {
		t.Error("an address of all meters counts as one meter's")
	}
}

func TestWhatIsNoDecimalIsNoNumber(t *testing.T) {
	for raw, want := range map[uint64]uint64{0: 0, 0x2205: 2205, 0x9999999999999999: 9999999999999999} {
		if n, ok := Decimal(raw); !ok || n != want {
			t.Errorf("Decimal(%X) = %d, %v; want %d", raw, n, ok, want)
		}
	}
	for _, raw := range []uint64{0xFFFF, 0x0A, 0xF0, 0x12A4, 0xA000000000000000, 0xFFFFFFFFFFFFFFFF} {
		if n, ok := Decimal(raw); ok {
			t.Errorf("Decimal(%X) = %d, want none", raw, n)
		}
	}
}

// FuzzParse checks that a frame that parses is built again byte for byte.
func FuzzParse(f *testing.F) {
	f.Add(unhex(f, wake+"68 10 00 00 00 00 00 68 91 06 33 34 34 35 38 55 D4 16"))
	f.Add(unhex(f, "68 10 00 00 00 00 00 68 D1 01 35 E7 16"))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := Parse(b, nil)
		if err != nil {
			return
		}
		if again := frame.Append(nil); !bytes.Equal(again, b[wakeups(b):]) {
			t.Errorf("% X became % X", b, again)
		}
	})
}

// FuzzJudge checks that a framer accepts only whole frames, that what it says is
// missing never exceeds what is, and that nothing before the end is accepted.
func FuzzJudge(f *testing.F) {
	f.Add(unhex(f, "68 10 00 00 00 00 00 68 91 06 33 34 34 35 38 55 D4 16"), byte(0))
	f.Add(unhex(f, "FE 68 10 00 00 00 00 00 68 B2 07 33 34 34 35 38 55 34 29 16 00"), byte(1))
	f.Add(unhex(f, "68 78 56 34 12 08 20 68 93 06 AB 89 67 45 3B 53 00 16"), byte(2))
	ten := address(f, "000000000010")
	f.Fuzz(func(t *testing.T, b []byte, kind byte) {
		r := NewRead(ten, voltageA)
		switch kind % 3 {
		case 1:
			r = NewReadNext(ten, voltageA)
		case 2:
			r = NewReadAddress()
		}
		if need, err := r.Judge(b); err != nil || need > 0 {
			return
		}
		need, _ := r.Judge(b)
		whole := b[:len(b)+need]
		if _, err := Parse(whole, nil); err != nil {
			t.Fatalf("accepted % X: %v", whole, err)
		}
		for n := range whole {
			if need, err := r.Judge(whole[:n]); err != nil || need < 1 || need > len(whole)-n {
				t.Fatalf("%d of %d bytes: need %d, %v", n, len(whole), need, err)
			}
		}
	})
}
