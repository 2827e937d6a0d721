// Package telemetry gathers readings by device and turns them into telemetry
// records, many polls to a record.
//
// It guarantees: every reading of a known point is in exactly one record,
// unless its role tells where people are: movement never leaves the box;
// Observe allocates nothing once every point has been seen; what is held is
// bounded, and is handed over when Run ends.
package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"math"
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
	where map[point.ID]int32 // index into columns

	mu      sync.Mutex // guards all below
	columns []column   // those of a device stand together, by name
	devices []device
	scratch scratch
	failed  int // records that Append refused since the last success
}

// device holds the rows since its last flush, as a log of what came: one small
// slice per device, because there are many devices and little memory.
type device struct {
	id          string
	first, last int     // columns[first:last] are its own
	rows        []int64 // Unix milliseconds
	cells       []cell
	texts       []string // of the cells in columns that have texts, in their order
}

// cell is one reading.
type cell struct {
	num     float64
	column  uint16 // counted from device.first
	row     uint8
	quality point.Quality
}

// column is one point, with its latest value.
type column struct {
	name   string
	meta   Meta
	device int32
	row    int32 // of its latest cell since the flush; -1: none
	num    float64
	text   string
}

func (col *column) hasNums() bool { return col.meta.Kind != point.Text }

func (col *column) hasTexts() bool {
	return col.meta.Kind == point.State || col.meta.Kind == point.Text
}

// New sorts the points into devices.
func New(o Options) *Collector {
	if o.Flush <= 0 {
		o.Flush = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ids := make([]point.ID, 0, len(o.Points))
	for id, meta := range o.Points {
		if !private[meta.Role] {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b point.ID) int {
		return cmp.Or(strings.Compare(a.Device(), b.Device()), strings.Compare(a.Name(), b.Name()))
	})
	c := &Collector{opt: o, where: make(map[point.ID]int32, len(ids)), columns: make([]column, len(ids))}
	c.opt.Points = nil // the caller's map need not stay in memory
	for i, id := range ids {
		n := len(c.devices)
		if n == 0 || c.devices[n-1].id != id.Device() || i-c.devices[n-1].first > math.MaxUint16 {
			c.devices = append(c.devices, device{id: id.Device(), first: i})
			n++
		}
		c.devices[n-1].last = i + 1
		c.columns[i] = column{name: id.Name(), meta: o.Points[id], device: int32(n - 1), row: -1}
		c.where[id] = int32(i)
	}
	return c
}

// Observe takes readings. Points that are not in Options.Points are left out.
func (c *Collector) Observe(readings []point.Reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range readings {
		r := &readings[i]
		at, ok := c.where[r.Point]
		if !ok {
			continue
		}
		col := &c.columns[at]
		d := &c.devices[col.device]
		if !d.place(r.At.UnixMilli(), col) {
			c.flush(d)
			d.place(r.At.UnixMilli(), col)
		}
		d.add(uint16(int(at)-d.first), col, r)
	}
}

// place gives col the row that its reading of millisecond at belongs to, a new
// one if need be. It reports false when there is no room for a new one.
func (d *device) place(at int64, col *column) bool {
	n := len(d.rows)
	if n > 0 {
		last := d.rows[n-1]
		if int(col.row) != n-1 && at-last <= samePoll && last-at <= samePoll {
			col.row = int32(n - 1)
			return true
		}
		at = max(at, last) // a clock that was set back: rows stay in order
	}
	if n == maxRows {
		return false
	}
	d.rows = append(d.rows, at)
	col.row = int32(n)
	return true
}

// add takes a reading into the row that place gave it. A reading without a
// value is told by its quality, beside the last value there was.
func (d *device) add(index uint16, col *column, r *point.Reading) {
	if r.Value.Kind != point.None {
		col.num, col.text = r.Value.Num, r.Value.Text
	}
	d.cells = append(d.cells, cell{num: col.num, column: index, row: uint8(col.row), quality: r.Quality})
	if col.hasTexts() {
		d.texts = append(d.texts, strings.ToValidUTF8(col.text, "\uFFFD")) // else nothing of the record could travel
	}
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
	for i := step * n / flushSteps; i < (step+1)*n/flushSteps; i++ {
		c.mu.Lock() // one device at a time: Observe waits no longer than that
		c.flush(&c.devices[i])
		c.mu.Unlock()
	}
}

func (c *Collector) flushAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.devices {
		c.flush(&c.devices[i])
	}
}

// flush hands the device's rows over as one record; mu is held.
func (c *Collector) flush(d *device) {
	if len(d.rows) == 0 {
		return
	}
	columns := c.columns[d.first:d.last]
	body, err := c.scratch.encode(d, columns)
	d.reset(columns)
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

func (d *device) reset(columns []column) {
	clear(d.texts)
	d.rows, d.cells, d.texts = d.rows[:0], d.cells[:0], d.texts[:0]
	for i := range columns {
		columns[i].row = -1
	}
}
