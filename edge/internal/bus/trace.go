package bus

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a trace: what it keeps, and how long it goes on after the last
// person looked.
const (
	traceFrames = 256
	traceBytes  = 300 // of one frame: the longest of any protocol here
	tracePause  = 15 * time.Second
)

// Frame is one entry of a trace: bytes that went over the line, or what came
// of waiting for some.
type Frame struct {
	Seq    uint64
	At     time.Time
	Device string
	Sent   bool   // by the gateway
	Bytes  []byte // nil: nothing was received
	Hidden int    // further bytes that are not shown
	Note   string // why a reply is none
}

// trace keeps the latest frames of one bus while somebody looks. It costs
// nothing otherwise.
type trace struct {
	on    atomic.Bool
	mu    sync.Mutex // guards all below
	until time.Time
	seq   uint64
	ring  []Frame
	more  chan struct{} // closed at the next frame
}

// Trace returns the frames after a sequence number, and waits for one if there
// are none yet. The bus traces for as long as somebody asks at least every
// fifteen seconds; nothing is kept from before the first question.
func (b *Bus) Trace(ctx context.Context, after uint64) ([]Frame, error) {
	t := &b.trace
	for {
		t.mu.Lock()
		t.until = b.opts.Now().Add(tracePause)
		t.on.Store(true)
		if t.more == nil {
			t.more = make(chan struct{})
		}
		first, _ := slices.BinarySearchFunc(t.ring, after+1, func(f Frame, seq uint64) int { return int(int64(f.Seq - seq)) })
		frames, more := slices.Clone(t.ring[first:]), t.more
		t.mu.Unlock()
		if len(frames) > 0 {
			return frames, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// traced notes one whole frame if somebody looks.
func (b *Bus) traced(dev *device, sent bool, frame []byte) {
	show := len(frame)
	if dev.timing.Reveal > 0 {
		show = min(show, dev.timing.Reveal)
	}
	b.noted(dev, sent, frame, show, "")
}

// tracedRest notes bytes that are no whole frame of the device, and why. They may
// be a late frame of any device of the bus, or the middle of one: if one has
// something to hide, they are counted and not shown.
func (b *Bus) tracedRest(dev *device, rest []byte, note string) {
	show := len(rest)
	for _, other := range b.linked {
		if other.timing.Reveal > 0 {
			show = 0
		}
	}
	b.noted(dev, false, rest, show, note)
}

// noted puts an entry into the trace of which so many bytes may be seen.
func (b *Bus) noted(dev *device, sent bool, frame []byte, show int, note string) {
	t := &b.trace
	if !t.on.Load() {
		return
	}
	show = min(show, traceBytes)
	now := b.opts.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.After(t.until) {
		t.on.Store(false)
		t.ring = nil
		return
	}
	t.seq++
	if len(t.ring) == traceFrames {
		t.ring = slices.Delete(t.ring, 0, traceFrames/4)
	}
	t.ring = append(t.ring, Frame{
		Seq: t.seq, At: now, Device: dev.id, Sent: sent, Bytes: slices.Clone(frame[:show]), Hidden: len(frame) - show, Note: note,
	})
	if t.more != nil {
		close(t.more)
		t.more = nil
	}
}
