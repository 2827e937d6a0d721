package telemetry

import (
	"fmt"
	"slices"
	"time"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// scratch turns a device's log into columns. Its memory is used again.
type scratch struct {
	body      wire.Telemetry
	ends      []int // where the next value of each column goes
	rows      []uint32
	nums      []float64
	texts     []string
	qualities []point.Quality
	encoded   []byte // what encode returned last
}

// encode returns the body of a record, valid until the next call; begun is the
// wall time rows count from.
func (s *scratch) encode(d *device, columns []column, begun time.Time) ([]byte, error) {
	s.transpose(d, columns)
	t := &s.body
	t.Device, t.Rows, t.Columns = d.id, t.Rows[:0], t.Columns[:0]
	for _, ms := range d.rows {
		t.Rows = append(t.Rows, begun.Add(time.Duration(ms)*time.Millisecond))
	}
	from := 0
	for i := range columns {
		if to := s.ends[i]; to > from {
			t.Columns = append(t.Columns, s.column(&columns[i], from, to, len(d.rows)))
			from = to
		}
	}
	body, err := t.Append(s.encoded[:0])
	s.encoded = body
	if err != nil {
		return nil, fmt.Errorf("encode telemetry of %s: %w", d.id, err)
	}
	return body, nil
}

// transpose sorts the cells by column; within one they keep their order.
func (s *scratch) transpose(d *device, columns []column) {
	s.ends = resize(s.ends, len(columns))
	clear(s.ends)
	for i := range d.cells {
		s.ends[d.cells[i].column]++
	}
	sum := 0
	for i, n := range s.ends {
		s.ends[i], sum = sum, sum+n
	}
	s.rows, s.nums = resize(s.rows, sum), resize(s.nums, sum)
	s.texts, s.qualities = resize(s.texts, sum), resize(s.qualities, sum)
	text := 0
	for i := range d.cells {
		c := &d.cells[i]
		at := s.ends[c.column]
		s.ends[c.column]++
		s.rows[at], s.nums[at], s.qualities[at] = uint32(c.row), d.nums[i], c.quality
		if columns[c.column].hasTexts() {
			s.texts[at] = d.texts[text]
			text++
		}
	}
}

func resize[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

func (s *scratch) column(col *column, from, to, rows int) wire.Column {
	c := wire.Column{Point: col.name, Unit: col.meta.Unit, Role: col.meta.Role, Kind: col.meta.Kind}
	if col.hasNums() {
		c.Nums = s.nums[from:to]
	}
	if col.hasTexts() {
		c.Texts = s.texts[from:to]
	}
	if to-from < rows {
		c.Rows = s.rows[from:to]
	}
	if slices.ContainsFunc(s.qualities[from:to], func(q point.Quality) bool { return q != point.Good }) {
		c.Qualities = s.qualities[from:to]
	}
	return c
}
