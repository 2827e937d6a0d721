package app

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
		debug.SetGCPercent(10)
	}
}

// The alarms a gateway has about itself.
func unstoredDef() rule.Def {
	return rule.Def{ID: "store-unavailable", Priority: "P2", Title: "存储不可用,报警只存于内存", TitleEN: "Store unavailable: alarms are kept in memory only"}
}

func quarantinedDef() rule.Def {
	return rule.Def{ID: "store-damaged", Priority: "P2", Title: "存储文件损坏,已隔离,部分记录丢失", TitleEN: "A store file was damaged and set aside: records are lost"}
}

func rolledBackDef() rule.Def {
	return rule.Def{ID: "store-rolled-back", Priority: "P2", Title: "存储被回退,新报警可能无法上传", TitleEN: "Store rolled back: new alarms may not reach the cloud"}
}

func sirenDef() rule.Def {
	return rule.Def{ID: "siren-failed", Priority: "P2", Title: "警笛无法控制", TitleEN: "Siren cannot be commanded"}
}

// quarantined says which files the store had to set aside at this start.
func quarantined(st *store.Store) error {
	if paths := st.Quarantined(); len(paths) > 0 {
		return fmt.Errorf("set aside, for a person to look at: %s", strings.Join(paths, ", "))
	}
	return nil
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
	devices map[string]*liveBus   // on which bus each device is

	acceptor *bus.Acceptor // where serial servers dial in
}

type liveBus struct {
	id   string
	bus  *bus.Bus
	put  func([]point.Reading)
	beat atomic.Int64 // when the bus last moved, in nanoseconds since busSet.start
}

// follow says where the readings go; it is called before the bus runs.
func (b *liveBus) follow(put func([]point.Reading)) { b.put = put }

// pollsAtOnce is how many polls begin at one moment. Buses that wake together
// cost least; too many of them would wait for each other.
const pollsAtOnce = 100

// spread is how far apart the buses of a site wake.
func spread(plan config.Plan) time.Duration {
	var polls float64 // a second
	for _, b := range plan.Buses {
		for _, d := range b.Devices {
			polls += time.Second.Seconds() / max(d.Spec.Every, time.Millisecond).Seconds()
		}
	}
	return time.Second / time.Duration(max(polls/pollsAtOnce, 1))
}

