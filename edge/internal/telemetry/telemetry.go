// Package telemetry gathers readings by device and turns them into telemetry
// records, many polls to a record.
//
// It guarantees: every reading of a known point is in exactly one record,
// unless its role tells where people are: movement never leaves the box;
// Observe allocates nothing once every point has been seen; what is held is
// bounded, and is handed over when Run ends.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// Meta is what a record says about a point beside its values.
type Meta struct {
	Unit point.Unit
	Role point.Role
	Kind point.Kind
}

// Options of a Collector. Append and Record are required.
type Options struct {
	Flush  time.Duration // how long a reading is held; default 10 s
	Points map[point.ID]Meta
	Append func(...wire.Record) error
	Record func(lane wire.Lane, kind string, body []byte) wire.Record
	Log    *slog.Logger
}

// private are the roles from which one could read who is where and when.
var private = map[point.Role]bool{"motion": true, "door_contact": true, "card": true, "water_volume": true}

const (
	maxRows    = 120 // of one device; then it is flushed early
	samePoll   = 200 // milliseconds: readings this close are one row
	flushSteps = 100 // a flush is spread over the interval in this many steps
)

// Collector is fed by Observe and emptied by Run.
type Collector struct {
	opt   Options
	where map[point.ID]place

	mu      sync.Mutex // guards the devices
	devices []*device
	failed  int // records that Append refused since the last success
}

// place is a point's column.
type place struct {
	device *device
	column *column
}

// device holds the rows since its last flush.
type device struct {
	id      string
	rows    []int64 // Unix milliseconds
	columns []*column
	body    wire.Telemetry // reused
}

// column holds one point's values since the last flush, beside the numbers of
// their rows, and the latest value of all.
type column struct {
	name      string
	meta      Meta
	last      point.Value
	rows      []uint32
	nums      []float64
	texts     []string
	qualities []point.Quality
	doubtful  bool // some quality is not good
}

// New sorts the points into devices.
func New(o Options) *Collector {
	if o.Flush <= 0 {
		o.Flush = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Collector{opt: o, where: make(map[point.ID]place, len(o.Points))}
	byID := map[string]*device{}
	for id, meta := range o.Points {
		if private[meta.Role] {
			continue
		}
		d := byID[id.Device()]
		if d == nil {
			d = &device{id: id.Device()}
			byID[d.id] = d
			c.devices = append(c.devices, d)
		}
		col := &column{name: id.Name(), meta: meta}
		d.columns = append(d.columns, col)
		c.where[id] = place{d, col}
	}
	for _, d := range c.devices {
		slices.SortFunc(d.columns, func(a, b *column) int { return strings.Compare(a.name, b.name) })
	}
	slices.SortFunc(c.devices, func(a, b *device) int { return strings.Compare(a.id, b.id) })
	return c
}

// Observe takes readings. Points that are not in Options.Points are left out.
func (c *Collector) Observe(readings []point.Reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range readings {
		r := &readings[i]
		p, ok := c.where[r.Point]
		if !ok {
			continue
		}
		row := p.device.row(r.At.UnixMilli(), p.column)
		if row == maxRows {
			c.flush(p.device)
			row = p.device.row(r.At.UnixMilli(), p.column)
		}
		p.column.add(uint32(row), r)
	}
}

// row returns the number of the row that a reading of col at millisecond at
// belongs to; it may be a new one.
func (d *device) row(at int64, col *column) int {
	n := len(d.rows)
	if n > 0 {
		last := d.rows[n-1]
		taken := len(col.rows) > 0 && int(col.rows[len(col.rows)-1]) == n-1
		if !taken && at-last <= samePoll && last-at <= samePoll {
			return n - 1
		}
		at = max(at, last) // a clock that was set back: rows stay in order
	}
	if n < maxRows {
		d.rows = append(d.rows, at)
	}
	return n
}

// add takes a reading. A reading without a value is told by its quality, beside
// the last value there was.
func (col *column) add(row uint32, r *point.Reading) {
	if r.Value.Kind != point.None {
		col.last = r.Value
	}
	col.rows = append(col.rows, row)
	if col.meta.Kind != point.Text {
		col.nums = append(col.nums, col.last.Num)
	}
	if col.meta.Kind == point.State || col.meta.Kind == point.Text {
		col.texts = append(col.texts, strings.ToValidUTF8(col.last.Text, "\uFFFD")) // else nothing of the record could travel
	}
	col.qualities = append(col.qualities, r.Quality)
	col.doubtful = col.doubtful || r.Quality != point.Good
}

// Run flushes the devices one after another, each once per interval, until ctx
// ends; then it flushes them all.
func (c *Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(c.opt.Flush / flushSteps)
	defer tick.Stop()
	for step := 0; ; step = (step + 1) % flushSteps {
		select {
		case <-tick.C:
			c.flushShare(step)
		case <-ctx.Done():
			c.flushAll()
			return nil
		}
	}
}

// flushShare flushes the devices whose turn it is at step.
func (c *Collector) flushShare(step int) {
	n := len(c.devices)
	for _, d := range c.devices[step*n/flushSteps : (step+1)*n/flushSteps] {
		c.mu.Lock() // one device at a time: Observe waits no longer than that
		c.flush(d)
		c.mu.Unlock()
	}
}

func (c *Collector) flushAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.devices {
		c.flush(d)
	}
}

// flush hands the device's rows over as one record; mu is held.
func (c *Collector) flush(d *device) {
	if len(d.rows) == 0 {
		return
	}
	body, err := d.encode()
	d.reset()
	if err == nil {
		err = c.opt.Append(c.opt.Record(wire.LaneTelemetry, wire.KindTelemetry, body))
	}
	switch {
	case err != nil:
		if c.failed++; c.failed == 1 {
			c.opt.Log.Error("telemetry is lost", "device", d.id, "err", err)
		}
	case c.failed > 0:
		c.opt.Log.Info("telemetry is taken again", "records_lost", c.failed)
		c.failed = 0
	}
}

func (d *device) encode() ([]byte, error) {
	t := &d.body
	t.Device, t.Rows, t.Columns = d.id, t.Rows[:0], t.Columns[:0]
	for _, ms := range d.rows {
		t.Rows = append(t.Rows, time.UnixMilli(ms))
	}
	for _, col := range d.columns {
		if len(col.rows) == 0 {
			continue
		}
		w := wire.Column{Point: col.name, Unit: col.meta.Unit, Role: col.meta.Role, Kind: col.meta.Kind, Nums: col.nums, Texts: col.texts}
		if len(col.rows) < len(d.rows) {
			w.Rows = col.rows
		}
		if col.doubtful {
			w.Qualities = col.qualities
		}
		t.Columns = append(t.Columns, w)
	}
	body, err := t.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode telemetry of %s: %w", d.id, err)
	}
	return body, nil
}

func (d *device) reset() {
	d.rows = d.rows[:0]
	for _, col := range d.columns {
		col.rows, col.nums, col.qualities, col.doubtful = col.rows[:0], col.nums[:0], col.qualities[:0], false
		clear(col.texts)
		col.texts = col.texts[:0]
	}
}
