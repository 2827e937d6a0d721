package lineframe

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/lineframe"
	"gatehouse/protocol/point"
)

// stream is a line on which a device talks: pieces arrive one at each turn, an
// empty one is silence, and behind the last the line is dead. It resyncs as a
// bus does.
type stream struct {
	pieces []string
	rx     []byte
	sent   bool
}

func (s *stream) Exchange(ctx context.Context, tx []byte, f drivers.Framer) ([]byte, error) {
	s.sent = s.sent || len(tx) > 0
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for len(s.rx) > 0 {
			need, err := f(s.rx)
			if err != nil {
				s.rx = s.rx[1:]
				continue
			}
			if need > 0 {
				break
			}
			n := len(s.rx) + need
			frame := bytes.Clone(s.rx[:n])
			s.rx = s.rx[n:]
			return frame, nil
		}
		if len(s.pieces) == 0 {
			return nil, drivers.ErrLinkDown
		}
		next := s.pieces[0]
		s.pieces = s.pieces[1:]
		if next == "" {
			return nil, drivers.ErrNoReply
		}
		s.rx = append(s.rx, next...)
	}
}

// cards is a card reader that sends STX, the number, CR LF ETX.
func cards(kind, order string) drivers.Spec {
	p := at("card", 1, kind, 0)
	p.Role, p.Kind, p.Order = "card", point.Text, order
	return drivers.Spec{
		Device: "d", Points: []drivers.PointSpec{p},
		Frame: &drivers.Frame{Start: []byte{2}, End: []byte("\r\n\x03"), Max: 32},
	}
}

// hear runs a source over a stream until the line is dead.
func hear(t testing.TB, s drivers.Spec, log *slog.Logger, pieces ...string) (got []point.Reading) {
	t.Helper()
	link := &stream{pieces: pieces}
	d, err := New(s, drivers.Deps{Link: link, Log: log, Card: func(b []byte) string { return "<" + string(b) + ">" }})
	if err != nil {
		t.Fatal(err)
	}
	source, ok := d.(drivers.Source)
	if !ok || len(d.Jobs()) != 0 {
		t.Fatalf("%T with %d jobs: want a source without", d, len(d.Jobs()))
	}
	if err := source.Run(t.Context(), func(r point.Reading) { got = append(got, r) }); !errors.Is(err, drivers.ErrLinkDown) {
		t.Fatalf("the run ended with %v, want ErrLinkDown", err)
	}
	if link.sent {
		t.Error("something was sent to a device that is not asked")
	}
	return got
}

