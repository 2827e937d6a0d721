package uplink

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/edge/internal/store"
	"gatehouse/protocol/wire"
)

// openStore opens the store in dir; the returned close may be called once.
func openStore(t *testing.T, dir string) (s *store.Store, closeIt func()) {
	t.Helper()
	s, err := store.Open(store.Options{Dir: dir, SpoolEvery: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The file comes back from a backup while the cloud is ahead: what is raised
// then bears numbers under which the cloud has other alarms.
func TestAlarmsRaisedAfterARollbackReachTheCloud(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	dir := t.TempDir()
	backup := filepath.Join(t.TempDir(), "alarm.db")

	s, closeStore := openStore(t, dir)
	raise(t, s, 1, 90)
	closeStore()
	copyFile(t, filepath.Join(dir, "alarm.db"), backup)
	s, closeStore = openStore(t, dir)
	_, stop := start(t, Options{Broker: mqttURL(b), Lanes: s})
	raise(t, s, 91, 100)
	eventually(t, 10*time.Second, "all acked", func() bool { return acked(s, wire.LaneAlarm) == 100 })
	stop()
	closeStore()

	copyFile(t, backup, filepath.Join(dir, "alarm.db"))
	s, closeStore = openStore(t, dir)
	defer closeStore()
	var log logBook
	var told atomic.Int32
	reg := prometheus.NewRegistry()
	_, stop = start(t, Options{
		Broker: mqttURL(b), Lanes: s, Registerer: reg, Log: slog.New(slog.NewTextHandler(&log, nil)),
		OnRolledBack: func(l wire.Lane) { told.Add(int32(l)) },
	})
	raise(t, s, 1001, 1015) // numbered 91..105
	eventually(t, 10*time.Second, "all acked again", func() bool { return acked(s, wire.LaneAlarm) == 105 })
	if n := sum(t, reg, "gatehouse_uplink_rolled_back_total"); n != 1 || told.Load() != int32(wire.LaneAlarm) || log.count("store was rolled back") != 1 {
		t.Errorf("counted %v, told %d, logged %d times", n, told.Load(), log.count("store was rolled back"))
	}
	stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := 1001; n <= 1015; n++ {
		if !slices.ContainsFunc(c.got[wire.LaneAlarm], func(r wire.Record) bool { return string(r.Body) == fmt.Sprint(n) }) {
			t.Errorf("alarm %d was swallowed", n)
		}
	}
}

// poisoned is a store whose third event is nothing that protobuf takes.
type poisoned struct{ *store.Store }

func (p poisoned) Lane(l wire.Lane) Outbox { return poison{p.Store.Lane(l), l} }

type poison struct {
	Outbox
	lane wire.Lane
}

func (p poison) Next(after uint64, room int) ([]wire.Record, error) {
	recs, err := p.Outbox.Next(after, room)
	for i := range recs {
		if p.lane == wire.LaneEvent && recs[i].Seq == 3 {
			recs[i].Kind = "\xff"
		}
	}
	return recs, err
}

func TestARecordThatCannotBeSentHoldsUpItsOwnLaneOnly(t *testing.T) {
	b := startBroker(t, "")
	c := startCloud(t, b)
	s := newStore(t)
	var log logBook
	reg := prometheus.NewRegistry()
	for n := range 4 {
		if err := s.Commit("", nil, record(wire.LaneEvent, fmt.Sprint(n+1))); err != nil {
			t.Fatal(err)
		}
	}
	u, _ := start(t, Options{Broker: mqttURL(b), Lanes: poisoned{s}, Registerer: reg, Log: slog.New(slog.NewTextHandler(&log, nil))})
	eventually(t, 10*time.Second, "what stands before it arrives", func() bool { return c.count(wire.LaneEvent) == 2 })
	eventually(t, 10*time.Second, "it is tried again", func() bool { return sum(t, reg, "gatehouse_uplink_poison_total") >= 2 })
	since := u.State().Since
	raise(t, s, 1, 20)
	measure(t, s, 1, 20)
	eventually(t, 10*time.Second, "the other lanes move", func() bool {
		return acked(s, wire.LaneAlarm) == 20 && acked(s, wire.LaneTelemetry) == 20
	})
	if st := u.State(); !st.Connected || !st.Since.Equal(since) {
		t.Errorf("the session ended: %+v", st)
	}
	if n := log.count("level=ERROR"); n != 1 || log.count("encode record 3") != 1 {
		t.Errorf("%d lines for one record", n)
	}
	if n := sum(t, reg, "gatehouse_uplink_poison_total"); n > 6 {
		t.Errorf("%v attempts: it spins", n)
	}
}

// unreadable is a store whose alarm lane cannot be read for a while.
type unreadable struct {
	*store.Store
	fail *atomic.Int32 // so many times
}

func (f unreadable) Lane(l wire.Lane) Outbox { return blind{f.Store.Lane(l), f.fail} }

type blind struct {
	Outbox
	fail *atomic.Int32
}

func (b blind) Next(after uint64, room int) ([]wire.Record, error) {
	recs, err := b.Outbox.Next(after, room)
	if len(recs) > 0 && b.fail.Add(-1) >= 0 {
		return nil, errors.New("disk on fire")
	}
	return recs, err
}

func TestAStormOfReadErrorsIsOneLineWithItsCount(t *testing.T) {
	b := startBroker(t, "")
	startCloud(t, b)
	s := newStore(t)
	var log logBook
	var fail atomic.Int32
	fail.Store(2)
	raise(t, s, 1, 1)
	start(t, Options{Broker: mqttURL(b), Lanes: unreadable{s, &fail}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	eventually(t, 10*time.Second, "sent after all", func() bool { return acked(s, wire.LaneAlarm) == 1 })
	if log.count("disk on fire") != 1 || log.count("attempts_failed=2") != 1 {
		t.Errorf("log:\n%s", log.b.String())
	}
}

// returns plays how long after an outage each of n gateways is back.
func returns(u *Uplink, n int, outage time.Duration) []time.Duration {
	late := make([]time.Duration, n)
	for i := range late {
		at := time.Duration(0)
		for at < outage {
			at += jitter(u.backoff(at))
		}
		late[i] = at - outage
	}
	slices.Sort(late)
	return late
}

func TestGatewaysComeBackSoonAndNotAtOnce(t *testing.T) {
	u, err := New(Options{Gateway: gateway, Broker: "mqtt://h", Lanes: newStore(t)})
	if err != nil {
		t.Fatal(err)
	}
	for outage, within := range map[time.Duration]time.Duration{
		time.Second: 500 * time.Millisecond, 20 * time.Second: 3 * time.Second, 5 * time.Minute: 40 * time.Second, 24 * time.Hour: time.Minute,
	} {
		late := returns(u, 1000, outage)
		if worst := late[len(late)-1]; worst > within {
			t.Errorf("after %v: a gateway is back %v later, want within %v", outage, worst, within)
		}
		if outage < 20*time.Second {
			continue
		}
		for i := range late[:len(late)-200] {
			if late[i+200]-late[i] < within/20 {
				t.Errorf("after %v: 200 of 1000 gateways come within %v", outage, late[i+200]-late[i])
				break
			}
		}
	}
}
