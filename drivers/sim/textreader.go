package sim

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// The frame of a text reader unless it is told otherwise: STX, the digits of the
// card, CR LF, ETX.
const (
	textStart = "\x02"
	textEnd   = "\r\n\x03"
)

// TextReader is a card reader that sends what it read as text, unasked. It has
// a line of its own and hears nothing.
type TextReader struct {
	health
	start, end string

	mu    sync.Mutex // guards the two below
	sinks map[int]func([]byte)
	count int
}

// NewTextReader returns a reader whose frames begin and end so; both empty is
// STX … CR LF ETX.
func NewTextReader(start, end string) *TextReader {
	if start == "" && end == "" {
		start, end = textStart, textEnd
	}
	return &TextReader{start: start, end: end, sinks: make(map[int]func([]byte))}
}

// Present sends a card's number, ten digits, to whoever is connected.
func (r *TextReader) Present(number uint32) { r.Send(fmt.Sprintf("%010d", number)) }

// Send sends text as it is, between start and end.
func (r *TextReader) Send(text string) {
	f := r.asked()
	if f.Silent {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range f.replies([]byte(r.start + text + r.end)) {
		for _, sink := range r.sinks {
			sink(p.bytes)
		}
	}
}

// attach makes sink hear what is sent, until it is detached.
func (r *TextReader) attach(sink func([]byte)) (detach func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	id := r.count
	r.sinks[id] = sink
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.sinks, id)
	}
}

// Attached counts the connections that hear the reader.
func (r *TextReader) Attached() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sinks)
}

func (r *TextReader) setValue(name string, _ float64) error {
	return fmt.Errorf("a text reader has no %q", name)
}

func (r *TextReader) value(name string) (float64, error) {
	return 0, fmt.Errorf("a text reader has no %q", name)
}

func (r *TextReader) join(s station) (station, error) {
	if s != nil {
		return s, errors.New("a text reader has no address: it must have the line for itself")
	}
	return r, nil
}

func (r *TextReader) split(rx []byte) int { return -len(rx) }

func (r *TextReader) answer([]byte) []reply { return nil }

// checkText refuses what cannot stand in a frame.
func (r *TextReader) checkText(text string) error {
	if text == "" || len(text) > 64 || strings.Contains(text, r.end) && r.end != "" {
		return fmt.Errorf("text %q: want 1 to 64 characters without the frame's end", text)
	}
	return nil
}