// newBuses builds the buses and the drivers of the devices on them.
func newBuses(plan config.Plan, reg prometheus.Registerer, log *slog.Logger) (*busSet, error) {
	set := &busSet{start: time.Now(), outputs: make(map[point.ID]*liveBus), devices: make(map[string]*liveBus), acceptor: bus.NewAcceptor(log)}
	if reg != nil {
		if err := reg.Register(set.acceptor); err != nil {
			return nil, err
		}
	}
	var errs []error
	apart := spread(plan)
	for i, bp := range plan.Buses {
		live := &liveBus{id: bp.ID}
		b, err := bus.New(bus.Options{
			ID: bp.ID, Link: bp.Link, Framing: bp.Framing, Timeout: bp.Timeout, Gap: bp.Gap, Retries: retries(bp.Retries),
			Log: log.With("bus", bp.ID), Registerer: reg, Now: time.Now, Acceptor: set.acceptor,
			Phase: time.Duration(i) * apart % time.Second,
			Emit:  func(batch []point.Reading) { live.put(batch) },
			Beat:  func() { live.beat.Store(int64(time.Since(set.start))) },
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("bus %s: %w", bp.ID, err))
			continue
		}
		live.bus = b
		set.list = append(set.list, live)
		for _, dp := range bp.Devices {
			if err := attach(b, dp, plan, log); err != nil {
				errs = append(errs, fmt.Errorf("device %s: %w", dp.Spec.Device, err))
			}
			set.devices[dp.Spec.Device] = live
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

// newSirens makes a siren of every output with that role. trouble is told what
// goes wrong with them.
func newSirens(plan config.Plan, buses *busSet, trouble func(point.ID, error), log *slog.Logger) ([]*notify.Siren, error) {
	var sirens []*notify.Siren
	for _, bp := range plan.Buses {
		for _, dp := range bp.Devices {
			for _, p := range dp.Spec.Points {
				if p.Role != "siren" || p.Write == nil {
					continue
				}
				s, err := notify.NewSiren(notify.SirenOptions{
					Point: p.ID, Pulse: p.Write.PulseFor, Write: buses.write, Trouble: func(err error) { trouble(p.ID, err) }, Log: log,
				})
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
				if p.Write == nil || p.At.Space != "" { // an output may be write-only
					points = append(points, plan.Points[p.ID])
				}
			}
		}
	}
	return points
}

// shareIDs gives the drivers the catalogue's text of every id in place of their
// own: so each stands in memory once, and nothing small is left of the
// configuration to keep the pages it was read into.
func shareIDs(plan config.Plan, points *point.Index) {
	for _, b := range plan.Buses {
		for i := range b.Devices {
			spec := &b.Devices[i].Spec
			for j := range spec.Points {
				p := &spec.Points[j]
				if slot, ok := points.Slot(p.ID); ok {
					p.ID = points.ID(slot)
					spec.Device = p.ID.Device()
				}
			}
		}
	}
}

// silenceLimits is how long each may be silent.
func silenceLimits(plan config.Plan, inputs []*rule.PointInfo) []time.Duration {
	offline := make(map[string]time.Duration)
	for _, b := range plan.Buses {
		for _, d := range b.Devices {
			offline[d.Spec.Device] = d.Offline
		}
	}
	limits := make([]time.Duration, len(inputs))
	for slot, info := range inputs {
		limits[slot] = silenceLimit(info, offline[info.ID.Device()])
	}
	return limits
}

// silenceLimit is how long a point may be silent: as its protocol says, or by
// its period. Nobody can tell the silence of an event from its absence.
func silenceLimit(info *rule.PointInfo, offline time.Duration) time.Duration {
	switch {
	case info.Kind == point.Text:
		return math.MaxInt64
	case offline > 0:
		return offline
	}
	return table.SilenceLimit(info.Every, point.Roles[info.Role].Safety)
}

func telemetryPoints(inputs []*rule.PointInfo) []telemetry.Point {
	points := make([]telemetry.Point, len(inputs))
	for slot, info := range inputs {
		points[slot] = telemetry.Point{ID: info.ID, Meta: telemetry.Meta{Unit: info.Unit, Role: info.Role, Kind: info.Kind}}
	}
	return points
}

// chain is the loop that carries readings through rules to alarms, and the
// proof that it turns.
type chain struct {
	alarms  *alarm.Manager
	buses   *busSet
	manager *systemd.Notifier
	fed     time.Time
	turned  atomic.Int64 // when the loop last turned, in nanoseconds since busSet.start
}

func (c *chain) observe(batch []point.Reading, slots []int32) { c.alarms.Observe(batch, slots) }

// How long a bus or the loop may stand still before that is a hang. A bus moves
// at least every 2 s, whatever its devices do.
const (
	maxBeatAge = 5 * time.Second
	maxTurnAge = 5 * time.Second
)

// tick runs in the loop itself, after rules and alarms had their turn.
func (c *chain) tick(now time.Time) {
	c.alarms.Tick(now)
	c.turned.Store(int64(time.Since(c.buses.start)))
	every := c.manager.Watchdog() / 3
	if every == 0 || now.Sub(c.fed) < every || c.buses.hung() != nil {
		return
	}
	if c.manager.Feed() == nil {
		c.fed = now
	}
}

// hung names the buses that stand still.
func (s *busSet) hung() error {
	since := time.Since(s.start)
	var errs []error
	for _, b := range s.list {
		if age := since - time.Duration(b.beat.Load()); age > maxBeatAge {
			errs = append(errs, fmt.Errorf("bus %s has not moved for %v", b.id, age.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}

// alive says whether the loop from the buses to the alarms turns.
func (c *chain) alive() error {
	err := c.buses.hung()
	if age := time.Since(c.buses.start) - time.Duration(c.turned.Load()); age > maxTurnAge {
		err = errors.Join(err, fmt.Errorf("the rules have not run for %v", age.Round(time.Second)))
	}
	return err
}

// ready says what the gateway is configured to do here and does not. The cloud
// is not part of it: a gateway without one does its duty.
func (c *chain) ready(unstored error) error {
	errs := []error{c.alive(), c.alarms.Stalled()}
	if unstored != nil {
		errs = append(errs, fmt.Errorf("store: %w", unstored))
	}
	for _, b := range c.buses.list {
		if !b.bus.Up() {
			errs = append(errs, fmt.Errorf("bus %s: link down", b.id))
		}
	}
	return errors.Join(errs...)
}
