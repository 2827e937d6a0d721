package ingest

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/protocol/wire"
)

// What can become of a batch.
const (
	accepted = "accepted" // durable, be it new or known before
	hole     = "hole"     // it would have left a hole; acked below its start
	refused  = "refused"  // no batch of this gateway and lane
	dropped  = "dropped"  // no room in the queue
	failed   = "failed"   // the log could not store it
)

type metrics struct {
	batches *prometheus.CounterVec
	records *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_ingest_batches_total", Help: "Batches from gateways by what became of them.",
		}, []string{"lane", "result"}),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_ingest_records_total", Help: "Records in accepted batches.",
		}, []string{"lane"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_ingest_seconds", Help: "From taking up a batch to its being durable.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"lane"}),
	}
	for _, lane := range wire.Lanes {
		for _, result := range []string{accepted, hole, refused, dropped, failed} {
			m.batches.WithLabelValues(lane.String(), result)
		}
		m.records.WithLabelValues(lane.String())
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.batches, m.records, m.seconds} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("ingest: metrics: %w", err)
		}
	}
	return nil
}
