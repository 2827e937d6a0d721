// Command bench measures the gateway daemon beside a reference, in one run, on
// one machine, and prints what it found whether or not it is flattering.
//
// It guarantees: the daemon is measured as a program of its own, through its
// configuration, its Modbus connections, its MQTT uplink and /proc; the
// reference carries the same load in the same run; every value the devices
// answered is looked for at the broker, and what is missing is a row of the
// table. Everything the harness starts is stopped when it ends, also after an
// error or a signal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	gatehouse string
	out       string
	only      string
	devices   string
	short     bool
	guarded   int
	keep      bool
	size      size
}

// size is how much is measured.
type size struct {
	Devices  []int // of twenty registers, ten on a connection
	Guarded  int   // registers of each device that a rule is bound to
	Warmup   time.Duration
	Window   time.Duration
	Cycles   int // of a serial line
	Alarms   int // samples of the alarm path
	Restarts int
}

// complete checks the options and says how much is measured.
func (o *options) complete() error {
	var errs []error
	for _, name := range strings.Split(o.only, ",") {
		if name != "" && !slices.Contains(partNames, name) {
			errs = append(errs, fmt.Errorf("-only %s: want one or more of %s", name, strings.Join(partNames, ",")))
		}
	}
	o.size = size{Guarded: o.guarded, Warmup: 12 * time.Second, Window: 30 * time.Second, Cycles: 10, Alarms: 200, Restarts: 5}
	if o.short {
		o.size = size{Guarded: o.guarded, Warmup: 3 * time.Second, Window: 6 * time.Second, Cycles: 3, Alarms: 100, Restarts: 2}
	}
	for _, text := range strings.Split(o.devices, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 || n%unitsPerConn != 0 {
			errs = append(errs, fmt.Errorf("-devices %s: want multiples of %d", o.devices, unitsPerConn))
		}
		o.size.Devices = append(o.size.Devices, n)
	}
	if o.guarded < 0 || o.guarded > registers {
		errs = append(errs, fmt.Errorf("-guarded %d: want 0 to %d", o.guarded, registers))
	}
	return errors.Join(errs...)
}

// partNames are the parts of the measurement, in their order.
var partNames = []string{"poll", "max", "rtu", "alarm", "restart"}

// parts is how each is measured.
func (b *bench) parts() []func(context.Context) error {
	return []func(context.Context) error{b.poll, b.max, b.rtu, b.alarm, b.restart}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == referenceCommand {
		if err := runReference(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "reference:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.gatehouse, "gatehouse", "bin/gatehouse", "the daemon to measure")
	flag.StringVar(&o.out, "out", "bench/results.json", "where the results go")
	flag.StringVar(&o.only, "only", "", "measure only some of: "+strings.Join(partNames, ","))
	flag.StringVar(&o.devices, "devices", "50,500,2000", "how many devices poll measures, by commas")
	flag.BoolVar(&o.short, "short", false, "a smaller measurement, within a minute")
	flag.IntVar(&o.guarded, "guarded", registers, "of the twenty registers of a device, how many a rule is bound to")
	flag.BoolVar(&o.keep, "keep", false, "keep the working directory with configurations and logs")
	flag.Parse()
	ok, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if !ok {
		fmt.Println("\nsome rows fall short of their goal")
	}
}

// run measures everything and reports whether every goal was met.
func run(ctx context.Context, o options) (bool, error) {
	if err := o.complete(); err != nil {
		return false, err
	}
	bin, err := filepath.Abs(o.gatehouse)
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(bin); err != nil {
		return false, fmt.Errorf("%w: build it with make build, or name it with -gatehouse", err)
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return false, err
	}
	// Beside the results and not in /tmp, which may be memory: fsync is measured.
	dir, err := os.MkdirTemp(filepath.Dir(o.out), "run-")
	if err != nil {
		return false, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	if o.keep {
		fmt.Println("working directory:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	// The harness answers the polls that it times: its own collector must not
	// stand in the way more often than it has to.
	debug.SetGCPercent(400)
	b := &bench{bin: bin, dir: dir, size: o.size}
	if load, ok := busy(); ok {
		b.say("warning: load average %.1f on %d cores: the figures will be worse than the programs are", load, runtime.NumCPU())
	}
	var errs []error
	for i, part := range b.parts() {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), partNames[i]) {
			continue
		}
		if err := part(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", partNames[i], err))
		}
		if ctx.Err() != nil {
			return false, errors.Join(append(errs, ctx.Err())...)
		}
	}
	b.rows.print(os.Stdout)
	if err := b.rows.write(o.out); err != nil {
		errs = append(errs, err)
	}
	return b.rows.ok(), errors.Join(errs...)
}

// bench is one run of the harness.
type bench struct {
	bin  string
	dir  string
	size size
	rows table
}

// busy reports whether other programs keep the machine's cores.
func busy() (load float64, ok bool) {
	p, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, false
	}
	if _, err := fmt.Sscan(string(p), &load); err != nil {
		return 0, false
	}
	return load, load > float64(runtime.NumCPU())/2
}

// say tells the person who waits what is going on.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
