package bus

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/drivers"
)

// kind says why a poll failed.
type kind int

const (
	kindTimeout kind = iota
	kindDamaged
	kindRefused
	kindLink
	kindOther
	kinds
)

var kindNames = [kinds]string{"timeout", "damaged", "refused", "link", "other"}

func kindOf(err error) kind {
	switch {
	case errors.Is(err, drivers.ErrRefused):
		return kindRefused
	case errors.Is(err, drivers.ErrLinkDown):
		return kindLink
	case errors.Is(err, drivers.ErrDamaged):
		return kindDamaged
	case errors.Is(err, drivers.ErrNoReply):
		return kindTimeout
	}
	return kindOther
}

// metrics of one bus, resolved once so that a poll only counts.
type metrics struct {
	vecs     vecs
	seconds  prometheus.Observer
	up       prometheus.Gauge
	budget   prometheus.Gauge
	foreign  prometheus.Counter
	connects prometheus.Counter
}

// deviceMetrics of one device.
type deviceMetrics struct {
	polls  prometheus.Counter
	errors [kinds]prometheus.Counter
	up     prometheus.Gauge
}

// vecs are shared by all buses on one registerer.
type vecs struct {
	polls, errors, foreign, connects *prometheus.CounterVec
	up, deviceUp, budget             *prometheus.GaugeVec
	seconds                          *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, bus string) (*metrics, error) {
	v := vecs{
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gatehouse_polls_total",
			Help: "Polls and probes done, whatever their outcome."}, []string{"bus", "device"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gatehouse_poll_errors_total",
			Help: "Polls and probes that failed, by kind."}, []string{"bus", "device", "kind"}),
		foreign: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gatehouse_bus_foreign_bytes_total",
			Help: "Bytes received that belonged to no reply: noise, late and foreign frames."}, []string{"bus"}),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gatehouse_bus_connects_total",
			Help: "Times the link was opened."}, []string{"bus"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gatehouse_bus_up",
			Help: "1 if the port or connection opens."}, []string{"bus"}),
		deviceUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gatehouse_device_up",
			Help: "1 if the device answers."}, []string{"bus", "device"}),
		budget: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gatehouse_bus_budget_ratio",
			Help: "Share of the line's time that the poll plan needs; above 1 it does not fit."}, []string{"bus"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gatehouse_poll_seconds",
			Help:    "Time a poll took, with all its requests.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}, []string{"bus"}),
	}
	if reg != nil {
		if err := v.register(reg); err != nil {
			return nil, err
		}
	}
	return &metrics{
		vecs:     v,
		seconds:  v.seconds.WithLabelValues(bus),
		up:       v.up.WithLabelValues(bus),
		budget:   v.budget.WithLabelValues(bus),
		foreign:  v.foreign.WithLabelValues(bus),
		connects: v.connects.WithLabelValues(bus),
	}, nil
}

// register joins what another bus registered before.
func (v *vecs) register(reg prometheus.Registerer) error {
	return errors.Join(
		join(reg, &v.polls), join(reg, &v.errors), join(reg, &v.foreign), join(reg, &v.connects),
		join(reg, &v.up), join(reg, &v.deviceUp), join(reg, &v.budget), join(reg, &v.seconds),
	)
}

func join[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	return err
}

func (m *metrics) device(bus, device string) deviceMetrics {
	d := deviceMetrics{
		polls: m.vecs.polls.WithLabelValues(bus, device),
		up:    m.vecs.deviceUp.WithLabelValues(bus, device),
	}
	for k, name := range kindNames {
		d.errors[k] = m.vecs.errors.WithLabelValues(bus, device, name)
	}
	return d
}

// forget removes the series of a bus that has ended.
func (m *metrics) forget(bus string) {
	labels := prometheus.Labels{"bus": bus}
	for _, vec := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.vecs.polls, m.vecs.errors, m.vecs.foreign, m.vecs.connects, m.vecs.up, m.vecs.deviceUp, m.vecs.budget, m.vecs.seconds} {
		vec.DeletePartialMatch(labels)
	}
}
