package lineframe

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
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

func codec(t testing.TB, f Format) *Codec {
	t.Helper()
	c, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The formats of the tests.
var (
	gas    = Format{Start: []byte{0xFF, 0x86}, Size: 11, Check: Check{Neg8, 1, -1, -1}, Reach: 10}
	text   = Format{Start: []byte{2}, End: []byte("\r\n"), Max: 24, Reach: 3}
	summed = Format{Start: []byte{2}, End: []byte{3}, Max: 24, Check: Check{Xor8, 1, -2, -2}}
	sized  = Format{Start: []byte{0xAA}, Max: 40, Length: &Length{At: 1, Size: 1, Add: 4}, Check: Check{CRC16Modbus, 0, -2, -2}}
)

func TestCheckValuesAreThePublishedOnes(t *testing.T) {
	check := []byte("123456789") // the catalogue's check string of each CRC
	tests := []struct {
		kind Kind
		of   []byte
		want string
	}{
		{CRC16Modbus, check, "37 4B"},
		{CRC16CCITT, check, "29 B1"},
		{CRC16Modbus, unhex(t, "01 03 00 00 00 02"), "C4 0B"},
		{Neg8, unhex(t, "01 86 00 00 00 00 00"), "79"}, // the request of a 4-in-1 gas module
		{Sum8, unhex(t, "FF 02"), "01"},
		{Xor8, unhex(t, "31 32 33"), "30"},
	}
	for _, tt := range tests {
		sum := tt.kind.Sum(tt.of)
		if got, want := sum[:tt.kind.Width()], unhex(t, tt.want); !bytes.Equal(got, want) {
			t.Errorf("%s of % X = % X, want % X", tt.kind, tt.of, got, want)
		}
	}
}

func TestFramesAreToldFromNoise(t *testing.T) {
	answer := unhex(t, "FF 86 00 05 00 02 00 D1 00 03 9F")
	spoilt := slices.Clone(answer)
	spoilt[5] ^= 1
	long := append([]byte{0xAA, 3, 1, 2, 3}, 0, 0)
	sum := CRC16Modbus.Sum(long[:5])
	copy(long[5:], sum[:])
	long[1] = 3
	tests := []struct {
		name string
		f    Format
		rx   []byte
		need int
		err  error
	}{
		{"nothing yet", gas, nil, 11, nil},
		{"the first byte", gas, answer[:1], 10, nil},
		{"all but one", gas, answer[:10], 1, nil},
		{"whole", gas, answer, 0, nil},
		{"with surplus", gas, append(slices.Clone(answer), 1, 2), -2, nil},
		{"the request's echo", gas, unhex(t, "FF 01 86 00 00 00 00 00 79"), 0, ErrForeign},
		{"damaged", gas, spoilt, 0, ErrDamaged},

		{"text not yet ended", text, []byte("\x02123\r"), 1, nil},
		{"text", text, []byte("\x02123\r\n"), 0, nil},
		{"text and the next", text, []byte("\x02123\r\n\x024"), -2, nil},
		{"text of nothing", text, []byte("\x02\r\n"), 0, nil},
		{"text that never ends", text, append([]byte{2}, bytes.Repeat([]byte("1"), 23)...), 0, ErrForeign},
		{"text longer than any", text, append(append([]byte{2}, bytes.Repeat([]byte("1"), 22)...), '\r', '\n'), 0, ErrDamaged},
		{"text that lost its end", text, []byte("\x0212\x02123\r\n"), 0, ErrDamaged},

		{"checked text", summed, []byte("\x0212\x03\x03"), 0, nil},
		{"a check value like the end, to come", summed, []byte("\x0212\x03"), 1, nil},
		{"a wrong check value", summed, []byte("\x0213\x03\x03"), 0, ErrDamaged},
		{"a check value like the start", summed, []byte("\x0202\x02\x03"), 0, nil},

		{"length not yet known", sized, []byte{0xAA}, 2, nil},
		{"length known", sized, long[:3], 4, nil},
		{"length", sized, long, 0, nil},
		{"length of nothing longer than any", sized, []byte{0xAA, 200}, 0, ErrForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			need, err := codec(t, tt.f).Judge(tt.rx)
			if need != tt.need || !errors.Is(err, tt.err) || errors.Is(err, ErrDamaged) != (tt.err == ErrDamaged) {
				t.Errorf("judge(% X) = %d, %v; want %d, %v", tt.rx, need, err, tt.need, tt.err)
			}
		})
	}
}

