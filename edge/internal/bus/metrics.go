package bus

import (
	"errors"
	"sync"
	"sync/atomic"

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

// metrics of one bus. Devices count in words of their own and become series
// only when somebody asks: there may be thousands of them.
type metrics struct {
	seconds  prometheus.Histogram
	up       prometheus.Gauge
	budget   prometheus.Gauge
	foreign  prometheus.Counter
	connects prometheus.Counter
	busy     prometheus.Counter
	sent     prometheus.Counter
	received prometheus.Counter

	polls, errors, deviceUp, latency, demotions *prometheus.Desc

	mu      sync.Mutex // guards devices
	devices []*deviceMetrics
}

// deviceMetrics of one device.
type deviceMetrics struct {
	id          string
	polls       atomic.Uint64
	errors      [kinds]atomic.Uint64
	nanoseconds atomic.Uint64 // of all polls
	demotions   atomic.Uint64
	up          atomic.Bool
}

func newMetrics(reg prometheus.Registerer, bus string) (*metrics, error) {
	labels := prometheus.Labels{"bus": bus}
	desc := func(name, help string, of ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, of, labels)
	}
	m := &metrics{
		polls:     desc("gatehouse_polls_total", "Polls and probes done, whatever their outcome.", "device"),
		errors:    desc("gatehouse_poll_errors_total", "Polls and probes that failed, by kind.", "device", "kind"),
		deviceUp:  desc("gatehouse_device_up", "1 if the device answers.", "device"),
		latency:   desc("gatehouse_device_poll_seconds", "Time that the polls and probes of a device took.", "device"),
		demotions: desc("gatehouse_device_demotions_total", "Times the device stopped answering.", "device"),
		busy: prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_bus_busy_seconds_total",
			Help: "Time in which an exchange kept the line; its rate is the share of the line in use.", ConstLabels: labels}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_bus_sent_bytes_total",
			Help: "Bytes sent.", ConstLabels: labels}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_bus_received_bytes_total",
			Help: "Bytes received, those that belonged to no reply included.", ConstLabels: labels}),
		foreign: prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_bus_foreign_bytes_total",
			Help: "Bytes received that belonged to no reply: noise, late and foreign frames.", ConstLabels: labels}),
		connects: prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_bus_connects_total",
			Help: "Times the link was opened.", ConstLabels: labels}),
		up: prometheus.NewGauge(prometheus.GaugeOpts{Name: "gatehouse_bus_up",
			Help: "1 if the port or connection opens.", ConstLabels: labels}),
		budget: prometheus.NewGauge(prometheus.GaugeOpts{Name: "gatehouse_bus_budget_ratio",
			Help: "Share of the line's time that the poll plan needs; above 1 it does not fit.", ConstLabels: labels}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "gatehouse_poll_seconds",
			Help: "Time a poll took, with all its requests.", ConstLabels: labels,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}),
	}
	if reg == nil {
		return m, nil
	}
	return m, reg.Register(m)
}

// own are the metrics of the bus itself.
func (m *metrics) own() []prometheus.Collector {
	return []prometheus.Collector{m.seconds, m.up, m.budget, m.foreign, m.connects, m.busy, m.sent, m.received}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.own() {
		c.Describe(to)
	}
	to <- m.polls
	to <- m.errors
	to <- m.deviceUp
	to <- m.latency
	to <- m.demotions
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.own() {
		c.Collect(to)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.devices {
		up := 0.0
		if d.up.Load() {
			up = 1
		}
		polls := d.polls.Load()
		to <- prometheus.MustNewConstMetric(m.polls, prometheus.CounterValue, float64(polls), d.id)
		to <- prometheus.MustNewConstSummary(m.latency, polls, float64(d.nanoseconds.Load())/1e9, nil, d.id)
		to <- prometheus.MustNewConstMetric(m.demotions, prometheus.CounterValue, float64(d.demotions.Load()), d.id)
		to <- prometheus.MustNewConstMetric(m.deviceUp, prometheus.GaugeValue, up, d.id)
		for k := range d.errors {
			to <- prometheus.MustNewConstMetric(m.errors, prometheus.CounterValue, float64(d.errors[k].Load()), d.id, kindNames[k])
		}
	}
}

func (m *metrics) device(id string) *deviceMetrics {
	d := &deviceMetrics{id: id}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.devices = append(m.devices, d)
	return d
}
