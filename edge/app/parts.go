package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/drivers"
	"gatehouse/drivers/all"
	"gatehouse/edge/internal/alarm"
	"gatehouse/edge/internal/bus"
	"gatehouse/edge/internal/clock"
	"gatehouse/edge/internal/config"
	"gatehouse/edge/internal/notify"
	"gatehouse/edge/internal/rule"
	"gatehouse/edge/internal/store"
	"gatehouse/edge/internal/systemd"
	"gatehouse/edge/internal/table"
	"gatehouse/edge/internal/telemetry"
	"gatehouse/protocol/point"
)

// defaultMemoryLimit is GOMEMLIMIT on a box that sets none: small enough for
// 512 MB, far above what the daemon uses.
const defaultMemoryLimit = 64 << 20

// limitMemory keeps the heap close to what is in use: the box is small, and
// the daemon's garbage is little, so collecting more often costs nothing felt.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(defaultMemoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(20)
	}
}

// unstoredDef is the alarm of a gateway that runs without its store.
func unstoredDef() rule.Def {
	return rule.Def{ID: "store-unavailable", Priority: "P2", Title: "存储不可用,报警只存于内存", TitleEN: "Store unavailable: alarms are kept in memory only"}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// openStore opens the store on disk or, with the reason why not, one in memory.
// It fails if another daemon has the store: two would poll the same lines.
func openStore(plan config.Plan, clk *clock.Clock, reg prometheus.Registerer, log *slog.Logger) (st *store.Store, unstored, err error) {
	o := store.Options{Dir: plan.Config.Store.Dir, Quota: int64(plan.Config.Store.Quota), Log: log, Registerer: reg, Now: clk.Now}
	st, err = store.Open(o)
	switch {
	case errors.Is(err, store.ErrLocked):
		return nil, nil, err
	case err != nil:
		log.Error("the store cannot be opened; alarms work on and are kept in memory until the next start", "err", err)
		return store.OpenMemory(o), err, nil
	}
	return st, nil, nil
}

// busSet is every bus with what the rest of the daemon needs of it.
type busSet struct {
	start   time.Time // beats count from here, on the monotonic clock
	list    []*liveBus
	outputs map[point.ID]*liveBus // on which bus each output is
}

type liveBus struct {
	id   string
	bus  *bus.Bus
	put  func([]point.Reading)
	beat atomic.Int64 // when the bus last moved, in nanoseconds since busSet.start
}

// follow says where the readings go; it is called before the bus runs.
func (b *liveBus) follow(put func([]point.Reading)) { b.put = put }

// newBuses builds the buses and the drivers of the devices on them.
func newBuses(plan config.Plan, reg prometheus.Registerer, log *slog.Logger) (*busSet, error) {
	set := &busSet{start: time.Now(), outputs: make(map[point.ID]*liveBus)}
	var errs []error
	for _, bp := range plan.Buses {
		live := &liveBus{id: bp.ID}
		b, err := bus.New(bus.Options{
			ID: bp.ID, Link: bp.Link, Framing: bp.Framing, Timeout: bp.Timeout, Gap: bp.Gap, Retries: retries(bp.Retries),
			Log: log.With("bus", bp.ID), Registerer: reg, Now: time.Now,
			Emit: func(batch []point.Reading) { live.put(batch) },
			Beat: func() { live.beat.Store(int64(time.Since(set.start))) },
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("bus %s: %w", bp.ID, err))
			continue
		}
		live.bus = b
		set.list = append(set.list, live)
		for _, dp := range bp.Devices {
			if err := attach(b, dp, log); err != nil {
				errs = append(errs, fmt.Errorf("device %s: %w", dp.Spec.Device, err))
			}
			for _, p := range dp.Spec.Points {
				if p.Write != nil {
					set.outputs[p.ID] = live
				}
			}
		}
	}
	return set, errors.Join(errs...)
}

// defaultRetries is how often a poll is asked again before it counts as failed.
const defaultRetries = 1

func retries(n *int) int {
	if n == nil {
		return defaultRetries
	}
	return *n
}

func attach(b *bus.Bus, dp config.DevicePlan, log *slog.Logger) error {
	factory := all.Factories[dp.Driver]
	if factory == nil {
		return fmt.Errorf("no driver %q", dp.Driver)
	}
	d, err := factory(dp.Spec, drivers.Deps{
		Link: b.Link(bus.Timing{Timeout: dp.Timing.Timeout, Gap: dp.Timing.Gap}), Log: log.With("device", dp.Spec.Device), Now: time.Now,
	})
	if err != nil {
		return err
	}
	return b.Attach(dp.Spec.Device, d)
}

// write commands an output point on its bus.
func (s *busSet) write(ctx context.Context, p point.ID, v point.Value) error {
	b := s.outputs[p]
	if b == nil {
		return fmt.Errorf("%s: %w", p, drivers.ErrNotWritable)
	}
	return b.bus.Write(ctx, p, v)
}

// newSirens makes a siren of every point with that role.
func newSirens(plan config.Plan, buses *busSet, log *slog.Logger) ([]*notify.Siren, error) {
	var sirens []*notify.Siren
	for _, bp := range plan.Buses {
		for _, dp := range bp.Devices {
			for _, p := range dp.Spec.Points {
				if p.Role != "siren" || p.Write == nil {
					continue
				}
				s, err := notify.NewSiren(notify.SirenOptions{Point: p.ID, Pulse: p.Write.PulseFor, Write: buses.write, Log: log})
				if err != nil {
					return nil, err
				}
				sirens = append(sirens, s)
			}
		}
	}
	return sirens, nil
}

// inputs are the points that are read, each at its slot, in the order in which
// they are.
func inputs(plan config.Plan) []*rule.PointInfo {
	var points []*rule.PointInfo
	for _, b := range plan.Buses {
		for _, d := range b.Devices {
			for _, p := range d.Spec.Points {
				if info := plan.Points[p.ID]; !point.Roles[info.Role].Output {
					points = append(points, info)
				}
			}
		}
	}
	return points
}

func tablePoints(inputs []*rule.PointInfo) []table.Point {
	points := make([]table.Point, len(inputs))
	for slot, info := range inputs {
		points[slot] = table.Point{ID: info.ID, Limit: table.SilenceLimit(info.Every, point.Roles[info.Role].Safety)}
	}
	return points
}

func telemetryPoints(inputs []*rule.PointInfo) []telemetry.Point {
	points := make([]telemetry.Point, len(inputs))
	for slot, info := range inputs {
		points[slot] = telemetry.Point{ID: info.ID, Meta: telemetry.Meta{Unit: info.Unit, Role: info.Role, Kind: info.Kind}}
	}
	return points
}

func pointIDs(inputs []*rule.PointInfo) []point.ID {
	ids := make([]point.ID, len(inputs))
	for slot, info := range inputs {
		ids[slot] = info.ID
	}
	return ids
}

// chain is the loop that carries readings through rules to alarms, and the
// proof that it turns.
type chain struct {
	alarms  *alarm.Manager
	buses   *busSet
	manager *systemd.Notifier
	fed     time.Time
}

func (c *chain) observe(batch []point.Reading, slots []int32) { c.alarms.Observe(batch, slots) }

// maxBeatAge is how long a bus may stand still before the watchdog is left to
// bite: a bus moves at least every 5 s, whatever its devices do.
const maxBeatAge = 8 * time.Second

// tick runs in the loop itself, after rules and alarms had their turn.
func (c *chain) tick(now time.Time) {
	c.alarms.Tick(now)
	every := c.manager.Watchdog() / 3
	if every == 0 || now.Sub(c.fed) < every {
		return
	}
	since := time.Since(c.buses.start)
	for _, b := range c.buses.list {
		if since-time.Duration(b.beat.Load()) > maxBeatAge {
			return
		}
	}
	if c.manager.Feed() == nil {
		c.fed = now
	}
}

// ready says what the gateway is configured to do here and does not. The cloud
// is not part of it: a gateway without one does its duty.
func ready(unstored error, buses *busSet) error {
	var errs []error
	if unstored != nil {
		errs = append(errs, fmt.Errorf("store: %w", unstored))
	}
	for _, b := range buses.list {
		if !b.bus.Up() {
			errs = append(errs, fmt.Errorf("bus %s: link down", b.id))
		}
	}
	return errors.Join(errs...)
}
