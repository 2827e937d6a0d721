package bus

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/drivers"
	"gatehouse/protocol/point"
)

func TestBudget(t *testing.T) {
	build := func(link string, framing drivers.Framing, jobs int) *Bus {
		b, err := New(Options{ID: "b", Link: link, Framing: framing, Emit: func([]point.Reading) {}})
		if err != nil {
			t.Fatal(err)
		}
		d := &fakeDriver{}
		for range jobs {
			d.jobs = append(d.jobs, drivers.Job{Every: time.Second, TxBytes: 8, RxBytes: 45})
		}
		b.Link("d", Timing{})
		if err := b.Attach("d", d); err != nil {
			t.Fatal(err)
		}
		return b
	}
	// 53 characters of 10 bits are 55.2 ms at 9600; with 20 ms of turnaround and
	// 4 ms of gap 79.2 ms: twelve of them fit into a second.
	if b := build("serial:/dev/x?baud=9600", "", 12).Budget(); b.Ratio < 0.93 || b.Ratio > 0.97 || b.Fits != 9600 {
		t.Errorf("12 polls: %+v", b)
	}
	if b := build("serial:/dev/x?baud=9600", "", 13).Budget(); b.Ratio < 1.01 || b.Fits != 19200 {
		t.Errorf("13 polls: %+v", b)
	}
	if b := build("serial:/dev/x?baud=9600", "", 1000).Budget(); b.Ratio < 1 || b.Fits != 0 {
		t.Errorf("1000 polls: %+v", b)
	}
	if b := build("tcp://h:502", drivers.TCP, 100).Budget(); b.Ratio < 0.1 || b.Ratio > 0.3 || b.Baud != 0 {
		t.Errorf("100 polls of a TCP endpoint: %+v", b)
	}
	if b := build("tcp://h:4001", drivers.RTU, 13).Budget(); b.Ratio < 1.01 || b.Baud != 9600 {
		t.Errorf("13 polls through a serial server: %+v", b)
	}
}

func TestLifeSafetyThatFillsTheLineAloneIsSaidAtStart(t *testing.T) {
	for _, tt := range []struct {
		critical, others int
		want             string
	}{
		{12, 0, ""},
		{12, 5, "the poll plan needs"},
		{14, 0, "life safety alone needs"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Options{})
			d := &fakeDriver{}
			for i := range tt.critical + tt.others {
				d.jobs = append(d.jobs, drivers.Job{Every: time.Second, Critical: i < tt.critical, TxBytes: 8, RxBytes: 45})
			}
			r.Link("d", Timing{})
			if err := r.Attach("d", d); err != nil {
				t.Fatal(err)
			}
			r.start()
			log := r.log.String()
			if log == "" != (tt.want == "") || !strings.Contains(log, tt.want) || strings.Count(log, "\n") > 1 {
				t.Errorf("%d and %d jobs: %q, want %q", tt.critical, tt.others, log, tt.want)
			}
		})
	}
}

func TestADeviceThatCannotBeAttachedLeavesNoSeries(t *testing.T) {
	registry := prometheus.NewRegistry()
	b, err := New(Options{ID: "b", Link: "serial:/dev/x", Emit: func([]point.Reading) {}, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	b.Link("d", Timing{})
	if err := b.Attach("d", &fakeDriver{jobs: make([]drivers.Job, 1)}); err == nil {
		t.Error("a job without a period was attached")
	}
	if err := b.Attach("d", &fakeDriver{}); err != nil {
		t.Error(err)
	}
	if _, err := registry.Gather(); err != nil {
		t.Errorf("metrics: %v", err)
	}
	if len(b.jobs) != 0 {
		t.Errorf("%d jobs, want none of the device that was refused", len(b.jobs))
	}
}

func TestABudgetCountsEachRequestOfAJob(t *testing.T) {
	ratio := func(requests int) float64 {
		b, err := New(Options{ID: "b", Link: "serial:/dev/x?baud=9600", Emit: func([]point.Reading) {}})
		if err != nil {
			t.Fatal(err)
		}
		b.Link("d", Timing{})
		if err := b.Attach("d", &fakeDriver{jobs: []drivers.Job{{Every: time.Second, TxBytes: 8, RxBytes: 7, Requests: requests}}}); err != nil {
			t.Fatal(err)
		}
		return b.Budget().Ratio
	}
	// 20 ms of turnaround and 3.6 ms of silence before each of them.
	if more := ratio(31) - ratio(1); more < 0.70 || more > 0.72 {
		t.Errorf("thirty requests more take %.3f of the line", more)
	}
}
