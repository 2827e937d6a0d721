package wire

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The two messages that a gateway makes all day are written field by field, in
// the bytes that package proto would write, without the garbage it would make.
// Field numbers are those of wire.proto.

// Append appends the protobuf form of b to dst.
func (b Batch) Append(dst []byte) ([]byte, error) {
	if !utf8.ValidString(b.Gateway) || !utf8.ValidString(b.Epoch) {
		return dst, errors.New("batch: gateway or epoch is no text")
	}
	dst = appendUint(dst, 1, uint64(b.Version))
	dst = appendString(dst, 2, b.Gateway)
	dst = appendString(dst, 3, b.Epoch)
	dst = appendUint(dst, 4, uint64(b.Lane))
	for i := range b.Records {
		r := &b.Records[i]
		if !utf8.ValidString(r.Kind) {
			return dst, fmt.Errorf("record %d: the kind is no text", r.Seq)
		}
		var mark int
		dst, mark = begin(dst, 5)
		dst = appendBytes(dst, 1, r.ID[:])
		dst = appendUint(dst, 2, r.Seq)
		dst = appendString(dst, 3, r.Kind)
		dst = appendUint(dst, 4, uint64(r.Time.UnixNano()))
		dst = appendUint(dst, 5, uint64(r.Clock))
		dst = appendBytes(dst, 6, r.Boot[:])
		dst = appendUint(dst, 7, uint64(r.Mono))
		dst = appendBytes(dst, 8, r.Body)
		dst = end(dst, mark)
	}
	return dst, nil
}

// Append appends the protobuf form of t to dst. Values that are short decimals
// travel as differences of integers, all others as doubles; both come back
// exactly. It fails without a row, and where rows are out of order or 49 days
// apart.
func (t *Telemetry) Append(dst []byte) ([]byte, error) {
	if err := t.check(); err != nil {
		return dst, err
	}
	dst = appendString(dst, 1, t.Device)
	dst = appendUint(dst, 2, protowire.EncodeZigZag(t.Rows[0].UnixMilli()))
	if len(t.Rows) > 1 {
		var mark int
		dst, mark = begin(dst, 3)
		for i, at := range t.Rows[1:] {
			dst = protowire.AppendVarint(dst, uint64(step(t.Rows[i], at)))
		}
		dst = end(dst, mark)
	}
	for i := range t.Columns {
		var mark int
		dst, mark = begin(dst, 4)
		dst = t.Columns[i].append(dst)
		dst = end(dst, mark)
	}
	return dst, nil
}

func (t *Telemetry) check() error {
	if len(t.Rows) == 0 {
		return errors.New("telemetry without a row")
	}
	for i, at := range t.Rows[1:] {
		if ms := step(t.Rows[i], at); ms < 0 || ms > math.MaxUint32 {
			return fmt.Errorf("telemetry: row %d is %d ms after the one before", i+1, ms)
		}
	}
	valid := utf8.ValidString(t.Device)
	for i := range t.Columns {
		c := &t.Columns[i]
		valid = valid && utf8.ValidString(c.Point) && utf8.ValidString(string(c.Unit)) && utf8.ValidString(string(c.Role))
		for _, text := range c.Texts {
			valid = valid && utf8.ValidString(text)
		}
	}
	if !valid {
		return fmt.Errorf("telemetry of %q: a name or a value is no text", t.Device)
	}
	return nil
}

// step is the time between two rows in milliseconds.
func step(before, at time.Time) int64 { return at.UnixMilli() - before.UnixMilli() }

func (c *Column) append(dst []byte) []byte {
	dst = appendString(dst, 1, c.Point)
	dst = appendString(dst, 2, string(c.Unit))
	dst = appendString(dst, 3, string(c.Role))
	dst = appendUint(dst, 4, uint64(c.Kind))
	var mark int
	switch scale, ok := decimals(c.Nums); {
	case len(c.Nums) == 0:
	case ok:
		dst = appendUint(dst, 5, uint64(scale))
		dst, mark = begin(dst, 6)
		last := int64(0)
		for _, v := range c.Nums {
			n := int64(math.Round(v * pow10[scale]))
			dst = protowire.AppendVarint(dst, protowire.EncodeZigZag(n-last))
			last = n
		}
		dst = end(dst, mark)
	default:
		dst, mark = begin(dst, 7)
		for _, v := range c.Nums {
			dst = protowire.AppendFixed64(dst, math.Float64bits(v))
		}
		dst = end(dst, mark)
	}
	for _, text := range c.Texts {
		dst = protowire.AppendTag(dst, 8, protowire.BytesType)
		dst = protowire.AppendString(dst, text)
	}
	if len(c.Rows) > 0 {
		dst, mark = begin(dst, 9)
		for _, r := range c.Rows {
			dst = protowire.AppendVarint(dst, uint64(r))
		}
		dst = end(dst, mark)
	}
	if len(c.Qualities) > 0 {
		dst, mark = begin(dst, 10)
		for _, q := range c.Qualities {
			dst = protowire.AppendVarint(dst, uint64(q))
		}
		dst = end(dst, mark)
	}
	return dst
}

// As proto3 has it, a field that is zero or empty is not written.

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendString(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

// begin opens a field whose length is not known yet; end, given the mark, puts
// the length in front of what was appended in between.
func begin(dst []byte, field protowire.Number) (_ []byte, mark int) {
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	return dst, len(dst)
}

func end(dst []byte, mark int) []byte {
	n := len(dst) - mark
	size := protowire.SizeVarint(uint64(n))
	for range size {
		dst = append(dst, 0)
	}
	copy(dst[mark+size:], dst[mark:mark+n])
	protowire.AppendVarint(dst[:mark], uint64(n)) // in place: there is room
	return dst
}
