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
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	gatehouse string
	out       string
	only      string
	short     bool
	guarded   int
	keep      bool
	size      size
}

// size is how much is measured.
type size struct {
	Connections int // each with ten unit ids of twenty registers
	Guarded     int // registers of each device that a rule is bound to
	Rounds      int // of daemon and reference, alternating
	Warmup      time.Duration
	Window      time.Duration
	Alarms      int // samples of the alarm path
	Restarts    int
}

func (o *options) fill() {
	o.size = size{Connections: 50, Guarded: o.guarded, Rounds: 2, Warmup: 10 * time.Second, Window: 30 * time.Second, Alarms: 200, Restarts: 5}
	if o.short {
		o.size = size{Connections: 50, Guarded: o.guarded, Rounds: 1, Warmup: 3 * time.Second, Window: 6 * time.Second, Alarms: 100, Restarts: 2}
	}
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
	flag.StringVar(&o.only, "only", "", "measure one of: poll, alarm, restart")
	flag.BoolVar(&o.short, "short", false, "a smaller measurement, within a minute")
	flag.IntVar(&o.guarded, "guarded", registers, "of the twenty registers of a device, how many a rule is bound to")
	flag.BoolVar(&o.keep, "keep", false, "keep the working directory with configurations and logs")
	flag.Parse()
	o.fill()
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
	b := &bench{bin: bin, dir: dir, size: o.size}
	if load, ok := busy(); ok {
		b.say("warning: load average %.1f on %d cores: the figures will be worse than the programs are", load, runtime.NumCPU())
	}
	var errs []error
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"poll", b.poll}, {"alarm", b.alarm}, {"restart", b.restart}} {
		if o.only != "" && o.only != part.name {
			continue
		}
		if err := part.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part.name, err))
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
