// Package lineframe knows frames that a description alone tells from noise: of a
// fixed size, of a size that stands in them, or up to their end bytes.
//
// It guarantees: a frame is accepted only if it begins, ends, and is as long as
// described, is long enough for every field, and its check value is right; a frame
// that goes on to its end bytes and has no check value never holds the first bytes
// of another; no function reads past the bytes it is given, allocates, or panics
// on any input.
//
// It cannot promise that of a frame whose size is known: its data may look like a
// beginning. If such a frame was cut short, what follows fills it up, and only its
// end bytes or its check value can tell. Format.Sealed says whether there are any.
// One with neither is for devices that answer a request on a quiet line.
package lineframe

import (
	"bytes"
	"errors"
	"fmt"
)

// Errors of a frame. Both mean that no frame begins at the first byte.
var (
	// ErrForeign occurs when the bytes cannot begin a frame.
	ErrForeign = errors.New("foreign frame")
	// ErrDamaged occurs when a frame begins and ends, and what is between is wrong.
	ErrDamaged = fmt.Errorf("damaged frame: %w", ErrForeign)
)

// Longest is the size of the longest frame that can be described.
const Longest = 256

// Format describes the frames of one device.
type Format struct {
	Start  []byte  // the first bytes
	End    []byte  // the last bytes
	Size   int     // of the whole frame, if it is fixed
	Length *Length // or where the frame says it; without either, End ends it
	Max    int     // of the longest frame, if the size is not fixed
	Check  Check
	Reach  int // a shorter frame lacks a field
}

// Sealed reports whether frames show at their end that they are whole.
func (f *Format) Sealed() bool { return len(f.End) > 0 || f.Check.Kind != None }

// Length is where a frame says how long it is: the number at At, of Size bytes,
// plus Add.
type Length struct {
	At     int
	Size   int
	Little bool // low byte first
	Add    int
}

// Check is the check value at At over the bytes from From up to, not including,
// Until. Negative places count from the end of the frame.
type Check struct {
	Kind            Kind
	From, Until, At int
}

// Codec judges frames of one format.
type Codec struct {
	f        Format
	shortest int
}

// New returns the codec of a format, or every fault of it.
func New(f Format) (*Codec, error) {
	c := &Codec{f: f}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// Shortest and Longest are the sizes a frame can have.
func (c *Codec) Shortest() int { return c.shortest }

// Longest is the size of the longest frame.
func (c *Codec) Longest() int { return max(c.f.Size, c.f.Max) }

// Judge looks at the bytes received so far, which begin where a frame may begin.
// need > 0: so many bytes are missing at the least; need == 0: rx is the whole
// frame; need < 0: the last -need bytes of rx do not belong to it.
func (c *Codec) Judge(rx []byte) (need int, err error) {
	for i, b := range rx[:min(len(rx), len(c.f.Start))] {
		if b != c.f.Start[i] {
			return 0, ErrForeign
		}
	}
	if len(rx) < len(c.f.Start) {
		return c.shortest - len(rx), nil
	}
	total := c.f.Size
	switch l := c.f.Length; {
	case l != nil:
		if len(rx) < l.At+l.Size {
			return c.shortest - len(rx), nil
		}
		total = int(Uint(rx[l.At:l.At+l.Size], l.Little)) + l.Add
		if total < c.shortest || total > c.f.Max {
			return 0, ErrForeign
		}
	case total == 0:
		return c.delimited(rx)
	}
	if len(rx) < total {
		return total - len(rx), nil
	}
	if !bytes.HasSuffix(rx[:total], c.f.End) {
		return 0, ErrForeign
	}
	if !c.intact(rx[:total]) {
		return 0, ErrDamaged
	}
	return total - len(rx), nil
}

// delimited judges a frame that goes on to its end bytes. Where the check value
// may look like them, so that the frame seems to end early, the places behind
// are tried as well.
func (c *Codec) delimited(rx []byte) (need int, err error) {
	first := bytes.Index(rx[len(c.f.Start):], c.f.End)
	if first < 0 {
		if len(rx) >= c.f.Max {
			return 0, ErrForeign
		}
		return max(c.shortest-len(rx), 1), nil
	}
	first += len(c.f.Start) + len(c.f.End)
	for total := first; total <= first+c.f.Check.Kind.Width() && total <= c.f.Max; total++ {
		switch {
		case total < c.shortest:
		case len(rx) < total:
			if c.mayEnd(rx, total) {
				return total - len(rx), nil
			}
		case bytes.HasSuffix(rx[:total], c.f.End) && c.intact(rx[:total]) && !c.hidesAnother(rx[:total]):
			return total - len(rx), nil
		}
	}
	return 0, ErrDamaged
}

// mayEnd reports whether a frame may end at total, behind what has come: its
// check value is known by now, and begins as it must.
func (c *Codec) mayEnd(rx []byte, total int) bool {
	from, until, at := c.places(total)
	if until > len(rx) || at >= len(rx) {
		return false
	}
	sum := c.f.Check.Kind.Sum(rx[from:until])
	for i := range min(len(rx)-at, c.f.Check.Kind.Width()) {
		if rx[at+i] != sum[i] {
			return false
		}
	}
	for i := total - len(c.f.End); i < len(rx); i++ {
		if rx[i] != c.f.End[i-(total-len(c.f.End))] {
			return false
		}
	}
	return true
}

// hidesAnother reports whether an unchecked frame contains the first bytes of
// one: its own end was lost, and what follows is not part of it.
func (c *Codec) hidesAnother(frame []byte) bool {
	start := c.f.Start
	return c.f.Check.Kind == None && len(start) > 0 && bytes.Contains(frame[len(start):len(frame)-len(c.f.End)], start)
}

// places resolves the places of the check value in a frame of that size.
func (c *Codec) places(total int) (from, until, at int) {
	resolve := func(n int) int {
		if n < 0 {
			return total + n
		}
		return n
	}
	return resolve(c.f.Check.From), resolve(c.f.Check.Until), resolve(c.f.Check.At)
}

// covers reports whether a frame of that size has room for the check value
// and something it covers, which is not itself.
func (c *Codec) covers(total int) bool {
	from, until, at := c.places(total)
	width := c.f.Check.Kind.Width()
	return width == 0 ||
		from >= 0 && from < until && until <= total && at >= 0 && at+width <= total && (at >= until || at+width <= from)
}

// intact reports whether the check value of a whole frame is right.
func (c *Codec) intact(frame []byte) bool {
	width := c.f.Check.Kind.Width()
	if width == 0 {
		return true
	}
	if !c.covers(len(frame)) {
		return false
	}
	from, until, at := c.places(len(frame))
	sum := c.f.Check.Kind.Sum(frame[from:until])
	return bytes.Equal(frame[at:at+width], sum[:width])
}

// Field returns the bytes of a field of a whole frame; size 0 means all up to
// the check value, if it stands before the end bytes, and these. It returns nil
// if the frame is too short.
func (c *Codec) Field(frame []byte, at, size int) []byte {
	end := at + size
	if size == 0 {
		end = len(frame) - c.tail(len(frame))
	}
	if at < 0 || at > end || end > len(frame) {
		return nil
	}
	return frame[at:end]
}

// Tail is how many bytes stand behind a field of size 0.
func (c *Codec) Tail() int { return c.tail(c.shortest) }

func (c *Codec) tail(total int) int {
	width := c.f.Check.Kind.Width()
	if _, _, at := c.places(total); width > 0 && at+width == total-len(c.f.End) {
		return len(c.f.End) + width
	}
	return len(c.f.End)
}
