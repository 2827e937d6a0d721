package eventlog

import (
	"fmt"
	"sync/atomic"
	"testing"

	"gatehouse/protocol/wire"
)

// BenchmarkAppend stores batches of equal kind from many gateways at once.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 100} {
		for _, gateways := range []int{1, 16} {
			b.Run(fmt.Sprintf("records=%d/gateways=%d", size, gateways), func(b *testing.B) {
				l := openLog(b)
				var gateway atomic.Uint32
				b.SetParallelism((gateways + 1) / 2)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					o := Origin{Gateway: fmt.Sprintf("gw-%d", gateway.Add(1)), Division: origin.Division}
					next := uint64(1)
					for pb.Next() {
						batch := wire.Batch{Version: 1, Gateway: o.Gateway, Epoch: "e1", Lane: wire.LaneAlarm}
						for range size {
							batch.Records = append(batch.Records, alarmRecord(b, next, wire.KindAlarmRaised, false))
							next++
						}
						appended(b, l, o, batch)
					}
				})
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkRead pages through a log of single-record messages.
func BenchmarkRead(b *testing.B) {
	l := openLog(b)
	for n := range uint64(20) {
		appended(b, l, origin, batch(b, "e1", n*400+1, (n+1)*400))
	}
	for _, f := range []Filter{{}, {Scope: "53", Kinds: []string{"alarm.raised", "alarm.cleared"}}} {
		b.Run(fmt.Sprintf("kinds=%d", len(f.Kinds)), func(b *testing.B) {
			for b.Loop() {
				page, _, err := l.Read(b.Context(), f, Cursor{}, 1000)
				if err != nil || len(page) != 1000 {
					b.Fatal(len(page), err)
				}
			}
			b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
