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

// What a site of 40,000 points may ask of a small box: 16 bytes of each are the
// id in its Job.
const (
	bytesPerPoint      = 48 // registers that mean the same
	bytesPerMixedPoint = 72 // each means something else
)

func TestTwoThousandDevicesFitInASmallBox(t *testing.T) {
	t.Run("alike", func(t *testing.T) { fit(t, bytesPerPoint, func(int) float64 { return 0.1 }) })
	t.Run("mixed", func(t *testing.T) { fit(t, bytesPerMixedPoint, func(r int) float64 { return float64(r + 1) }) })
}

func fit(t *testing.T, limit float64, scale func(register int) float64) {
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
				ID: id, Kind: point.Number, Scale: scale(r), At: drivers.Item{Space: "holding", Address: uint32(r)},
			})
		}
		kept[d] = build(t, s, link)
	}
	per := float64(heap()-before) / (devices * registers)
	t.Logf("%.1f bytes a point", per)
	if per > limit {
		t.Errorf("%.1f bytes a point, want at most %v", per, limit)
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
