package clock

import (
	"runtime/debug"
	"testing"
	"time"

	"gatehouse/protocol/wire"
)

// fake is a clock whose three sources the test moves by hand.
type fake struct {
	synced bool
	mono   time.Duration
	system time.Time
}

func (f *fake) clock() *Clock {
	return &Clock{
		synced: func() bool { return f.synced }, mono: func() time.Duration { return f.mono }, system: func() time.Time { return f.system },
	}
}

func TestNewReadsTheKernel(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if c.Boot() == (wire.BootID{}) {
		t.Error("no boot id")
	}
	before := c.Mono()
	r := c.NewRecord(wire.LaneAlarm, wire.KindAlarmRaised, []byte("x"))
	if r.Mono < before || before <= 0 {
		t.Errorf("mono went from %v to %v", before, r.Mono)
	}
	if r.ID == (wire.EventID{}) || r.Boot != c.Boot() || r.Time.IsZero() || r.Clock != c.Quality() {
		t.Errorf("record lacks a stamp: %+v", r)
	}
}

func TestUntrustedClockFollowsTheCloudUntilNTP(t *testing.T) {
	cloud := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	f := &fake{mono: time.Hour, system: time.Unix(0, 0)}
	c := f.clock()
	if q := c.Quality(); q != wire.ClockUntrusted {
		t.Fatalf("quality %v before anyone vouched", q)
	}
	c.CloudTime(cloud)
	f.mono += time.Minute
	f.system = f.system.AddDate(10, 0, 0) // somebody sets the system clock
	if got := c.Now(); !got.Equal(cloud.Add(time.Minute)) || c.Quality() != wire.ClockCloud {
		t.Errorf("now %v (%v), want a minute after the cloud's word", got, c.Quality())
	}
	c.CloudTime(cloud.Add(time.Minute - 100*time.Millisecond))
	if got := c.Now(); !got.Equal(cloud.Add(time.Minute)) {
		t.Errorf("time trembled to %v for a slow ack", got)
	}
	c.CloudTime(cloud.Add(time.Hour))
	if got := c.Now(); !got.Equal(cloud.Add(time.Hour)) {
		t.Errorf("now %v, want the cloud's correction", got)
	}
	f.synced = true
	if got := c.Now(); !got.Equal(f.system) || c.Quality() != wire.ClockNTP {
		t.Errorf("now %v (%v), want the system clock under NTP", got, c.Quality())
	}
}

func TestCloudWithoutTimeIsNotBelieved(t *testing.T) {
	f := &fake{system: time.Unix(100, 0)}
	c := f.clock()
	c.CloudTime(time.Time{})
	c.CloudTime(time.Unix(0, 0))
	if c.Quality() != wire.ClockUntrusted {
		t.Error("1970 was taken for the cloud's time")
	}
}

func TestCertificatesAreCheckedAtTheLatestTimeThatHasPassed(t *testing.T) {
	built, cloud := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	f := &fake{system: time.Unix(0, 0)}
	c := f.clock()
	c.built = built
	check := func(why string, want time.Time) {
		t.Helper()
		if got := c.VerifyTime(); !got.Equal(want) {
			t.Errorf("%s: %v, want %v", why, got, want)
		}
	}
	check("a box that woke up in 1970", built)
	f.system = cloud.Add(-time.Hour)
	check("a battery that kept the time since the build", f.system)
	f.synced = true
	f.system = cloud
	check("NTP", cloud)
	f.synced = false
	f.system = time.Unix(0, 0)
	check("NTP is lost and the clock was set back", cloud)
	f.system = cloud.AddDate(70, 0, 0)
	c.CloudTime(cloud.Add(time.Minute))
	check("the cloud's word against a clock that is ahead", cloud.Add(time.Minute))
}

func TestTheBuildTimeIsKnown(t *testing.T) {
	if b := buildTime(); b.Year() < 2026 || b.After(time.Now()) {
		t.Errorf("built at %v", b)
	}
	want := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	if got := commitTime([]debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.time", Value: "2026-11-01T08:00:00Z"}}); !got.Equal(want) {
		t.Errorf("commit time %v, want %v", got, want)
	}
	if got := commitTime([]debug.BuildSetting{{Key: "vcs.time", Value: "yesterday"}}); !got.IsZero() {
		t.Errorf("commit time %v of no date", got)
	}
}

func TestBootIDMustBeAUUID(t *testing.T) {
	if _, err := parseBootID("6f9c1d9e-21a4-4f9c-8f0e-0123456789ab\n"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "zz", "6f9c1d9e"} {
		if _, err := parseBootID(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
