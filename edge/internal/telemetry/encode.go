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
	cells     []cell    // as they came
	values    []float64 // cell by cell
	before    []uint64
	ends      []int // where the next value of each column goes
	rows      []uint32
	nums      []float64
	texts     []string
	qualities []point.Quality
	encoded   []byte // what encode returned last
}

// encode returns the body of a record, valid until the next call; begun is the
// wall time rows count from.
func (s *scratch) encode(d *device, begun time.Time) ([]byte, error) {
	s.before = resize(s.before, len(d.shape.rank))
	s.cells, s.values = d.log.read(s.cells[:0], s.values[:0], s.before)
	s.transpose(d)
	t := &s.body
	t.Device, t.Rows, t.Columns = d.id, t.Rows[:0], t.Columns[:0]
	for _, ms := range d.rows {
		t.Rows = append(t.Rows, begun.Add(time.Duration(d.base+int64(ms))*time.Millisecond))
	}
	from := 0
	for i, to := range s.ends {
		if to > from {
			t.Columns = append(t.Columns, s.column(d.shape, i, from, to, len(d.rows)))
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

// transpose sorts the cells by the name of their columns; within one they keep
// their order.
func (s *scratch) transpose(d *device) {
	rank := d.shape.rank
	s.ends = resize(s.ends, len(rank))
	clear(s.ends)
	for i := range s.cells {
		s.ends[rank[s.cells[i].column]]++
	}
	sum := 0
	for i, n := range s.ends {
		s.ends[i], sum = sum, sum+n
	}
	s.rows, s.nums = resize(s.rows, sum), resize(s.nums, sum)
	s.texts, s.qualities = resize(s.texts, sum), resize(s.qualities, sum)
	text := 0
	for i := range s.cells {
		c := &s.cells[i]
		column := rank[c.column]
		at := s.ends[column]
		s.ends[column]++
		s.rows[at], s.nums[at], s.qualities[at] = uint32(c.row), s.values[i], c.quality
		if d.shape.metas[column].hasTexts() {
			s.texts[at] = d.texts[text]
			text++
		}
	}
}

func resize[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

func (s *scratch) column(of *shape, i, from, to, rows int) wire.Column {
	meta := of.metas[i]
	c := wire.Column{Point: of.names[i], Unit: meta.Unit, Role: meta.Role, Kind: meta.Kind}
	if meta.hasNums() {
		c.Nums = s.nums[from:to]
	}
	if meta.hasTexts() {
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
