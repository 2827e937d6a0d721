package uplink

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer prometheus.Registerer
	registered []prometheus.Collector
	up         prometheus.Gauge
	batches    *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	refused    prometheus.Counter
	poison     *prometheus.CounterVec
	rolledBack prometheus.Counter
}

func newMetrics(r prometheus.Registerer, u *Uplink) (*metrics, error) {
	byLane := []string{"lane"}
	m := &metrics{
		registerer: r,
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_uplink_up", Help: "1 while connected to the broker.",
		}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_uplink_batches_total", Help: "Batches published, resends included.",
		}, byLane),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_uplink_bytes_total", Help: "Bytes of payload published, resends included.",
		}, byLane),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_uplink_acks_refused_total", Help: "Acks that could not be for this gateway, epoch or anything sent.",
		}),
		poison: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_uplink_poison_total", Help: "Attempts to send a record that cannot be encoded; its lane waits behind it.",
		}, byLane),
		rolledBack: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_uplink_rolled_back_total", Help: "Lanes found behind the cloud: the store was rolled back or cloned.",
		}),
	}
	collectors := []prometheus.Collector{m.up, m.batches, m.bytes, m.refused, m.poison, m.rolledBack}
	for _, s := range u.senders {
		labels := prometheus.Labels{"lane": s.lane.String()}
		collectors = append(collectors,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "gatehouse_uplink_acked_seq", Help: "Sequence number up to which the cloud has everything.", ConstLabels: labels,
			}, func() float64 { acked, _ := s.box.Position(); return float64(acked) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "gatehouse_outbox_records", Help: "Records stored that the cloud does not have yet.", ConstLabels: labels,
			}, func() float64 { acked, head := s.box.Position(); return float64(head - acked) }))
	}
	if r == nil {
		return m, nil
	}
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			m.unregister()
			return nil, errors.Join(errors.New("register metrics"), err)
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
}
