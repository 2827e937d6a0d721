package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goburrow "github.com/goburrow/modbus"
	"golang.org/x/sys/unix"

	"gatehouse/protocol/modbus"
)

// The serial line: 9600 baud, 8N1. MODBUS over Serial Line V1.02, 2.5.1.1 asks
// for 3.5 characters of silence before a frame.
const (
	rtuBaud     = 9600
	rtuChar     = 10 * time.Second / rtuBaud
	rtuSilence  = 7 * rtuChar / 2
	rtuThink    = 5 * time.Millisecond
	rtuSlaves   = 32
	rtuRequest  = 8                      // bytes of a read request
	rtuOverhead = 5                      // bytes of its reply beside the registers
	rtuPoll     = 100 * time.Millisecond // less than a cycle takes: the line is never idle
)

// rtuCycle is the least time in which every slave can be read once.
func rtuCycle(registers int) time.Duration {
	return rtuSlaves * (time.Duration(rtuRequest+rtuOverhead+2*registers)*rtuChar + rtuThink + rtuSilence)
}

// rtu measures how much of a serial line's time is used, and whether its
// silences are kept.
func (b *bench) rtu(ctx context.Context) error {
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return err
	}
	defer broker.stop()
	for _, n := range []int{2, registers} {
		dir := filepath.Join(b.dir, fmt.Sprintf("rtu-%d", n))
		own, err := b.onLine(ctx, fmt.Sprintf("rtu: %d registers: the daemon", n), n, func(port string) (*process, error) {
			g, err := newGateway(b.bin, dir, site{
				Broker: broker.addr, Links: []string{fmt.Sprintf("serial:%s?baud=%d&parity=none&stop=1", port, rtuBaud)},
				Units: rtuSlaves, Registers: n, Poll: rtuPoll, Guarded: n,
			})
			if err != nil {
				return nil, err
			}
			err = g.start()
			return g.proc, err
		})
		if err != nil {
			return err
		}
		other, err := b.onLine(ctx, fmt.Sprintf("rtu: %d registers: the reference", n), n, func(port string) (*process, error) {
			return startReference(b.dir, "-rtu", port, "-registers", strconv.Itoa(n))
		})
		if err != nil {
			return err
		}
		name := fmt.Sprintf("rtu-%d-%d", rtuBaud, n)
		b.rows.atLeast(name, own.used(n), "% of the line", ref(other.used(n)), 98)
		b.rows.shown(name+"-cycle", own.cycle.Seconds()*1000, "ms", ref(other.cycle.Seconds()*1000))
		b.rows.atMost(name+"-short", float64(own.short), fmt.Sprintf("silences of %d", own.polls), ref(float64(other.short)), 0)
		b.rows.shown(name+"-silence", own.least.Seconds()*1000, "ms, least", ref(other.least.Seconds()*1000))
	}
	return nil
}

// onLine lets a program poll a new line for so many cycles.
func (b *bench) onLine(ctx context.Context, what string, registers int, start func(port string) (*process, error)) (lineUse, error) {
	b.say("%s", what)
	line, err := newRTULine(registers)
	if err != nil {
		return lineUse{}, err
	}
	defer line.Close()
	p, err := start(line.port)
	if p != nil {
		defer p.stop()
	}
	if err != nil {
		return lineUse{}, err
	}
	polled := func(n int) func() bool {
		return func() bool { return line.polls.Load() >= uint64(n) }
	}
	if err := until(ctx, 20*time.Second, "the first cycle", polled(rtuSlaves), p); err != nil {
		return lineUse{}, err
	}
	line.reset()
	limit := 5 * time.Duration(b.size.Cycles) * rtuCycle(registers)
	if err := until(ctx, limit, "the line's cycles", polled(b.size.Cycles*rtuSlaves), p); err != nil {
		return lineUse{}, err
	}
	return line.use(), nil
}

// lineUse is what was seen on the line.
type lineUse struct {
	polls uint64
	cycle time.Duration // in which every slave is read once
	short int           // silences of less than 3.5 characters
	least time.Duration // the shortest silence
}

// used is how much of the line's time was not wasted, in percent.
func (u lineUse) used(registers int) float64 {
	return 100 * rtuCycle(registers).Seconds() / u.cycle.Seconds()
}

// rtuLine is a pseudo terminal at whose other end all slaves of a line answer,
// at the pace of a line: a pseudo terminal has none of its own.
type rtuLine struct {
	port      string
	master    *os.File
	hold      *os.File // keeps the terminal there while no program has it open
	registers int
	polls     atomic.Uint64
	wg        sync.WaitGroup

	mu          sync.Mutex // guards all below
	seen        lineUse
	first, last time.Duration // ends of the first and the latest reply
}

func newRTULine(registers int) (*rtuLine, error) {
	master, hold, port, err := openTerminal()
	if err != nil {
		return nil, fmt.Errorf("pseudo terminal: %w", err)
	}
	l := &rtuLine{port: port, master: master, hold: hold, registers: registers}
	l.reset()
	l.wg.Go(l.serve)
	return l, nil
}

