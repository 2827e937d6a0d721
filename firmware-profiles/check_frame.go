package profiles

import "slices"

// checkWidths are the kinds of check value a frame can carry, by bytes.
var checkWidths = map[string]int{"sum8": 1, "neg8": 1, "xor8": 1, "crc16-modbus": 2, "crc16-ccitt": 2}

var checkKinds = []string{"sum8", "neg8", "xor8", "crc16-modbus", "crc16-ccitt"}

// frame checks that a line-frame device's frames can be told from noise: where
// one begins, where it ends, and that nothing lies outside.
func (c checker) frame() {
	f := c.p.Frame
	switch {
	case f == nil && c.way.name == "lineframe":
		c.Fail("frame", "say what a frame looks like: {start: FF 86, size: 11, check: …}", "is missing")
		return
	case f == nil:
		return
	case c.way.name != "lineframe":
		c.Fail("frame", "remove it", "driver %s knows its frames", c.way.name)
		return
	}
	c.extent(f)
	if len(f.Start) == 0 && len(f.End) == 0 && f.Check == nil {
		c.Fail("frame.start", "give the first bytes, the last ones or a check value", "nothing tells a frame from noise")
	}
	if len(f.Request) == 0 && len(f.End) == 0 && f.Check == nil {
		c.Fail("frame.end", "give the end bytes or the check value", "of a device that talks unasked a frame cut short and the next could be taken for one")
	}
	if len(f.Request) > maxFrame {
		c.Fail("frame.request", "use at most 256 bytes", "%d bytes are too many", len(f.Request))
	}
	longest := f.longest()
	if n := len(f.Start) + len(f.End); longest > 0 && n > longest {
		c.Fail("frame.start", "shorten start and end", "%d bytes do not fit a frame of %d", n, longest)
	}
	c.length(f, longest)
	c.checkValue(f, longest)
}

// longest is the size of the longest frame.
func (f *Frame) longest() int {
	if f.Size > 0 {
		return f.Size
	}
	return f.Max
}

// extent checks that there is one way to know where a frame ends.
func (c checker) extent(f *Frame) {
	ways := 0
	for _, given := range []bool{f.Size != 0, f.Length != nil, f.Size == 0 && f.Length == nil && len(f.End) > 0} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		c.Fail("frame.size", "give size, or length, or the end bytes of a frame", "there is not one way to know where a frame ends")
	case f.Size < 0 || f.Size > maxFrame:
		c.Fail("frame.size", "use 1 to 256", "%d bytes are no frame", f.Size)
	case f.Size > 0 && f.Max != 0:
		c.Fail("frame.max", "remove it", "the size is fixed")
	case f.Size == 0 && (f.Max < 1 || f.Max > maxFrame):
		c.Fail("frame.max", "give the size of the longest frame, up to 256", "%d bytes are no frame", f.Max)
	}
}

func (c checker) length(f *Frame, longest int) {
	l := f.Length
	if l == nil {
		return
	}
	if l.Size != 1 && l.Size != 2 {
		c.Fail("frame.length.size", "1 or 2", "a length of %d bytes is not read", l.Size)
	}
	if l.At < 0 || l.At+l.Size > longest {
		c.Fail("frame.length.at", "count from the first byte of the frame, from 0", "%d lies outside the frame", l.At)
	}
	if l.Add < -maxFrame || l.Add > maxFrame {
		c.Fail("frame.length.add", "give what the length does not count", "%d is more than a frame", l.Add)
	}
	if l.Little && l.Size == 1 {
		c.Fail("frame.length.little", "remove it", "one byte has no order")
	}
}

// checkValue checks the check value's place; what counts from the end is
// measured in the longest frame.
func (c checker) checkValue(f *Frame, longest int) {
	k := f.Check
	if k == nil {
		return
	}
	oneOf(c, "frame.check.kind", k.Kind, checkKinds)
	if !slices.Contains(checkKinds, k.Kind) || longest < 1 || longest > maxFrame {
		return
	}
	place := func(n int) int {
		if n < 0 {
			return longest + n
		}
		return n
	}
	from, until, at := place(k.From), place(k.Until), place(k.At)
	width := checkWidths[k.Kind]
	if from < 0 || from >= until || until > longest {
		c.Fail("frame.check.from", "give from and until within the frame; -1 is its last byte, and until is not included", "covers no bytes")
	}
	if at < 0 || at+width > longest {
		c.Fail("frame.check.at", "name its first byte; -1 is the last byte of the frame", "%d lies outside the frame", k.At)
	} else if at < until && at+width > from {
		c.Fail("frame.check.at", "let from and until leave it out", "the check value would check itself")
	}
}
