package bus

import (
	"cmp"
	"fmt"
	"time"

	"gatehouse/drivers"
)

// What an exchange takes besides its bytes. Field devices answer within some
// 20 ms of the end of a request; a Modbus TCP endpoint on the same site in 2 ms.
const (
	serialTurnaround = 20 * time.Millisecond
	tcpTurnaround    = 2 * time.Millisecond
)

// standardBauds are the speeds a person can choose from.
var standardBauds = []int{1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}

// modeSwitch is what it takes to change how characters look on a line: the
// driver waits until all is sent, and other devices until they are lost.
const modeSwitch = 10 * time.Millisecond

// Budget says how much of the line's time the poll plan needs.
type Budget struct {
	Ratio    float64 // 1 is all of it; above 1 the plan does not fit
	Critical float64 // what life safety alone needs; above 1 nothing else is ever asked
	Jobs     int     // requests, or inseparable few, of the plan
	Baud     int     // the speed it was computed for; 0: none, a Modbus TCP endpoint
	Fits     int     // the lowest standard speed at which the plan fits; 0: none, or no speed to choose
}

// Budget computes the plan's need from the attached devices.
func (b *Bus) Budget() Budget {
	budget := Budget{Jobs: len(b.jobs)}
	if b.opts.Framing == drivers.TCP {
		budget.Ratio, budget.Critical = b.load(0, tcpTurnaround)
		return budget
	}
	budget.Baud = cmp.Or(b.link.Baud, assumedBaud)
	budget.Ratio, budget.Critical = b.load(budget.Baud, serialTurnaround)
	for _, baud := range standardBauds {
		if all, _ := b.load(baud, serialTurnaround); all <= 1 {
			budget.Fits = baud
			break
		}
	}
	return budget
}

// load sums what each job takes of its period, and each life-safety job, with
// the line at a speed; devices with a mode of their own keep it.
func (b *Bus) load(baud int, turnaround time.Duration) (all, critical float64) {
	for _, j := range b.jobs {
		mode, gap, extra := j.dev.timing.Mode, j.dev.timing.Gap, time.Duration(0)
		switch {
		case mode != b.link.Mode:
			extra = 2 * modeSwitch // there and back
		case baud != 0 && mode.Baud != baud:
			mode.Baud = baud
			if gap > 0 && b.link.Baud != 0 {
				gap = frameGap(mode)
			}
		}
		if n := len(j.dev.timing.Wake); n > 0 {
			extra += mode.charTime(n) + j.dev.timing.WakePause
		}
		each := turnaround + gap + extra
		part := float64(mode.charTime(j.size)+time.Duration(j.requests)*each) / float64(j.every)
		all += part
		if j.critical {
			critical += part
		}
	}
	return all, critical
}

// Warning says in one sentence what does not fit, with the numbers, and what to
// do; it is empty if the plan fits.
func (b *Bus) Warning() (what, hint string) {
	budget := b.Budget()
	percent := func(ratio float64) string { return fmt.Sprintf("%.0f %%", 100*ratio) }
	at := ""
	if budget.Baud > 0 {
		at = fmt.Sprintf(" at %d baud", budget.Baud)
	}
	switch {
	case budget.Critical > 1:
		return fmt.Sprintf("life safety alone needs %s of the line's time%s (%d requests): nothing else is polled, and a device that fell silent is not asked again",
			percent(budget.Critical), at, budget.Jobs), budget.hint()
	case budget.Ratio > 1:
		return fmt.Sprintf("the poll plan needs %s of the line's time%s (%d requests; life safety %s): what is not life safety is polled less often than it should",
			percent(budget.Ratio), at, budget.Jobs, percent(budget.Critical)), budget.hint()
	}
	return "", ""
}

func (b Budget) hint() string {
	if b.Fits > b.Baud {
		return fmt.Sprintf("poll less often, or run the line at %d baud", b.Fits)
	}
	return "poll less often, or move devices to another line"
}
