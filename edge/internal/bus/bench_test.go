package bus

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/drivers/modbus"
	"gatehouse/protocol/point"
)

// meter is a device of so many holding registers.
func meter(id string, unit, registers int, framing drivers.Framing) drivers.Spec {
	s := drivers.Spec{Device: id, Framing: framing, Address: unit, Every: time.Second}
	for i := range registers {
		s.Points = append(s.Points, drivers.PointSpec{
			ID: point.MakeID(id, fmt.Sprintf("r%d", i)), Kind: point.Number, Scale: 0.1,
			At: drivers.Item{Space: "holding", Address: uint32(i)},
		})
	}
	return s
}

// loopback is a slave in this process whose registers change at every request;
// it does not allocate either.
func loopback(t testing.TB) string {
	address, _ := drivertest.Serve(t, drivertest.TCPRequest, func() drivertest.Handler {
		var count atomic.Uint32
		var mu sync.Mutex
		out := make([]byte, 0, 300)
		value := func(_, _ byte, a uint16) uint16 { return a + uint16(count.Load()) }
		return func(w io.Writer, request []byte) error {
			mu.Lock()
			defer mu.Unlock()
			count.Add(1)
			out = drivertest.ReplyTCP(out[:0], request, value)
			_, err := w.Write(out)
			return err
		}
	}())
	return "tcp://" + address
}

// ready returns a bus with one device of 20 registers, connected, and its job.
func ready(t testing.TB) (*Bus, *job) {
	b, err := New(Options{ID: "b", Link: loopback(t), Emit: func([]point.Reading) {}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := modbus.New(meter("m", 1, 20, drivers.TCP), drivers.Deps{Link: b.Link("m", Timing{})})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Attach("m", d); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.connect(t.Context())
	t.Cleanup(b.line.shut)
	return b, b.jobs[0]
}

func TestASteadyPollDoesNotAllocate(t *testing.T) {
	b, j := ready(t)
	ctx := t.Context()
	n := testing.AllocsPerRun(500, func() {
		now := b.opts.Now()
		b.pick(now)
		b.poll(ctx, j, now)
	})
	if !j.dev.up || j.attempts > 0 {
		t.Fatal("the polls failed")
	}
	if n > 0 {
		t.Errorf("%v allocations a poll", n)
	}
}

// BenchmarkPoll is one request of 20 registers over loopback, back to back:
// schedule, exchange, decode, metrics, and the answering side.
func BenchmarkPoll(b *testing.B) {
	bus, j := ready(b)
	ctx := b.Context()
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		now := bus.opts.Now()
		bus.pick(now)
		bus.poll(ctx, j, now)
	}
	b.ReportMetric((cpu()-before).Seconds()/float64(b.N)*1e6, "cpu-us/poll")
}

// BenchmarkFleet is what a gateway does: 50 links of 10 devices of 20
// registers, each once a second, for as long as -benchtime says. The slaves are
// in the same process, so half of the cost is theirs.
func BenchmarkFleet(b *testing.B) {
	const links, devices = 50, 10
	var readings atomic.Int64
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	for l := range links {
		bus, err := New(Options{ID: fmt.Sprint("b", l), Link: loopback(b), Emit: func(r []point.Reading) { readings.Add(int64(len(r))) }})
		if err != nil {
			b.Fatal(err)
		}
		for n := range devices {
			id := fmt.Sprintf("d%d-%d", l, n)
			d, err := modbus.New(meter(id, n+1, 20, drivers.TCP), drivers.Deps{Link: bus.Link(id, Timing{})})
			if err != nil {
				b.Fatal(err)
			}
			if err := bus.Attach(id, d); err != nil {
				b.Fatal(err)
			}
		}
		wg.Go(func() { bus.Run(ctx) })
	}
	drivertest.Eventually(b, 5*time.Second, "first round", func() bool { return readings.Load() >= links*devices*20 })
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	mallocs, start, before := m.Mallocs, readings.Load(), cpu()
	b.ResetTimer()
	for range b.N {
		<-time.After(time.Second)
	}
	b.StopTimer()
	spent, polls := cpu()-before, float64(readings.Load()-start)/20
	runtime.ReadMemStats(&m)
	cancel()
	wg.Wait()
	b.ReportMetric(spent.Seconds()/polls*1e3, "cpu-s/1000polls")
	b.ReportMetric(float64(m.Mallocs-mallocs)/polls, "allocs/poll")
	b.ReportMetric(polls/float64(b.N), "polls/s")
}

// cpu is the time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
