// Package telemetry gathers readings by device and turns them into telemetry
// records, many polls to a record.
//
// It guarantees: every reading of a known point is in exactly one record,
// unless its role tells where people are: movement never leaves the box;
// a row is dated by its record's own stamp less the reading's age, so whoever
// vouches for the record vouches for its rows, whatever the system clock did
// meanwhile; Observe allocates nothing once every point has been seen and asks
// no clock; what is held is bounded, and is handed over when Run ends.
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

// Point is one point whose readings are to be told.
type Point struct {
	ID point.ID
	Meta
}

// Options of a Collector. Append and Record are required; Record stamps what
// it returns with the best time there is.
type Options struct {
	Flush time.Duration // how long a reading is held; default 10 s
	// Points are those whose readings Observe is given, slot by slot. Those of
	// private roles are left out.
	Points []Point
	Append func(...wire.Record) error // keeps nothing of a body once it returns
	Record func(lane wire.Lane, kind string, body []byte) wire.Record
	Log    *slog.Logger
}

// private are the roles from which one could read who is where and when.
var private = map[point.Role]bool{"motion": true, "door_contact": true, "card": true, "keypad": true, "water_volume": true}

const (
	maxRows    = 120       // of one device; then it is flushed early
	samePoll   = 200       // milliseconds: readings this close are one row
	maxStep    = 3_600_000 // milliseconds from row to row; then a new record begins
	flushSteps = 25        // a flush is spread over the interval in this many steps
)

// Collector is fed by Observe and emptied by Run.
type Collector struct {
	opt   Options
	now   func() time.Time
	begun time.Time // rows count from here, by the monotonic clock
	where []int32   // slot by slot: index into columns; -1: not told

	mu      sync.Mutex // guards all below
	columns []column   // those of a device stand together, by name
	devices []device
	texts   map[int32]string // the latest of the columns that have texts
	scratch scratch
	failed  int // records that Append refused since the last success
}

// device holds the rows since its last flush, as a log of what came: one small
// slice per device, because there are many devices and little memory.
type device struct {
	id          string
	first, last int     // columns[first:last] are its own
	rows        []int64 // milliseconds since Collector.begun
	cells       []cell
	nums        []float64 // cell by cell
	texts       []string  // of the cells in columns that have texts, in their order
}

// cell is one reading; its number stands apart, where it needs no padding.
type cell struct {
	column  uint16 // counted from device.first
	row     uint8
	quality point.Quality
}

// column is one point, with its latest value. Points of a kind share their Meta.
type column struct {
	name   string
	meta   *Meta
	device int32
	row    int32 // of its latest cell since the flush; -1: none
	num    float64
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
	c := &Collector{opt: o, now: time.Now, begun: time.Now(), where: make([]int32, len(o.Points)), texts: make(map[int32]string)}
	c.opt.Points = nil // the caller's need not stay in memory
	told := make([]int, 0, len(o.Points))
	for slot, p := range o.Points {
		c.where[slot] = -1
		if !private[p.Role] {
			told = append(told, slot)
		}
	}
	slices.SortFunc(told, func(a, b int) int {
		p, q := o.Points[a].ID, o.Points[b].ID
		return cmp.Or(strings.Compare(p.Device(), q.Device()), strings.Compare(p.Name(), q.Name()))
	})
	c.columns = make([]column, len(told))
	metas := make(map[Meta]*Meta)
	for i, slot := range told {
		p := o.Points[slot]
		n := len(c.devices)
		if n == 0 || c.devices[n-1].id != p.ID.Device() || i-c.devices[n-1].first > math.MaxUint16 {
			c.devices = append(c.devices, device{id: p.ID.Device(), first: i})
			n++
		}
		c.devices[n-1].last = i + 1
		if metas[p.Meta] == nil {
			metas[p.Meta] = &p.Meta
		}
		c.columns[i] = column{name: p.ID.Name(), meta: metas[p.Meta], device: int32(n - 1), row: -1}
		c.where[slot] = int32(i)
	}
	return c
}

// Observe takes readings; slots[i] is the place of readings[i].Point in
// Options.Points.
func (c *Collector) Observe(readings []point.Reading, slots []int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range readings {
		r := &readings[i]
		at := c.where[slots[i]]
		if at < 0 {
			continue
		}
		col := &c.columns[at]
		d := &c.devices[col.device]
		if ms := r.At.Sub(c.begun).Milliseconds(); !d.place(ms, col) {
			c.flush(d)
			d.place(ms, col)
		}
		c.add(d, at, r)
	}
}

// place gives col the row that its reading of millisecond at belongs to, a new
// one if need be. It reports false when that one must begin a new record.
func (d *device) place(at int64, col *column) bool {
	n := len(d.rows)
	if n > 0 {
		last := d.rows[n-1]
		if int(col.row) != n-1 && at-last <= samePoll && last-at <= samePoll {
			col.row = int32(n - 1)
			return true
		}
		if last-at > samePoll || at-last > maxStep {
			return false
		}
		at = max(at, last) // so close, they may come in any order
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
func (c *Collector) add(d *device, at int32, r *point.Reading) {
	col := &c.columns[at]
	known := r.Value.Kind != point.None
	if known {
		col.num = r.Value.Num
	}
	d.cells = append(d.cells, cell{column: uint16(int(at) - d.first), row: uint8(col.row), quality: r.Quality})
	d.nums = append(d.nums, col.num)
	if !col.hasTexts() {
		return
	}
	if known {
		c.texts[at] = strings.ToValidUTF8(r.Value.Text, "\uFFFD") // else nothing of the record could travel
	}
	d.texts = append(d.texts, c.texts[at])
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
	rec := c.opt.Record(wire.LaneTelemetry, wire.KindTelemetry, nil)
	body, err := c.scratch.encode(d, columns, rec.Time.Add(-c.now().Sub(c.begun)))
	d.reset(columns)
	if err == nil {
		rec.Body = body
		err = c.opt.Append(rec)
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
	d.rows, d.cells, d.nums, d.texts = d.rows[:0], d.cells[:0], d.nums[:0], d.texts[:0]
	for i := range columns {
		columns[i].row = -1
	}
}
