package bus

import (
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

// Budget says how much of the line's time the poll plan needs.
type Budget struct {
	Ratio    float64 // 1 is all of it; above 1 the plan does not fit
	Critical float64 // what life safety alone needs; above 1 nothing else is ever asked
	Baud     int     // the speed it was computed for; 0: none, a Modbus TCP endpoint
	Fits     int     // the lowest standard speed at which the plan fits; 0: none, or no speed to choose
}

// Budget computes the plan's need from the attached devices.
func (b *Bus) Budget() Budget {
	link := b.link
	if b.opts.Framing == drivers.TCP {
		all, critical := b.share(link, tcpTurnaround)
		return Budget{Ratio: all, Critical: critical}
	}
	if link.Baud == 0 {
		link.Baud = 9600
	}
	all, critical := b.share(link, serialTurnaround)
	budget := Budget{Ratio: all, Critical: critical, Baud: link.Baud}
	for _, baud := range standardBauds {
		link.Baud = baud
		if all, _ := b.share(link, serialTurnaround); all <= 1 {
			budget.Fits = baud
			break
		}
	}
	return budget
}

// share sums what each job takes of its period, and each life-safety job.
func (b *Bus) share(link Link, turnaround time.Duration) (all, critical float64) {
	gap := b.opts.Gap
	if link.Baud != b.link.Baud && gap > 0 {
		gap = frameGap(link)
	}
	for _, j := range b.jobs {
		part := float64(link.charTime(j.size)+turnaround+gap) / float64(j.every)
		all += part
		if j.critical {
			critical += part
		}
	}
	return all, critical
}

func (b Budget) hint() string {
	if b.Fits > b.Baud {
		return fmt.Sprintf("poll less often, or run the line at %d baud", b.Fits)
	}
	return "poll less often, or move devices to another line"
}
