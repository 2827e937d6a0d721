// Package clock stamps records: what time it is, who vouches for it, and where
// in which boot it happened.
//
// It guarantees: it never sets the system clock; Mono never goes back within a
// boot and counts suspended time; once the cloud has told the time, Now follows
// it until NTP takes over, whatever is done to the system clock meanwhile;
// VerifyTime is never before the program was built.
package clock

import (
	"encoding/hex"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/protocol/wire"
)

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// slack is how far the cloud's word may be from ours before ours is corrected:
// an ack is late by its way through the network, and time should not tremble.
const slack = 500 * time.Millisecond

// Clock is safe for concurrent use.
type Clock struct {
	boot   wire.BootID
	synced func() bool          // is the system clock kept by NTP
	mono   func() time.Duration // CLOCK_BOOTTIME
	system func() time.Time
	built  time.Time // zero: not known

	mu      sync.Mutex // guards all below
	anchor  anchor
	trusted time.Time // the latest that NTP or the cloud vouched for in this life
}

// anchor ties one moment of the boot to the time the cloud said it was.
type anchor struct {
	time time.Time
	mono time.Duration
}

// New reads the boot id. It fails only where there is no Linux kernel to ask.
func New() (*Clock, error) {
	b, err := os.ReadFile(bootIDFile)
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	boot, err := parseBootID(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", bootIDFile, err)
	}
	return &Clock{boot: boot, synced: ntpSynced, mono: bootTime, system: time.Now, built: buildTime()}, nil
}

// buildTime is when the program was committed, else when its file was written.
func buildTime() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		if t := commitTime(info.Settings); !t.IsZero() {
			return t
		}
	}
	path, err := os.Executable()
	if err != nil {
		return time.Time{}
	}
	stat, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return stat.ModTime()
}

func commitTime(settings []debug.BuildSetting) time.Time {
	for _, s := range settings {
		if s.Key == "vcs.time" {
			t, _ := time.Parse(time.RFC3339, s.Value) // zero: as if it were not there
			return t
		}
	}
	return time.Time{}
}

func parseBootID(s string) (id wire.BootID, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("boot id %q: want a UUID", s)
	}
	return wire.BootID(b), nil
}

// ntpSynced asks the kernel; adjtimex with no mode bits changes nothing.
func ntpSynced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

func bootTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails only for an unknown clock; this one is as old as Linux 2.6.39
	return time.Duration(ts.Nano())
}

// Boot names this boot.
func (c *Clock) Boot() wire.BootID { return c.boot }

// Mono is the time since the boot. Durations are measured with it.
func (c *Clock) Mono() time.Duration { return c.mono() }

// Now is the best wall time there is. It is for people and records; it may
// step, so measure durations with Mono.
func (c *Clock) Now() time.Time {
	now, _ := c.now()
	return now
}

// Quality says who vouches for Now.
func (c *Clock) Quality() wire.ClockQuality {
	_, q := c.now()
	return q
}

// VerifyTime is the time to check certificates at. While nobody vouches for the
// system clock it is the latest moment that has certainly passed: a box without
// a battery wakes up in 1970 and could reach no cloud that tells it better. What
// was trusted is forgotten with the process.
func (c *Clock) VerifyTime() time.Time {
	now, q := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if q != wire.ClockUntrusted {
		c.trusted = now
		return now
	}
	for _, t := range []time.Time{c.built, c.trusted} {
		if t.After(now) {
			now = t
		}
	}
	return now
}

func (c *Clock) now() (time.Time, wire.ClockQuality) {
	if c.synced() {
		return c.system(), wire.ClockNTP
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.anchor.time.IsZero() {
		return c.system(), wire.ClockUntrusted
	}
	return c.anchor.time.Add(c.mono() - c.anchor.mono), wire.ClockCloud
}

// CloudTime takes the cloud's word for what time it is now.
func (c *Clock) CloudTime(t time.Time) {
	if t.IsZero() || t.Year() < 2020 {
		return // a cloud that does not know the time either
	}
	mono := c.mono()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.anchor.time.IsZero() && c.anchor.time.Add(mono-c.anchor.mono).Sub(t).Abs() < slack {
		return
	}
	c.anchor = anchor{time: t.Round(0), mono: mono}
}

// NewRecord returns a record of body with a fresh id and the stamps of this
// moment. The store gives it its sequence number.
func (c *Clock) NewRecord(lane wire.Lane, kind string, body []byte) wire.Record {
	now, q := c.now()
	return wire.Record{
		ID: wire.NewEventID(), Lane: lane, Kind: kind, Time: now, Clock: q, Boot: c.boot, Mono: c.mono(), Body: body,
	}
}
