package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"gatehouse/protocol/wire"
)

// settled is how long an alarm must have been listed before it counts as
// committed: far above any commit, far below what would hide a lost one.
const settled = time.Second

// received collects the alarm records that have arrived, by alarm and kind.
type received struct {
	mu   sync.Mutex // guards the map
	seen map[string]int
}

func recordKey(alarm, kind string, occurrence int) string {
	return fmt.Sprintf("%s %s %d", alarm, kind, occurrence)
}

func (r *received) take(_ time.Time, kind string, a wire.Alarm) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[recordKey(a.Alarm.String(), kind, a.Occurrence)]++
}

// lost returns which of want have not arrived.
func (r *received) lost(want []string) (lost []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range want {
		if r.seen[w] == 0 {
			lost = append(lost, w)
		}
	}
	return lost
}

// restart kills the daemon while the broker is away and starts it again.
func (b *bench) restart(ctx context.Context) error {
	dir := filepath.Join(b.dir, "restart")
	resp, err := newResponder(alarmDevices)
	if err != nil {
		return err
	}
	defer resp.Close()
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return err
	}
	defer func() { broker.stop() }()
	g, err := newGateway(b.bin, dir, site{Broker: broker.addr, Links: resp.links(), Units: 1, Poll: time.Second, Guarded: registers})
	if err != nil {
		return err
	}
	if err := g.start(); err != nil {
		return err
	}
	defer func() { g.stop() }()
	if err := until(ctx, 20*time.Second, "the first polls", func() bool { return resp.polls.Load() >= alarmDevices }, g.proc); err != nil {
		return err
	}
	var back []float64
	committed, lost := 0, 0
	for i := range b.size.Restarts {
		b.say("restart: %d of %d", i+1, b.size.Restarts)
		seconds, want, missing, err := b.restartOnce(ctx, g, broker, resp)
		if err != nil {
			return err
		}
		back = append(back, seconds)
		committed += want
		lost += missing
	}
	b.rows.atMost("restart-broker-down", median(back), "s", nil, 1)
	b.rows.atMost("restart-broker-down-lost", float64(lost), fmt.Sprintf("of %d records", committed), nil, 0)
	return nil
}

// restartOnce takes the broker away, raises alarms, kills the daemon, starts
// it again and brings the broker back. It returns the seconds from start to
// first poll, how many records were committed and how many of them are lost.
func (b *bench) restartOnce(ctx context.Context, g *gateway, broker *broker, resp *responder) (seconds float64, want, lost int, err error) {
	broker.stop()
	for d := range alarmDevices {
		resp.slave(d, 1).set(true)
	}
	var records []string
	ready := func() bool {
		records, err = g.raised(ctx)
		return err == nil && len(records) == alarmDevices
	}
	if werr := until(ctx, 10*time.Second, "the alarms", ready, g.proc); werr != nil {
		return 0, 0, 0, fmt.Errorf("%w (%d alarms listed, %v)", werr, len(records), err)
	}
	if err := sleep(ctx, settled, g.proc); err != nil {
		return 0, 0, 0, err
	}
	g.proc.kill()
	resp.firstPoll.Store(0)
	begun := time.Now()
	if err := g.start(); err != nil {
		return 0, 0, 0, err
	}
	if err := until(ctx, 30*time.Second, "the first poll after the restart", func() bool { return resp.firstPoll.Load() != 0 }, g.proc); err != nil {
		return 0, 0, 0, err
	}
	seconds = time.Unix(0, resp.firstPoll.Load()).Sub(begun).Seconds()
	if err := broker.start(ctx); err != nil {
		return 0, 0, 0, err
	}
	got := &received{seen: make(map[string]int)}
	sub, err := subscribe(broker.addr, gatewayID, nil, got.take)
	if err != nil {
		return 0, 0, 0, err
	}
	defer sub.close()
	// The uplink may wait up to its longest back-off before it tries again.
	_ = until(ctx, 75*time.Second, "the records", func() bool { return len(got.lost(records)) == 0 }, g.proc)
	lost = len(got.lost(records))
	for d := range alarmDevices {
		resp.slave(d, 1).set(false)
	}
	none := func() bool {
		open, err := g.raised(ctx)
		return err == nil && len(open) == 0
	}
	if err := until(ctx, 10*time.Second, "the alarms to clear", none, g.proc); err != nil {
		return 0, 0, 0, err
	}
	return seconds, len(records), lost, sub.err()
}

// raised asks the daemon for its active alarms, as keys of their records.
func (g *gateway) raised(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, g.bin, "alarms", "list", "--json", "--config", g.config).Output()
	if err != nil {
		return nil, fmt.Errorf("gatehouse alarms list: %w", err)
	}
	var alarms []struct {
		ID         string `json:"id"`
		Status     string `json:"status"`
		Rule       string `json:"rule"`
		Occurrence int    `json:"occurrence"`
	}
	if err := json.Unmarshal(out, &alarms); err != nil {
		return nil, fmt.Errorf("gatehouse alarms list: %w", err)
	}
	var keys []string
	for _, a := range alarms {
		if a.Rule == "bench-high" && a.Status == "raised" {
			keys = append(keys, recordKey(a.ID, wire.KindAlarmRaised, a.Occurrence))
		}
	}
	return keys, nil
}
