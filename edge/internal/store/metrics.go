package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer     prometheus.Registerer
	collectors     []prometheus.Collector
	registered     []prometheus.Collector
	commits        *prometheus.CounterVec
	commitSeconds  *prometheus.HistogramVec
	failures       *prometheus.CounterVec
	damagedRecords prometheus.Counter
	droppedRecords *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	byFile := []string{"file"}
	m := &metrics{
		registerer: r,
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_store_commits_total", Help: "Transactions written.",
		}, byFile),
		commitSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_store_commit_seconds", Help: "Time of one transaction, its sync included.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 2, 10},
		}, byFile),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_store_failures_total", Help: "Transactions that failed.",
		}, byFile),
		damagedRecords: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_store_damaged_records_total", Help: "Records found damaged on disk.",
		}),
		droppedRecords: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_store_dropped_records_total", Help: "Records dropped before the cloud had them, for want of space.",
		}, []string{"lane"}),
	}
	m.collectors = []prometheus.Collector{m.commits, m.commitSeconds, m.failures, m.damagedRecords, m.droppedRecords}
	return m
}

// sizes adds the bytes in use of each file.
func (m *metrics) sizes(files ...*file) {
	for _, f := range files {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_store_bytes", Help: "Bytes in use inside the file.", ConstLabels: prometheus.Labels{"file": f.name},
		}, func() float64 { return float64(f.used()) }))
	}
}

func (m *metrics) register() (err error) {
	if m.registerer == nil {
		return nil
	}
	for _, c := range m.collectors {
		if e := m.registerer.Register(c); e != nil {
			err = errors.Join(err, e)
			continue
		}
		m.registered = append(m.registered, c)
	}
	return err
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
}
