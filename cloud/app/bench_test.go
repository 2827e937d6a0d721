package app

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// BenchmarkIdle starts the service and reports what it holds in memory.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		s, kill := startChild(b, b.TempDir())
		b.ReportMetric(rssAnonMB(b, s.pid), "MB-anon")
		kill()
	}
}

// rssAnonMB returns a process's anonymous memory.
func rssAnonMB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "RssAnon: %f kB", &kb); err == nil {
			return kb / 1024
		}
	}
	b.Fatal("no RssAnon")
	return 0
}

// BenchmarkAck sends one alarm at a time, over MQTT, and waits for its ack.
func BenchmarkAck(b *testing.B) {
	s := startService(b, b.TempDir())
	box := connect(b, s.MQTT, "gw-1", addGateway(b, s.data, "gw-1"))
	seq := uint64(0)
	for b.Loop() {
		seq++
		box.send(alarms(b, "gw-1", "e1", seq, seq))
		box.ack()
	}
}

// BenchmarkIngest has many gateways send batches of 100, one in flight each.
func BenchmarkIngest(b *testing.B) {
	const gateways, size = 32, 100
	s, _ := startChild(b, b.TempDir())
	boxes := make([]*box, gateways)
	for i := range boxes {
		id := fmt.Sprintf("gw-%d", i)
		boxes[i] = connect(b, s.MQTT, id, addGateway(b, s.data, id))
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, box := range boxes {
		wg.Go(func() {
			for n := range uint64(b.N/gateways + 1) {
				batch := alarms(b, box.id, "e1", n*size+1, (n+1)*size)
				for j := range batch.Records {
					batch.Records[j].Kind = "alarm.raised"
				}
				box.send(batch)
				if a := box.ack(); a.UpTo != (n+1)*size {
					b.Errorf("gateway %d: ack %+v", i, a)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((b.N/gateways+1)*gateways*size)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(rssAnonMB(b, s.pid), "MB-anon")
}