// TestEveryCheckValueIsRead sends what every check value follows: one that looks
// like the end of a frame must not make it unreadable.
func TestEveryCheckValueIsRead(t *testing.T) {
	for _, kind := range []Kind{Xor8, Sum8, CRC16CCITT} {
		width := kind.Width()
		f := Format{Start: []byte{2}, End: []byte{3}, Max: 24, Check: Check{kind, 1, -1 - width, -1 - width}}
		c := codec(t, f)
		for n := range 1 << 12 {
			b := []byte{2, '0' + byte(n>>9), 0x80 | byte(n>>6&7), 0x80 | byte(n&63)}
			sum := kind.Sum(b[1:])
			b = append(append(b, sum[:width]...), 3)
			for k := range b {
				if need, err := c.Judge(b[:k]); err != nil || need < 1 || need > len(b)-k {
					t.Fatalf("%s: % X, %d bytes of it: %d, %v", kind, b, k, need, err)
				}
			}
			if need, err := c.Judge(b); need != 0 || err != nil {
				t.Fatalf("%s: % X: %d, %v", kind, b, need, err)
			}
		}
	}
}

func TestFieldsStandWhereTheyAreSaidTo(t *testing.T) {
	tests := []struct {
		name     string
		f        Format
		frame    string
		at, size int
		want     string
	}{
		{"fixed", text, "\x0212345\r\n", 2, 2, "23"},
		{"up to the end", text, "\x0212345\r\n", 1, 0, "12345"},
		{"up to the check value", summed, "\x0212\x03\x03", 1, 0, "12"},
		{"nothing", text, "\x02\r\n", 1, 0, ""},
		{"past the end", text, "\x021\r\n", 2, 4, "(none)"},
		{"behind the end", text, "\x021\r\n", 3, 0, "(none)"},
	}
	for _, tt := range tests {
		got := codec(t, tt.f).Field([]byte(tt.frame), tt.at, tt.size)
		s := string(got)
		if got == nil {
			s = "(none)"
		}
		if s != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, s, tt.want)
		}
	}
}

func TestNumbersInText(t *testing.T) {
	tests := []struct {
		text   string
		digits uint64
		places int
		minus  bool
		ok     bool
	}{
		{" 12.50\r", 1250, 2, false, true},
		{"-0007", 7, 0, true, true},
		{"+.5", 5, 1, false, true},
		{"00000000000000000001", 1, 0, false, true},
		{"999999999999999", 999999999999999, 0, false, true},
		{"9999999999999999", 0, 0, false, false},
		{"0.0000000000000001", 0, 0, false, false},
		{"", 0, 0, false, false}, {"-", 0, 0, false, false}, {".", 0, 0, false, false},
		{"1.2.3", 0, 0, false, false}, {"12a", 0, 0, false, false}, {"1 2", 0, 0, false, false},
	}
	for _, tt := range tests {
		digits, places, minus, ok := Decimal([]byte(tt.text))
		if ok != tt.ok || ok && (digits != tt.digits || places != tt.places || minus != tt.minus) {
			t.Errorf("Decimal(%q) = %d, %d, %v, %v", tt.text, digits, places, minus, ok)
		}
	}
	for s, want := range map[string]uint64{"fF": 255, " 0010 ": 16, "FFFFFFFFFFFFFFFF": 1<<64 - 1} {
		if v, ok := Hex([]byte(s)); !ok || v != want {
			t.Errorf("Hex(%q) = %d, %v", s, v, ok)
		}
	}
	for _, s := range []string{"", "0G", "00000000000000001"} {
		if v, ok := Hex([]byte(s)); ok {
			t.Errorf("Hex(%q) = %d, want none", s, v)
		}
	}
	if n, ok := Digits(0x123456); !ok || n != 123456 {
		t.Errorf("Digits = %d, %v", n, ok)
	}
	if n, ok := Digits(0x12345A); ok {
		t.Errorf("Digits = %d, want none", n)
	}
	if Uint([]byte{1, 2, 3}, false) != 0x010203 || Uint([]byte{1, 2, 3}, true) != 0x030201 {
		t.Error("Uint mistakes the order of bytes")
	}
}

