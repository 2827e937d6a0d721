package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child of the harness. It is killed with the harness.
type process struct {
	cmd  *exec.Cmd
	log  string // file that holds what it printed
	done chan struct{}
	err  error // why it ended; valid once done is closed
}

// stopPatience is how long a child may take to end after SIGTERM.
const stopPatience = 10 * time.Second

// start runs a program with its output in dir/name.log, appending.
func start(dir, name, bin string, args ...string) (*process, error) {
	log := filepath.Join(dir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(bin, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop asks the child to end, insists if it does not, and waits.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(stopPatience):
		p.kill()
	}
}

// kill ends the child at once, as a power cut would, and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// failed returns why a child that should be running is not.
func (p *process) failed() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %v; its last words:\n%s", filepath.Base(p.cmd.Path), p.err, tail(p.log))
	default:
		return nil
	}
}

func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(len(lines)-10, 0):], "\n")
}

// clockTick is USER_HZ, which Linux fixes at 100 for user space.
const clockTick = 10 * time.Millisecond

// cpu is the user and system time the child has used (proc_pid_stat(5)).
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field may hold blanks and parentheses; fields 14 and 15 are
	// the 12th and 13th after it.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("short /proc/PID/stat")
	}
	ticks := int64(0)
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// memory is what the child holds, in MB of 10⁶ bytes.
type memory struct {
	Own float64 // RssAnon + RssShmem: what nobody else can give back
	RSS float64 // VmRSS: with the mapped store file and the program text
}

func (p *process) memory() (memory, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return memory{}, err
	}
	defer f.Close()
	kb := make(map[string]float64)
	for s := bufio.NewScanner(f); s.Scan(); {
		key, rest, _ := strings.Cut(s.Text(), ":")
		if n, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB"); ok {
			kb[key], _ = strconv.ParseFloat(n, 64)
		}
	}
	if kb["RssAnon"] == 0 {
		return memory{}, errors.New("no RssAnon in /proc/PID/status")
	}
	const mb = 1024.0 / 1e6
	return memory{Own: (kb["RssAnon"] + kb["RssShmem"]) * mb, RSS: kb["VmRSS"] * mb}, nil
}

// sleep waits for d, for the end of ctx, or for the death of any child.
func sleep(ctx context.Context, d time.Duration, children ...*process) error {
	deadline := time.Now().Add(d)
	return until(ctx, d+time.Second, "time to pass", func() bool { return !time.Now().Before(deadline) }, children...)
}

// until waits for ok to hold, at most for limit.
func until(ctx context.Context, limit time.Duration, what string, ok func() bool, children ...*process) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !ok() {
		for _, c := range children {
			if err := c.failed(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("waited %s in vain for %s", limit, what)
		case <-tick.C:
		}
	}
	return nil
}
