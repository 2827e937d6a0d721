package bus

import (
	"errors"
	"time"

	"gatehouse/drivers"
)

// device is one slave and what is known of its health.
type device struct {
	bus     *Bus
	id      string
	timing  *Timing        // complete
	driver  drivers.Driver // nil until it is attached
	writer  drivers.Writer // nil if it cannot be commanded
	jobs    []*job
	metrics *deviceMetrics

	slowest  time.Duration // reply so far
	spoilt   int           // slots with nothing but damaged replies, in a row
	settled  time.Time     // a late reply to an order cannot come after it
	up       bool
	demoted  bool
	since    time.Time // of demotion
	answered time.Time // last
	// notBefore keeps the bus from asking again while a late reply to an
	// earlier request could still be taken for the new one's.
	notBefore time.Time
}

// job is one of a driver's jobs and its place in time.
type job struct {
	dev      *device
	index    int
	every    time.Duration
	critical bool
	size     int // bytes on the line, both ways
	requests int // exchanges

	due      time.Time
	attempts int       // failed ones in this slot
	refused  bool      // by the device, the last time
	hurried  bool      // this slot had a short try, and it found nothing
	failedAt time.Time // when a slot last went by without an answer; zero after one
}

// deadline is when the next slot begins.
func (j *job) deadline() time.Time { return j.due.Add(j.every) }

// nextTask is what to do next: a job, a probe, or neither.
type nextTask struct {
	job   *job
	probe *device
}

// pick chooses by class, then by earliest deadline: life-safety jobs, the one
// probe of this cycle, all other jobs. With nothing to do it says when there
// will be.
func (b *Bus) pick(now time.Time) (nextTask, time.Time) {
	var best *job
	wake := now.Add(patience)
	overtakes := now.Sub(b.vain) >= b.cycle
	for _, j := range b.jobs {
		if j.dev.demoted {
			continue
		}
		ready := j.due
		if j.dev.notBefore.After(ready) {
			ready = j.dev.notBefore
		}
		if ready.After(now) {
			if ready.Before(wake) {
				wake = ready
			}
			continue
		}
		if best == nil || j.before(best, now, overtakes) {
			best = j
		}
	}
	if best != nil && best.critical {
		return nextTask{job: best}, now
	}
	dev, ready := b.pickProbe(now)
	if dev != nil && !ready.After(now) {
		return nextTask{probe: dev}, now
	}
	if best != nil {
		return nextTask{job: best}, now
	}
	if dev != nil && ready.Before(wake) {
		wake = ready
	}
	return nextTask{}, wake
}

// before orders two due jobs. Those that were tried in vain come behind, unless
// they have waited for a whole period and one of them may overtake: one in a
// cycle, so that a full line neither forgets a device nor waits for dead ones.
func (j *job) before(other *job, now time.Time, overtakes bool) bool {
	if j.critical != other.critical {
		return j.critical
	}
	mine, others := j.behind(now, overtakes), other.behind(now, overtakes)
	if mine != others {
		return others
	}
	return j.deadline().Before(other.deadline())
}

func (j *job) behind(now time.Time, overtakes bool) bool {
	return j.tried() && !(overtakes && now.Sub(j.due) >= j.every)
}

// tried reports whether the job was tried in vain: what it costs to try again must
// not keep those waiting that would be answered.
func (j *job) tried() bool { return j.attempts > 0 || j.hurried || !j.failedAt.IsZero() }

// pickProbe takes the demoted devices in turn and says when the next may be asked.
func (b *Bus) pickProbe(now time.Time) (*device, time.Time) {
	var first *device
	var ready time.Time
	for i := range b.devices {
		dev := b.devices[(b.probed+1+i)%len(b.devices)]
		if !dev.demoted {
			continue
		}
		at := b.nextProbe
		if dev.notBefore.After(at) {
			at = dev.notBefore
		}
		if first == nil || at.Before(ready) {
			first, ready = dev, at
		}
		if !ready.After(now) {
			break
		}
	}
	return first, ready
}

// gridBefore is the last moment of a period's grid that is not after now.
func (b *Bus) gridBefore(now time.Time, every time.Duration) time.Time {
	return b.base.Add(now.Sub(b.base) / every * every)
}

