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
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sort"
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

// Collector is fed by Observe and emptied by Run. Every point is a column of
// its device. There may be tens of thousands of them and little memory: so
// columns are numbers, and what devices have in common they share.
type Collector struct {
	opt   Options
	now   func() time.Time
	begun time.Time // rows count from here, by the monotonic clock
	where []int32   // slot by slot: index of the column; -1: not told

	mu      sync.Mutex // guards all below
	devices []device   // by id
	latest  []float64  // column by column; those of a device stand together, in the order of their slots
	rows    []uint8    // of the column's latest cell since the flush, or noRow
	texts   map[int32]string
	current int // index of the device that was heard last
	scratch scratch
	failed  int // records that Append refused since the last success
}

// noRow is that of a column without a cell since the flush; maxRows is below it.
const noRow = math.MaxUint8

// device holds the rows since its last flush, as a log of what came.
type device struct {
	id    string
	first int // of its columns
	shape *shape
	base  int64    // of its first row: milliseconds since Collector.begun
	rows  []uint32 // milliseconds since base
	log   cellLog
	texts []string // of the cells in columns that have texts, in their order
}

// shape is what devices of one model have in common: their columns, by name.
type shape struct {
	names []string
	metas []Meta
	rank  []uint16 // of each column in the order of their slots: which of the above it is
}

func (m Meta) hasNums() bool { return m.Kind != point.Text }

func (m Meta) hasTexts() bool { return m.Kind == point.State || m.Kind == point.Text }

// end is the index after the device's last column.
func (d *device) end() int { return d.first + len(d.shape.rank) }

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
	slices.SortStableFunc(told, func(a, b int) int { return strings.Compare(o.Points[a].ID.Device(), o.Points[b].ID.Device()) })
	shapes := make(map[string]*shape)
	for first := 0; first < len(told); {
		id := o.Points[told[first]].ID.Device()
		var columns []Point
		for i := first; i < len(told) && len(columns) <= math.MaxUint16 && o.Points[told[i]].ID.Device() == id; i++ {
			c.where[told[i]] = int32(i)
			columns = append(columns, o.Points[told[i]])
		}
		d := device{id: strings.Clone(id), first: first, shape: shapeOf(columns, shapes)}
		d.log.reset(len(columns))
		c.devices = append(c.devices, d)
		first += len(columns)
	}
	c.latest, c.rows = make([]float64, len(told)), make([]uint8, len(told))
	for i := range c.rows {
		c.rows[i] = noRow
	}
	return c
}

// shapeOf returns the shape of a device with these columns, one of those known
// if there is one.
func shapeOf(columns []Point, known map[string]*shape) *shape {
	var key strings.Builder
	for _, p := range columns {
		fmt.Fprintf(&key, "%s %q %q %d,", p.ID.Name(), p.Unit, p.Role, p.Kind)
	}
	if s := known[key.String()]; s != nil {
		return s
	}
	byName := make([]int, len(columns))
	for i := range byName {
		byName[i] = i
	}
	slices.SortFunc(byName, func(a, b int) int { return strings.Compare(columns[a].ID.Name(), columns[b].ID.Name()) })
	s := &shape{rank: make([]uint16, len(columns))}
	for rank, i := range byName {
		s.names = append(s.names, strings.Clone(columns[i].ID.Name()))
		s.metas = append(s.metas, columns[i].Meta)
		s.rank[i] = uint16(rank)
	}
	known[key.String()] = s
	return s
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
		d := c.deviceOf(int(at))
		ms := r.At.Sub(c.begun).Milliseconds()
		row, ok := d.place(ms, c.rows[at])
		if !ok {
			c.flush(d)
			row, _ = d.place(ms, noRow)
		}
		c.add(d, at, row, r)
	}
}

// deviceOf returns the device of a column, most likely the one heard last.
func (c *Collector) deviceOf(column int) *device {
	if d := &c.devices[c.current]; column < d.first || column >= d.end() {
		c.current = sort.Search(len(c.devices), func(i int) bool { return column < c.devices[i].end() })
	}
	return &c.devices[c.current]
}

// place returns the row that a reading of millisecond at belongs to, a new one
// if need be; latest is the latest of its column. It reports false when that
// row must begin a new record.
func (d *device) place(at int64, latest uint8) (row uint8, ok bool) {
	n := len(d.rows)
	if n == 0 {
		d.base, d.rows = at, append(d.rows, 0)
		return 0, true
	}
	last := d.base + int64(d.rows[n-1])
	if int(latest) != n-1 && at-last <= samePoll && last-at <= samePoll {
		return uint8(n - 1), true
	}
	if last-at > samePoll || at-last > maxStep || n == maxRows {
		return 0, false
	}
	at = max(at, last) // so close, they may come in any order
	d.rows = append(d.rows, uint32(at-d.base))
	return uint8(n), true
}

// add takes a reading into the row that place gave it. A reading without a
// value is told by its quality, beside the last value there was.
func (c *Collector) add(d *device, at int32, row uint8, r *point.Reading) {
	column := int(at) - d.first
	before, known := c.latest[at], r.Value.Kind != point.None
	if known {
		c.latest[at] = r.Value.Num
	}
	if c.rows[at] == noRow {
		before = 0 // a record stands for itself
	}
	c.rows[at] = row
	d.log.add(cell{column: uint16(column), row: row, quality: r.Quality}, c.latest[at], before)
	if !d.shape.metas[d.shape.rank[column]].hasTexts() {
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
	rec := c.opt.Record(wire.LaneTelemetry, wire.KindTelemetry, nil)
	body, err := c.scratch.encode(d, rec.Time.Add(-c.now().Sub(c.begun)))
	c.reset(d)
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

func (c *Collector) reset(d *device) {
	clear(d.texts)
	d.rows, d.texts = d.rows[:0], d.texts[:0]
	d.log.reset(len(d.shape.rank))
	for i := d.first; i < d.end(); i++ {
		c.rows[i] = noRow
	}
}
