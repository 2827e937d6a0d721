// Package app wires the edge daemon: it alone knows every part.
//
// It guarantees: parts start from the back of the path to the front (the store
// first, the buses last) and stop in reverse; a part that cannot do its work
// (no store, no port, no serial device, no cloud) costs only itself and is
// reported with a hint, while everything else goes on; the service manager's
// watchdog is fed only by the loop that carries readings through rules to
// alarms, and only while every bus moves.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"gatehouse/edge/internal/alarm"
	"gatehouse/edge/internal/clock"
	"gatehouse/edge/internal/config"
	"gatehouse/edge/internal/notify"
	"gatehouse/edge/internal/rule"
	"gatehouse/edge/internal/store"
	"gatehouse/edge/internal/systemd"
	"gatehouse/edge/internal/table"
	"gatehouse/edge/internal/telemetry"
	"gatehouse/edge/internal/uplink"
	"gatehouse/edge/internal/web"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// Options is what Run needs.
type Options struct {
	ConfigPath string
	Version    string
	Log        *slog.Logger
	// MetricsBound, if set, is told where /metrics is served once it is.
	MetricsBound func(net.Addr)
}

// Run runs the daemon until ctx ends. It fails only when the configuration
// does, or when another daemon runs on the same store.
func Run(ctx context.Context, o Options) error {
	limitMemory()
	plan, err := config.Load(o.ConfigPath)
	if err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		o.Log.Warn(w.String())
	}
	clk, err := clock.New()
	if err != nil {
		return fmt.Errorf("read the system's clocks: %w", err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	manager := systemd.FromEnv()
	parts := &tasks{log: o.Log}
	defer parts.stop()

	st, unstored, err := openStore(plan, clk, reg, o.Log)
	if err != nil {
		return err
	}
	parts.onStop("store", st.Close)

	read := inputs(plan)
	points, err := rule.NewCatalogue(read)
	if err != nil {
		return err
	}
	shareIDs(plan, points.Index)
	buses, err := newBuses(plan, reg, o.Log)
	if err != nil {
		return err
	}
	parts.onStop("acceptor", func() error { buses.acceptor.Close(); return nil })
	chain := &chain{buses: buses, manager: manager}
	sirens, err := newSirens(plan, buses, func(p point.ID, err error) { chain.alarms.System(sirenDef(), p, err) }, o.Log)
	if err != nil {
		return err
	}
	tel := telemetry.New(telemetry.Options{
		Flush: plan.Config.Cloud.Flush, Points: telemetryPoints(read), Append: st.Append, Record: clk.NewRecord, Log: o.Log,
	})
	tab, err := table.New(table.Options{
		Points: points.Index, Limits: silenceLimits(plan, read),
		Followers: []table.Follower{chain.observe, tel.Observe},
		Ticks:     []func(time.Time){chain.tick},
		Now:       time.Now, Log: o.Log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	alarms, err := alarm.New(alarm.Options{
		Points: points, Rules: plan.Rules, Lookup: tab, Journal: st, Outputs: outputs(sirens, o.Log),
		Record: clk.NewRecord, Now: clk.Now, Log: o.Log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	chain.alarms = alarms
	for _, s := range sirens {
		s.Resume(alarms.List())
	}
	field := fieldwork{buses: buses, record: clk.NewRecord, commit: st.Commit, log: o.Log}
	control, err := openControl(plan, alarms, tab, points, field, o.Log)
	if err != nil {
		return err
	}
	up, err := newUplink(plan, clk, st, alarms, reg, o.Log)
	if err != nil {
		return err
	}

	parts.run(ctx, "alarm journal", alarms.Run)
	if up != nil {
		parts.run(ctx, "uplink", up.Run)
	}
	parts.run(ctx, "telemetry", tel.Run)
	parts.run(ctx, "point table", tab.Run)
	for _, b := range buses.list {
		b.follow(tab.Put)
		parts.run(ctx, "bus "+b.id, b.bus.Run)
	}
	for _, s := range sirens {
		parts.run(ctx, "siren", s.Run)
	}
	if control != nil {
		parts.run(ctx, "control socket", control.Run)
	}
	metrics, err := web.NewMetrics(web.MetricsOptions{
		Listen: plan.Config.Metrics.Listen, Gatherer: reg, Log: o.Log, Bound: o.MetricsBound,
		Alive: chain.alive, Ready: func() error { return chain.ready(unstored) },
	})
	if err != nil {
		return err
	}
	parts.run(ctx, "metrics", metrics.Run)

	alarms.System(unstoredDef(), "", unstored)
	alarms.System(quarantinedDef(), "", quarantined(st))
	announce(st, clk, plan, o)
	if err := manager.Ready(); err != nil {
		o.Log.Warn("the service manager cannot be told that the gateway is ready", "err", err)
	}
	o.Log.Info("gateway runs", "id", plan.Config.Gateway.ID, "version", o.Version, "buses", len(plan.Buses),
		"devices", len(plan.Config.Devices), "points", len(plan.Points), "rules", len(plan.Rules))
	debug.FreeOSMemory() // reading the configuration took far more than running does
	<-ctx.Done()
	_ = manager.Stopping() // going down all the same
	o.Log.Info("gateway stops")
	return nil
}

// announce puts the start on record for the cloud.
func announce(st *store.Store, clk *clock.Clock, plan config.Plan, o Options) {
	note := wire.Note{Text: "gateway started", Attrs: map[string]string{"version": o.Version, "compound": plan.Config.Gateway.Compound}}
	body, err := note.Encode()
	if err == nil {
		err = st.Commit("gateway/started", []byte(o.Version), clk.NewRecord(wire.LaneEvent, wire.KindGatewayStarted, body))
	}
	if err != nil {
		o.Log.Warn("the start could not be put on record", "err", err)
	}
}

// openControl opens the control socket beside the store. A daemon that cannot
// have one runs on without the commands, unless another daemon has it.
func openControl(plan config.Plan, alarms *alarm.Manager, tab *table.Table, points *rule.Catalogue, field fieldwork, log *slog.Logger) (*web.Control, error) {
	c, err := web.ListenControl(web.ControlOptions{
		Path: filepath.Join(plan.Config.Store.Dir, web.SocketName), Alarms: alarms, Points: tab, Info: points, Fieldwork: field, Log: log,
	})
	if err != nil && !errors.Is(err, web.ErrRunning) {
		log.Error("the gatehouse commands cannot reach this daemon; everything else works", "err", err)
		return nil, nil
	}
	return c, err
}

// newUplink returns nil when no broker is configured: a gateway may run alone.
func newUplink(plan config.Plan, clk *clock.Clock, st *store.Store, alarms *alarm.Manager, reg prometheus.Registerer, log *slog.Logger) (*uplink.Uplink, error) {
	cloud := plan.Config.Cloud
	if cloud.Broker == "" {
		log.Warn("no cloud.broker is configured: alarms stay on this box")
		return nil, nil
	}
	return uplink.New(uplink.Options{
		Gateway: plan.Config.Gateway.ID, Broker: cloud.Broker, Secret: plan.Secret, CAFile: cloud.CAFile, Lanes: st,
		Log: log, Registerer: reg, Now: clk.Now, VerifyTime: clk.VerifyTime, OnCloudTime: clk.CloudTime,
		OnRolledBack: func(lane wire.Lane) {
			alarms.System(rolledBackDef(), "", fmt.Errorf("lane %s: the cloud has more than this store ever sent", lane))
		},
	})
}

func outputs(sirens []*notify.Siren, log *slog.Logger) []alarm.Output {
	out := make([]alarm.Output, 0, len(sirens)+1)
	for _, s := range sirens {
		out = append(out, s)
	}
	return append(out, notify.Log{Log: log})
}