// next moves a job to its first slot after now; missed ones are not made up.
func (b *Bus) next(j *job, now time.Time) {
	j.attempts, j.hurried = 0, false
	j.due = j.deadline()
	if !j.due.After(now) {
		j.due = b.gridBefore(now, j.every).Add(j.every)
	}
}

// succeeded notes an answer, be it a refusal.
func (b *Bus) succeeded(j *job, now time.Time) {
	j.failedAt = time.Time{}
	b.next(j, now)
	b.restore(j.dev, now)
}

// busyPause is the time a device gets that says it is busy.
const busyPause = 100 * time.Millisecond

// busy notes an answer that has no value yet: the job is tried again, and its
// device never demoted for it.
func (b *Bus) busy(j *job, now time.Time) {
	j.failedAt = time.Time{}
	b.restore(j.dev, now)
	j.dev.notBefore = now.Add(busyPause)
	if j.attempts++; j.attempts > b.opts.Retries {
		b.next(j, now)
	}
}

// failed notes an attempt without an answer: the job is tried again, and then
// its device demoted.
func (b *Bus) failed(j *job, now time.Time, err error) {
	dev := j.dev
	j.attempts++
	// Others of the device have answered since this job's last slot went by without.
	alive := !j.failedAt.IsZero() && dev.answered.After(j.failedAt)
	if j.attempts <= b.opts.Retries && !alive {
		return // due since before now, it comes first when the device may be asked again
	}
	if errors.Is(err, drivers.ErrDamaged) {
		// Somebody answered: a noisy line is no dead device, and costs less time.
		b.next(j, now)
		b.spoilt(dev, err)
		return
	}
	j.failedAt = now
	if alive {
		// It does not answer only this: ask for this more rarely, and without
		// retries, each of which would keep the others waiting.
		b.next(j, now.Add(b.cycle))
		return
	}
	b.next(j, now)
	b.demote(dev, now, err)
}

// spoiltSlots in a row are more than noise: two devices of one address, a wrong
// parity, a line without its resistor.
const spoiltSlots = 20

// spoilt notes a slot in which every reply was damaged. The device is asked on,
// but nobody shall think that it is well.
func (b *Bus) spoilt(dev *device, err error) {
	if dev.spoilt++; dev.spoilt != spoiltSlots {
		return
	}
	dev.up = false
	dev.metrics.up.Store(false)
	b.opts.Log.Warn("every reply of a device is damaged", "device", dev.id, "err", err,
		"hint", "look for two devices with one address, a wrong baud or parity, and the line's ends")
}

// demote takes a device out of the schedule, but for probes.
func (b *Bus) demote(dev *device, now time.Time, err error) {
	if dev.demoted {
		return
	}
	dev.demoted, dev.since, dev.up = true, now, false
	dev.metrics.up.Store(false)
	dev.metrics.demotions.Add(1)
	if b.nextProbe.Before(now) {
		b.nextProbe = now.Add(b.cycle)
	}
	b.opts.Log.Warn("device does not answer", "device", dev.id, "err", err,
		"hint", "check its power, the A/B wires, its address and the line settings; it is asked again until it answers")
}

// forgive gives every device a fresh start after the link was away: what went
// wrong before may have been the link's doing.
func (b *Bus) forgive() {
	for _, dev := range b.devices {
		dev.demoted = false
		for _, j := range dev.jobs {
			j.attempts, j.hurried, j.failedAt = 0, false, time.Time{}
		}
	}
}

// restore notes that a device answered; a demoted one is polled again at once.
func (b *Bus) restore(dev *device, now time.Time) {
	dev.answered, dev.spoilt = now, 0
	if !dev.up {
		dev.up = true
		dev.metrics.up.Store(true)
	}
	if !dev.demoted {
		return
	}
	dev.demoted = false
	for _, j := range dev.jobs {
		if j.due.After(now) {
			j.due = now
		}
	}
	b.opts.Log.Info("device answers again", "device", dev.id, "away", now.Sub(dev.since).Round(time.Millisecond))
}
