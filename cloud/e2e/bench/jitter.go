package main

import (
	"math"
	"sync/atomic"
	"time"
)

// jitter is how far the intervals between successive polls of one device are
// from the period, over all devices.
type jitter struct {
	period atomic.Int64 // nanoseconds; 0: nothing is counted
	counts [jitterSteps + 1]atomic.Uint64
}

// jitterStep is how finely it is counted; what is beyond the last step is
// counted as that.
const (
	jitterStep  = 20 * time.Microsecond
	jitterSteps = 100_000 // 2 s
)

// watch begins to count anew.
func (j *jitter) watch(period time.Duration) {
	j.period.Store(0)
	for i := range j.counts {
		j.counts[i].Store(0)
	}
	j.period.Store(int64(period))
}

func (j *jitter) add(interval time.Duration) {
	period := time.Duration(j.period.Load())
	if period == 0 {
		return
	}
	j.counts[min((interval-period).Abs()/jitterStep, jitterSteps)].Add(1)
}

// percentile ends the counting and returns the milliseconds that p percent of
// the intervals are not further off than.
func (j *jitter) percentile(p float64) float64 {
	j.period.Store(0)
	total := uint64(0)
	for i := range j.counts {
		total += j.counts[i].Load()
	}
	if total == 0 {
		return math.NaN()
	}
	rank := uint64(math.Ceil(p / 100 * float64(total)))
	for i := range j.counts {
		if n := j.counts[i].Load(); n < rank {
			rank -= n
			continue
		}
		return float64(time.Duration(i+1)*jitterStep) / float64(time.Millisecond)
	}
	return math.Inf(1)
}
