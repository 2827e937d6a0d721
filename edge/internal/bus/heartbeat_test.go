package bus

import (
	"bytes"
	"testing"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

// abc accepts the frame a, b, c, whatever follows.
func abc(rx []byte) (int, error) {
	for i := range min(len(rx), 3) {
		if rx[i] != "abc"[i] {
			return 0, drivers.ErrForeign
		}
	}
	return 3 - len(rx), nil
}

// beating is a bus whose serial server says beat between frames.
func beating(t testing.TB, beat string) *Bus {
	b, err := New(Options{ID: "b", Link: "tcp://h:1", Emit: func([]point.Reading) {}})
	if err != nil {
		t.Fatal(err)
	}
	b.link.Heartbeat = beat
	return b
}

func TestHeartbeatsBetweenFrames(t *testing.T) {
	for _, c := range []struct {
		beat, came string
		from       int // where the reply is found, or -1
		start      int // what is slid over if it is not
	}{
		{"xy", "xyabc", 2, 0},
		{"xy", "xyxyabc", 4, 0},
		{"xy", "x", -1, 0}, // the rest of it may come
		{"xy", "xy", -1, 2},
		{"xy", "xyx", -1, 2},
		{"xy", "xzabc", 2, 0},
		{"ab", "ababc", 2, 0},   // begins like the reply
		{"ab", "ab", -1, 0},     // may be the reply
		{"ab", "abab", -1, 3},   // slid over: neither
		{"abc", "abc", 0, 0},    // is the reply
		{"abc", "abcabc", 0, 0}, // the framer rules
		{"c", "abc", 0, 0},      // inside
		{"bc", "abc", 0, 0},
	} {
		b := beating(t, c.beat)
		w := window{tx: []byte("?"), end: copy(b.rx[:], c.came)}
		reply := b.scan(&w, abc)
		if (reply != nil) != (c.from >= 0) || reply != nil && (w.start != c.from || string(reply) != "abc") {
			t.Errorf("%q with the heartbeat %q: %q at %d", c.came, c.beat, reply, w.start)
		}
		if reply == nil && c.beat != "ab" && w.start != c.start {
			t.Errorf("%q with the heartbeat %q: slid to %d, want %d", c.came, c.beat, w.start, c.start)
		}
	}
}

// FuzzHeartbeat checks that a reply behind any number of heartbeats is found
// however it is cut, and that stripping ends.
func FuzzHeartbeat(f *testing.F) {
	f.Add([]byte("xy"), uint8(2), uint16(3))
	f.Add([]byte("ab"), uint8(1), uint16(1))
	f.Fuzz(func(t *testing.T, beat []byte, times uint8, cut uint16) {
		if len(beat) == 0 || len(beat) > maxPacket {
			return
		}
		b := beating(t, string(beat))
		came := append(bytes.Repeat(beat, int(times%10)), "abc"...)
		at := min(int(cut), len(came))
		w := window{tx: []byte("?"), end: copy(b.rx[:], came[:at])}
		reply := b.scan(&w, abc)
		if reply == nil {
			w.end += copy(b.rx[w.end:], came[at:])
			reply = b.scan(&w, abc)
		}
		if string(reply) != "abc" {
			for reply == nil && w.start < w.end { // as at the deadline
				w.start++
				reply = b.scan(&w, abc)
			}
		}
		if string(reply) != "abc" {
			t.Errorf("%q in two pieces, cut at %d: %q", came, at, reply)
		}
	})
}
