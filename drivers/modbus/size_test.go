package modbus

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/protocol/point"
)

// bytesPerPoint bounds what a site of 40,000 points asks of a small box.
const bytesPerPoint = 48

func TestTwoThousandDevicesFitInASmallBox(t *testing.T) {
	const devices, registers = 2000, 20
	ids := make([][]point.ID, devices)
	for d := range ids {
		for r := range registers {
			ids[d] = append(ids[d], point.MakeID(fmt.Sprintf("d%d", d), fmt.Sprintf("p%d", r)))
		}
	}
	link := &drivertest.Script{}
	kept := make([]drivers.Driver, devices)
	before := heap()
	for d := range kept {
		s := drivers.Spec{Device: ids[d][0].Device(), Framing: drivers.RTU, Address: d%247 + 1, Every: time.Second}
		for r, id := range ids[d] {
			s.Points = append(s.Points, drivers.PointSpec{
				ID: id, Kind: point.Number, Scale: 0.1, At: drivers.Item{Space: "holding", Address: uint32(r)},
			})
		}
		kept[d] = build(t, s, link)
	}
	per := float64(heap()-before) / (devices * registers)
	t.Logf("%.1f bytes a point", per)
	if per > bytesPerPoint {
		t.Errorf("%.1f bytes a point, want at most %d", per, bytesPerPoint)
	}
	runtime.KeepAlive(kept)
	runtime.KeepAlive(ids)
}

// heap is what is alive on it.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
