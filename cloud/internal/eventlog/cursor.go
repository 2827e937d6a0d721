package eventlog

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"gatehouse/protocol/wire"
)

// Errors of cursors.
var (
	// ErrCursor occurs when a string is no cursor of this log's making.
	ErrCursor = errors.New("not a cursor")
	// ErrOtherFilter occurs when a cursor was made with another filter.
	ErrOtherFilter = errors.New("cursor belongs to another filter")
)

// Cursor is a place in the log as one filter sees it. The zero Cursor is
// before everything.
type Cursor struct {
	filter uint64
	pos    [len(laneOrder)]position
}

// laneOrder is the order of the lanes in a cursor and in a page: most urgent
// first.
var laneOrder = [...]wire.Lane{wire.LaneAlarm, wire.LaneEvent, wire.LaneTelemetry, wire.LaneMedia}

// position is a place in one stream: all up to and including message seq is
// behind it, or, with an index, all before message seq and index of its records.
type position struct {
	incarnation int64 // creation time of the stream; 0 before the first read
	seq         uint64
	index       uint32
}

// next is the first message that is not wholly behind p.
func (p position) next() uint64 {
	if p.index > 0 {
		return p.seq
	}
	return p.seq + 1
}

const cursorVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// String returns the opaque form: version, filter, positions, checksum.
func (c Cursor) String() string {
	p := make([]byte, 0, 64)
	p = append(p, cursorVersion)
	p = binary.BigEndian.AppendUint64(p, c.filter)
	for _, pos := range c.pos {
		p = binary.AppendVarint(p, pos.incarnation)
		p = binary.AppendUvarint(p, pos.seq)
		p = binary.AppendUvarint(p, uint64(pos.index))
	}
	p = binary.BigEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
	return base64.RawURLEncoding.EncodeToString(p)
}

// ParseCursor is the inverse of Cursor.String.
func ParseCursor(s string) (c Cursor, err error) {
	p, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(p) < 1+8+4 {
		return Cursor{}, ErrCursor
	}
	p, sum := p[:len(p)-4], p[len(p)-4:]
	if crc32.Checksum(p, castagnoli) != binary.BigEndian.Uint32(sum) {
		return Cursor{}, ErrCursor
	}
	if p[0] != cursorVersion {
		return Cursor{}, fmt.Errorf("%w: version %d", ErrCursor, p[0])
	}
	c.filter = binary.BigEndian.Uint64(p[1:9])
	p = p[9:]
	for i := range c.pos {
		if c.pos[i], p, err = parsePosition(p); err != nil {
			return Cursor{}, err
		}
	}
	if len(p) > 0 {
		return Cursor{}, ErrCursor
	}
	return c, nil
}

func parsePosition(p []byte) (pos position, rest []byte, err error) {
	incarnation, n := binary.Varint(p)
	if n <= 0 {
		return pos, nil, ErrCursor
	}
	p = p[n:]
	seq, n := binary.Uvarint(p)
	if n <= 0 {
		return pos, nil, ErrCursor
	}
	p = p[n:]
	index, n := binary.Uvarint(p)
	if n <= 0 || index > 1<<31 {
		return pos, nil, ErrCursor
	}
	return position{incarnation: incarnation, seq: seq, index: uint32(index)}, p[n:], nil
}