func TestEveryFaultOfAFormatIsReported(t *testing.T) {
	tests := []struct {
		name string
		f    Format
		want []string
	}{
		{"nothing", Format{}, []string{"max 0", "nothing tells a frame from noise"}},
		{"no end", Format{Start: []byte{2}, Max: 20}, []string{"nothing says where a frame ends"}},
		{"only noise", Format{Size: 9}, []string{"nothing tells a frame from noise"}},
		{"two sizes", Format{Start: []byte{2}, Size: 9, Max: 20}, []string{"neither max nor length"}},
		{"too long", Format{Start: []byte{2}, Size: 1 << 20}, []string{"want 1 to 256"}},
		{"unknown check", Format{Start: []byte{2}, Size: 9, Check: Check{Kind: "md5"}}, []string{`check "md5"`}},
		{"covers nothing", Format{Start: []byte{2}, Size: 9, Check: Check{Kind: Sum8, At: -1}}, []string{"covers nothing"}},
		{"covers itself", Format{Start: []byte{2}, Size: 9, Check: Check{Sum8, 0, 9, -1}}, []string{"covers itself"}},
		{"outside", Format{Start: []byte{2}, Size: 9, Check: Check{Sum8, 0, 4, 9}}, []string{"lies outside"}},
		{"a place that longer frames lack", Format{Start: []byte{2}, End: []byte{3}, Max: 9, Check: Check{Sum8, -4, 4, -2}}, []string{"in a frame of"}},
		{"fields", Format{Start: []byte{2}, Size: 9, Reach: 10}, []string{"take 10 bytes"}},
		{"length", Format{Start: []byte{2}, Max: 9, Length: &Length{At: -1, Size: 3, Add: 999}}, []string{"length of 3", "length at -1", "length plus 999"}},
	}
	for _, tt := range tests {
		_, err := New(tt.f)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in: %v", tt.name, want, err)
			}
		}
	}
}

// TestWhatFillsUpAFrameCutShort: without a seal a frame of known size takes the
// next one for its rest, which is why a device that talks unasked needs one.
func TestWhatFillsUpAFrameCutShort(t *testing.T) {
	crc := Check{CRC16Modbus, 0, -2, -2}
	tests := []struct {
		name   string
		f      Format
		sealed bool
		taken  bool // a cut frame and the next are taken for one
	}{
		{"size", Format{Start: []byte{2}, Size: 6}, false, true},
		{"size and end", Format{Start: []byte{2}, End: []byte{3}, Size: 6}, true, false},
		{"size and check", Format{Start: []byte{2}, Size: 6, Check: crc}, true, false},
		{"length", Format{Start: []byte{2}, Max: 9, Length: &Length{At: 1, Size: 1}}, false, true},
		{"length and end", Format{Start: []byte{2}, End: []byte{3}, Max: 9, Length: &Length{At: 1, Size: 1}}, true, false},
		{"end", Format{Start: []byte{2}, End: []byte{3}, Max: 9}, true, false},
	}
	for _, tt := range tests {
		if tt.f.Sealed() != tt.sealed {
			t.Errorf("%s: sealed %v, want %v", tt.name, !tt.sealed, tt.sealed)
		}
		cut, whole := []byte{2, 6, '1'}, []byte{2, 6, 'A', 'B', 'C', 3}
		if _, err := codec(t, tt.f).Judge(append(cut, whole...)); (err == nil) != tt.taken {
			t.Errorf("%s: %v, want taken: %v", tt.name, err, tt.taken)
		}
	}
}

// FuzzJudge checks that a frame that is accepted keeps its description: where it
// begins and ends, its size and its check value, that it holds no beginning of
// another where that is promised, and that no beginning of it is accepted or
// refused.
func FuzzJudge(f *testing.F) {
	f.Add(byte(0), unhex(f, "FF 86 00 05 00 02 00 D1 00 03 9F"))
	f.Add(byte(1), []byte("\x0212345\r\n"))
	f.Add(byte(2), []byte("\x0212\x03\x03"))
	f.Add(byte(3), []byte{0xAA, 3, 1, 2, 3, 0, 0})
	formats := []Format{gas, text, summed, sized}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		format := formats[int(which)%len(formats)]
		c := codec(t, format)
		c.Field(b, len(b)/2, int(which))
		need, err := c.Judge(b)
		if err != nil || need > 0 {
			return
		}
		frame := b[:len(b)+need]
		from, until, at := c.places(len(frame))
		width := format.Check.Kind.Width()
		sum := format.Check.Kind.Sum(frame[from:until])
		switch {
		case !bytes.HasPrefix(frame, format.Start), !bytes.HasSuffix(frame, format.End):
			t.Fatalf("% X does not begin and end as described", frame)
		case len(frame) < c.Shortest(), len(frame) > c.Longest():
			t.Fatalf("% X has %d bytes", frame, len(frame))
		case format.Size == 0 && format.Length == nil && width == 0 && bytes.LastIndex(frame, format.Start) > 0:
			t.Fatalf("% X holds the beginning of another", frame)
		case !bytes.Equal(frame[at:at+width], sum[:width]):
			t.Fatalf("% X has a wrong check value", frame)
		case c.Field(frame, format.Reach, 0) == nil && format.Reach+c.Tail() <= len(frame):
			t.Fatalf("% X has no field", frame)
		}
		if again, err := c.Judge(frame); again != 0 || err != nil {
			t.Fatalf("% X alone: %d, %v", frame, again, err)
		}
		for n := range frame {
			if need, err := c.Judge(frame[:n]); err != nil || need < 1 || need > len(frame)-n {
				t.Fatalf("%d of % X: need %d, %v", n, frame, need, err)
			}
		}
	})
}