// Close ends the slaves and waits for them.
func (l *rtuLine) Close() {
	// The slaves' read does not end when its descriptor is closed; a byte does it.
	l.polls.Store(lineClosed)
	_, _ = l.hold.Write([]byte{0})
	l.wg.Wait()
	l.hold.Close()
	l.master.Close()
}

// lineClosed, as the number of polls, ends the slaves.
const lineClosed = 1 << 63

// reset begins to count anew.
func (l *rtuLine) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.polls.Store(0)
	l.first, l.last = 0, 0
	l.seen = lineUse{least: time.Hour}
}

func (l *rtuLine) use() lineUse {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.seen
	u.cycle = (l.last - l.first) * rtuSlaves / time.Duration(u.polls-1)
	return u
}

// serve answers requests. A request's bytes arrive at once and are taken as if
// they had come one by one; the reply is written byte by byte, each when its
// last bit would have arrived. The thread is this goroutine's own, so that its
// sleeps end when they should.
func (l *rtuLine) serve() {
	runtime.LockOSThread() // never unlocked: its timer slack dies with it
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	var in [64]byte
	reply := make([]byte, 0, 256)
	ended := time.Duration(0) // when the last reply did
	for have := 0; ; {
		n, err := l.master.Read(in[have:])
		at := now()
		if err != nil || l.polls.Load() >= lineClosed {
			return
		}
		if have == 0 {
			l.silent(at, ended)
		}
		if have += n; have < rtuRequest {
			continue
		}
		have = 0
		if reply = l.reply(in[:rtuRequest], reply[:0]); len(reply) == 0 {
			continue // for none of these slaves, or damaged: no slave answers that
		}
		begun := at + rtuRequest*rtuChar + rtuThink
		for i := range reply {
			sleepUntil(begun + time.Duration(i+1)*rtuChar)
			// A reader may have the last byte before Write returns.
			ended = now()
			if _, err := l.master.Write(reply[i : i+1]); err != nil {
				return
			}
		}
		l.answered(ended)
	}
}

// silent notes the silence before a request.
func (l *rtuLine) silent(at, ended time.Duration) {
	if ended == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen.least = min(l.seen.least, at-ended)
	if at-ended < rtuSilence {
		l.seen.short++
	}
}

func (l *rtuLine) answered(ended time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen.polls == 0 {
		l.first = ended
	}
	l.seen.polls++
	l.last = ended
	l.polls.Add(1)
}

// reply appends the reply to a read of holding registers.
func (l *rtuLine) reply(req, to []byte) []byte {
	count := int(binary.BigEndian.Uint16(req[4:]))
	if modbus.CRC(req) != 0 || req[0] < 1 || req[0] > rtuSlaves || req[1] != 3 || count != l.registers {
		return nil
	}
	to = append(to, req[0], 3, byte(2*count))
	for i := range count {
		to = binary.BigEndian.AppendUint16(to, uint16(l.polls.Load()%countLimit)+uint16(i))
	}
	return binary.LittleEndian.AppendUint16(to, modbus.CRC(to)) // low byte first
}

// now is the monotonic clock that sleepUntil goes by.
func now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // Linux always has it
	return time.Duration(ts.Nano())
}

// sleepUntil sleeps without the half millisecond by which timers of the Go
// runtime may be late.
func sleepUntil(at time.Duration) {
	ts := unix.NsecToTimespec(int64(at))
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
	}
}

// openTerminal opens a raw pseudo terminal. Reads of the master block a thread
// of their own, which wakes sooner than the runtime's poller would.
func openTerminal() (master, hold *os.File, port string, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, "", err
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	fail := func(err error) (*os.File, *os.File, string, error) {
		master.Close()
		return nil, nil, "", err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fail(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return fail(err)
	}
	port = fmt.Sprintf("/dev/pts/%d", number)
	end, err := unix.Open(port, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	hold = os.NewFile(uintptr(end), port)
	settings, err := unix.IoctlGetTermios(end, unix.TCGETS)
	if err == nil {
		settings.Iflag, settings.Oflag, settings.Lflag = 0, 0, 0
		err = unix.IoctlSetTermios(end, unix.TCSETS, settings)
	}
	if err != nil {
		hold.Close()
		return fail(err)
	}
	return master, hold, port, nil
}

// rtuReference reads every slave of a line in turn with goburrow's stock
// client, as fast as that goes.
func rtuReference(ctx context.Context, port string, registers int) error {
	h := goburrow.NewRTUClientHandler(port)
	h.BaudRate, h.DataBits, h.Parity, h.StopBits, h.Timeout = rtuBaud, 8, "N", 1, time.Second
	defer h.Close()
	client := goburrow.NewClient(h)
	for ctx.Err() == nil {
		for unit := 1; unit <= rtuSlaves && ctx.Err() == nil; unit++ {
			h.SlaveId = byte(unit)
			if _, err := client.ReadHoldingRegisters(0, uint16(registers)); err != nil {
				return err
			}
		}
	}
	return nil
}