func TestCardsAreHeardThroughWhateverTheLineDoes(t *testing.T) {
	const one, two = "\x020305419896\r\n\x03", "\x022271560481\r\n\x03"
	tests := []struct {
		name   string
		pieces []string
		want   []string
	}{
		{"whole", []string{one}, []string{"<uid:12345678>"}},
		{"split over several reads", []string{one[:1], one[1:5], "", one[5:12], one[12:]}, []string{"<uid:12345678>"}},
		{"noise before", []string{"\xFF\x00 \r\n" + one}, []string{"<uid:12345678>"}},
		{"two glued together", []string{one + two}, []string{"<uid:12345678>", "<uid:87654321>"}},
		{"the same card twice", []string{one, one}, []string{"<uid:12345678>", "<uid:12345678>"}},
		{"damaged, then good", []string{"\x0203054X9896\r\n\x03" + two}, []string{"<uid:87654321>"}},
		{"cut short, then good", []string{one[:6], two}, []string{"<uid:87654321>"}},
		{"nothing between start and end", []string{"\x02\r\n\x03" + two}, []string{"<uid:87654321>"}},
		{"silence", []string{"", "", ""}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range hear(t, cards("decimal", ""), nil, tt.pieces...) {
				if r.Point != "d/card" || r.Kind != point.Event || r.Quality != point.Good || r.Value.Kind != point.Text || r.At.IsZero() {
					t.Errorf("%+v", r)
				}
				got = append(got, r.Value.Text)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestAFrameCutShortAndTheNextAreNeverOneCard cuts a frame at every byte, and
// puts a whole one behind it.
func TestAFrameCutShortAndTheNextAreNeverOneCard(t *testing.T) {
	const first, second = "12345678", "9ABCDEF0"
	crc := func(b string) string {
		sum := lineframe.CRC16Modbus.Sum([]byte(b))
		return b + string(sum[:])
	}
	check := drivers.Check{Kind: "crc16-modbus", From: 0, Until: -2, At: -2}
	formats := map[string]struct {
		f     drivers.Frame
		frame func(card string) string
	}{
		"up to its end":     {drivers.Frame{Start: []byte{2}, End: []byte{3}, Max: 16}, func(c string) string { return "\x02" + c + "\x03" }},
		"a size and an end": {drivers.Frame{Start: []byte{2}, End: []byte{3}, Size: 10}, func(c string) string { return "\x02" + c + "\x03" }},
		"a size and a check": {drivers.Frame{Start: []byte{2}, Size: 11, Check: check}, func(c string) string {
			return crc("\x02" + c)
		}},
		"a length and a check": {drivers.Frame{Start: []byte{2}, Max: 16, Length: &drivers.Length{At: 9, Size: 1, Add: 4}, Check: check}, func(c string) string {
			return crc("\x02" + c + "\x08")
		}},
		"a length and an end": {drivers.Frame{Start: []byte{2}, End: []byte{3}, Max: 16, Length: &drivers.Length{At: 9, Size: 1, Add: 3}}, func(c string) string {
			return "\x02" + c + "\x08\x03"
		}},
	}
	for name, tt := range formats {
		s := cards("hex", "")
		s.Frame, s.Points[0].Size = &tt.f, 8
		cut := tt.frame(first)
		for n := range len(cut) {
			for _, pieces := range [][]string{{cut[:n] + tt.frame(second)}, {cut[:n], tt.frame(second)}} {
				if n == 0 && len(pieces) == 2 {
					pieces = pieces[1:]
				}
				got := hear(t, s, nil, pieces...)
				if len(got) != 1 || got[0].Value.Text != "<uid:"+second+">" {
					t.Errorf("%s, cut at %d: %+v", name, n, got)
				}
			}
		}
	}
}

func TestTheFormOfACardIsData(t *testing.T) {
	tests := []struct {
		kind, order, sent, want string
	}{
		{"hex", "", "12 34 56 78", "<uid:12345678>"},
		{"hex", "LH", "12345678", "<uid:78563412>"},
		{"decimal", "LH", "0305419896", "<uid:78563412>"},
		{"text", "", "\x12\x34\x56\x78", "<uid:12345678>"},
		{"text", "LH", "\x12\x34\x56\x78", "<uid:78563412>"},
		{"u32", "", "\x12\x34\x56\x78", "<uid:12345678>"},
	}
	for _, tt := range tests {
		got := hear(t, cards(tt.kind, tt.order), nil, "\x02"+tt.sent+"\r\n\x03")
		if len(got) != 1 || got[0].Value.Text != tt.want {
			t.Errorf("%s %s: %+v, want %s", tt.kind, tt.order, got, tt.want)
		}
	}
	s := cards("text", "")
	s.Points[0].Role = "keypad"
	if got := hear(t, s, nil, "\x021234\r\n\x03", "\x0212#4\r\n\x03"); len(got) != 1 || got[0].Value.Text != "<code:1234>" {
		t.Errorf("%+v, want the code 1234", got)
	}
}

func TestNoCardNumberIsLogged(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	bad := "\x0299887766X\r\n\x03"
	got := hear(t, cards("decimal", ""), logger, bad, bad, "\x020305419896\r\n\x03", bad)
	if len(got) != 1 {
		t.Errorf("%d readings, want that of the good one", len(got))
	}
	if n := strings.Count(log.String(), "no credential"); n != 2 {
		t.Errorf("%d lines, want one until a good card, and one behind it:\n%s", n, &log)
	}
	for _, digits := range []string{"99887766", "0305419896", "12345678"} {
		if strings.Contains(log.String(), digits) {
			t.Errorf("%s is in the log:\n%s", digits, &log)
		}
	}
}

func TestAnUnaskedDeviceMeasuresToo(t *testing.T) {
	level := at("level", 1, "decimal", 0.01)
	level.Size, level.Role, level.Max = 4, "gas", float(50)
	s := cards("hex", "")
	s.Points[0].At.Address = 6
	s.Points = append(s.Points, level)
	s.Frame.Check = drivers.Check{Kind: "xor8", From: 1, Until: -4, At: -4}
	seal := func(text string) string {
		var x byte
		for _, c := range []byte(text) {
			x ^= c
		}
		return "\x02" + text + string([]byte{x}) + "\r\n\x03"
	}
	got := hear(t, s, nil, seal("1250,12345678"), seal("9999,87654321"))
	if len(got) != 4 || got[0].Value != point.Float(12.5) || got[0].Kind != point.Level || got[1].Value.Text != "<uid:12345678>" {
		t.Fatalf("%+v", got)
	}
	if got[2].Value != point.Float(99.99) || got[2].Quality != point.Good {
		t.Errorf("over its range: %+v, want it to stand", got[2])
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	link := &stream{pieces: []string{"\x020305419896\r\n\x03", "\x022271560481\r\n\x03"}}
	d := build(t, cards("decimal", ""), link)
	var n int
	err := d.(drivers.Source).Run(ctx, func(point.Reading) { n++; cancel() })
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("%v after %d readings, want canceled after 1", err, n)
	}
	if err := d.Do(t.Context(), 0, func(point.Reading) { t.Error("emitted") }); err == nil {
		t.Error("a device that talks unasked was asked")
	}
	if err := d.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v, want the second frame", err)
	}
	if err := d.Probe(t.Context()); !errors.Is(err, drivers.ErrLinkDown) {
		t.Errorf("probe of a dead line: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheDriverOfAReaderNeedsAHash(t *testing.T) {
	_, err := New(cards("decimal", ""), drivers.Deps{Link: &drivertest.Script{}})
	if err == nil || !strings.Contains(err.Error(), "nothing to hash them with") {
		t.Error(err)
	}
}

// FuzzRun checks that no bytes on the line make a source panic or report what
// is no card.
func FuzzRun(f *testing.F) {
	f.Add("\x020305419896\r\n\x03", uint8(3))
	f.Add("\x02\x02\r\n\x03\x0212\r\n\x03", uint8(1))
	f.Fuzz(func(t *testing.T, line string, size uint8) {
		var pieces []string
		for chunk := range slices.Chunk([]byte(line), int(size)+1) {
			pieces = append(pieces, string(chunk))
		}
		for _, r := range hear(t, cards("decimal", ""), nil, pieces...) {
			if !strings.HasPrefix(r.Value.Text, "<uid:") || r.Kind != point.Event {
				t.Errorf("%+v", r)
			}
		}
	})
}
