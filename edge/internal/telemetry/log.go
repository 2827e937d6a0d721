package telemetry

import (
	"math"
	"math/bits"

	"gatehouse/protocol/point"
)

// cell is one reading: where it stands and how good it is.
type cell struct {
	column  uint16 // of the device, in the order of slots
	row     uint8
	quality point.Quality
}

// cellLog is the cells of one device in the order in which they came, each in
// two or three bytes most of the time: every device has one, and what it holds
// between two flushes is most of what the daemon holds.
//
// A cell is a tag, what the tag announces, and the value: those bytes of its
// bits XOR the bits of the column's value before that are not zero. Of a number
// that moves a little, these are few.
//
//	tag bits 0-2  zero bytes in front of those written
//	    bits 3-5  bytes written, less one
//	    bit  6    a column (two bytes) and a row (one) follow; else it is the
//	              next column of the same row, or the first of the next row
//	    bit  7    a quality follows; else it is Good
type cellLog struct {
	bytes   []byte
	last    cell
	columns uint16 // index of the last there is
}

const (
	tagPlace   = 1 << 6
	tagQuality = 1 << 7
)

// reset empties the log of a device with so many columns.
func (l *cellLog) reset(columns int) {
	l.bytes, l.columns = l.bytes[:0], uint16(columns-1)
	l.last = l.start()
}

// start is the cell before the first: the next is column 0 of row 0.
func (l *cellLog) start() cell { return cell{column: l.columns, row: math.MaxUint8} }

// next is where a cell stands that the tag does not say it of.
func (l *cellLog) next(last cell) cell {
	if last.column == l.columns {
		return cell{row: last.row + 1}
	}
	return cell{column: last.column + 1, row: last.row}
}

// add takes a cell; before is the value of its column before that.
func (l *cellLog) add(c cell, value, before float64) {
	diff := math.Float64bits(value) ^ math.Float64bits(before)
	lead, trail := 7, 0
	if diff != 0 {
		lead, trail = bits.LeadingZeros64(diff)/8, bits.TrailingZeros64(diff)/8
	}
	size := 8 - lead - trail
	tag := byte(lead | (size-1)<<3)
	next := l.next(l.last)
	elsewhere := next.column != c.column || next.row != c.row
	if elsewhere {
		tag |= tagPlace
	}
	if c.quality != point.Good {
		tag |= tagQuality
	}
	l.bytes = append(l.bytes, tag)
	if elsewhere {
		l.bytes = append(l.bytes, byte(c.column>>8), byte(c.column), c.row)
	}
	if c.quality != point.Good {
		l.bytes = append(l.bytes, byte(c.quality))
	}
	for i := size - 1; i >= 0; i-- {
		l.bytes = append(l.bytes, byte(diff>>(8*(trail+i))))
	}
	l.last = c
}

// read appends the cells and their values. before is memory for a number per
// column.
func (l *cellLog) read(cells []cell, values []float64, before []uint64) ([]cell, []float64) {
	clear(before)
	last := l.start()
	for b := l.bytes; len(b) > 0; {
		tag := b[0]
		b = b[1:]
		c := l.next(last)
		if tag&tagPlace != 0 {
			c.column, c.row = uint16(b[0])<<8|uint16(b[1]), b[2]
			b = b[3:]
		}
		c.quality = point.Good
		if tag&tagQuality != 0 {
			c.quality = point.Quality(b[0])
			b = b[1:]
		}
		lead, size := int(tag&7), int(tag>>3&7)+1
		diff := uint64(0)
		for _, v := range b[:size] {
			diff = diff<<8 | uint64(v)
		}
		b = b[size:]
		before[c.column] ^= diff << (8 * (8 - lead - size))
		cells, values = append(cells, c), append(values, math.Float64frombits(before[c.column]))
		last = c
	}
	return cells, values
}
