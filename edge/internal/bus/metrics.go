package bus

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/drivers"
)

// kind says why a poll failed.
type kind int

const (
	kindTimeout kind = iota
	kindDamaged
	kindRefused
	kindBusy
	kindLink
	kindOther
	kinds
)

var kindNames = [kinds]string{"timeout", "damaged", "refused", "busy", "link", "other"}

func kindOf(err error) kind {
	switch {
	case errors.Is(err, drivers.ErrRefused):
		return kindRefused
	case errors.Is(err, drivers.ErrBusy):
		return kindBusy
	case errors.Is(err, drivers.ErrLinkDown):
		return kindLink
	case errors.Is(err, drivers.ErrDamaged):
		return kindDamaged
	case errors.Is(err, drivers.ErrNoReply):
		return kindTimeout
	}
	return kindOther
}

// metrics of one bus. Buses and devices count in words of their own and become
// series only when somebody asks: there may be thousands of them.
type metrics struct {
	bus      string
	up       atomic.Bool
	budget   atomic.Uint64 // bits of a float64
	foreign  atomic.Uint64
	connects atomic.Uint64
	sent     atomic.Uint64
	received atomic.Uint64
	busy     atomic.Uint64 // nanoseconds
	spent    atomic.Uint64 // on polls, in nanoseconds
	within   [len(bounds) + 1]atomic.Uint64

	mu      sync.Mutex // guards devices
	devices []*deviceMetrics
}

// bounds of the times a poll may take, in seconds.
var bounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// deviceMetrics of one device.
type deviceMetrics struct {
	id          string
	polls       atomic.Uint64
	errors      [kinds]atomic.Uint64
	nanoseconds atomic.Uint64 // of all polls
	demotions   atomic.Uint64
	up          atomic.Bool
}

// observe counts one poll by its time.
func (m *metrics) observe(took time.Duration) {
	m.spent.Add(uint64(took))
	i, _ := slices.BinarySearch(bounds[:], took.Seconds())
	m.within[i].Add(1)
}

func (m *metrics) device(id string) *deviceMetrics {
	d := &deviceMetrics{id: id}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.devices = append(m.devices, d)
	return d
}

// collector is the metrics of all buses that share a registry.
type collector struct {
	mu    sync.Mutex // guards buses
	buses []*metrics

	up, budget, foreign, connects, sent, received, busy, seconds *prometheus.Desc
	polls, errors, deviceUp, latency, demotions                  *prometheus.Desc
}

func newCollector() *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("gatehouse_"+name, help, append([]string{"bus"}, labels...), nil)
	}
	return &collector{
		up:        desc("bus_up", "1 if the port or connection opens."),
		budget:    desc("bus_budget_ratio", "Share of the line's time that the poll plan needs; above 1 it does not fit."),
		foreign:   desc("bus_foreign_bytes_total", "Bytes received that belonged to no reply: noise, late and foreign frames."),
		connects:  desc("bus_connects_total", "Times the link was opened."),
		sent:      desc("bus_sent_bytes_total", "Bytes sent."),
		received:  desc("bus_received_bytes_total", "Bytes received, those that belonged to no reply included."),
		busy:      desc("bus_busy_seconds_total", "Time in which an exchange kept the line; its rate is the share of the line in use."),
		seconds:   desc("poll_seconds", "Time a poll took, with all its requests."),
		polls:     desc("polls_total", "Polls and probes done, whatever their outcome.", "device"),
		errors:    desc("poll_errors_total", "Polls and probes that failed, by kind.", "device", "kind"),
		deviceUp:  desc("device_up", "1 if the device answers.", "device"),
		latency:   desc("device_poll_seconds", "Time that the polls and probes of a device took.", "device"),
		demotions: desc("device_demotions_total", "Times the device stopped answering.", "device"),
	}
}

// newMetrics joins the collector of a registry, which the first bus brings.
func newMetrics(reg prometheus.Registerer, bus string) (*metrics, error) {
	m := &metrics{bus: bus}
	if reg == nil {
		return m, nil
	}
	c := newCollector()
	if err := reg.Register(c); err != nil {
		var there prometheus.AlreadyRegisteredError
		if !errors.As(err, &there) {
			return nil, err
		}
		c = there.ExistingCollector.(*collector) // nobody else has these names
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(c.buses, func(other *metrics) bool { return other.bus == bus }) {
		return nil, fmt.Errorf("metrics of a bus %q are there already", bus)
	}
	c.buses = append(c.buses, m)
	return m, nil
}

// leave takes a bus that has ended out of its registry.
func (m *metrics) leave(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	var there prometheus.AlreadyRegisteredError
	c := newCollector()
	if !errors.As(reg.Register(c), &there) {
		return
	}
	c = there.ExistingCollector.(*collector)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buses = slices.DeleteFunc(c.buses, func(other *metrics) bool { return other == m })
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.budget, c.foreign, c.connects, c.sent, c.received, c.busy, c.seconds,
		c.polls, c.errors, c.deviceUp, c.latency, c.demotions} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.buses {
		c.collectBus(m, to)
	}
}

func (c *collector) collectBus(m *metrics, to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{m.bus}, labels...)...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, append([]string{m.bus}, labels...)...)
	}
	gauge(c.up, number(m.up.Load()))
	gauge(c.budget, math.Float64frombits(m.budget.Load()))
	counter(c.foreign, float64(m.foreign.Load()))
	counter(c.connects, float64(m.connects.Load()))
	counter(c.sent, float64(m.sent.Load()))
	counter(c.received, float64(m.received.Load()))
	counter(c.busy, float64(m.busy.Load())/1e9)
	buckets, total := make(map[float64]uint64, len(bounds)), uint64(0)
	for i, bound := range bounds {
		total += m.within[i].Load()
		buckets[bound] = total
	}
	total += m.within[len(bounds)].Load()
	to <- prometheus.MustNewConstHistogram(c.seconds, total, float64(m.spent.Load())/1e9, buckets, m.bus)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.devices {
		polls := d.polls.Load()
		counter(c.polls, float64(polls), d.id)
		to <- prometheus.MustNewConstSummary(c.latency, polls, float64(d.nanoseconds.Load())/1e9, nil, m.bus, d.id)
		counter(c.demotions, float64(d.demotions.Load()), d.id)
		gauge(c.deviceUp, number(d.up.Load()), d.id)
		for k := range d.errors {
			counter(c.errors, float64(d.errors[k].Load()), d.id, kindNames[k])
		}
	}
}

func number(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
