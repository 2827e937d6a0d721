package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const (
	gatewayID = "gw-demo"
	division  = "530102001003"
	// startTimeout bounds the start of each program.
	startTimeout = 30 * time.Second
)

// change is a line compound-sim prints when its scenario does something.
type change struct {
	At     float64 `json:"at"`
	Note   string  `json:"note"`
	Change string  `json:"change"`
}

// stage holds the three programs and where they can be reached.
type stage struct {
	dir, bin   string
	running    []*exec.Cmd // in the order of their start
	began      time.Time   // of the scenario
	changes    chan change
	at         map[string]string // where each line of the compound is reached, by its name
	http, mqtt string
	metrics    string
	token      string
}

// start starts the compound, the cloud and, once it is enrolled, the gateway.
func (s *stage) start(ctx context.Context) error {
	if err := s.startCloud(ctx); err != nil {
		return err
	}
	secret, err := s.admin("gateway", "add", "--id", gatewayID, "--division", division)
	if err != nil {
		return err
	}
	if s.token, err = s.admin("token", "create", "--scope", division[:2], "--kinds", "*"); err != nil {
		return err
	}
	if err := s.startCompound(ctx); err != nil {
		return err
	}
	return s.startGateway(ctx, secret)
}

func (s *stage) startCloud(ctx context.Context) error {
	ready := regexp.MustCompile(`msg=ready http=(\S+) mqtt=(\S+)`)
	found, err := s.await(ctx, s.stderr("gatehouse-cloud", "run", "--data", s.cloudDir(), "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"), ready)
	if err != nil {
		return fmt.Errorf("start the cloud: %w", err)
	}
	s.http, s.mqtt = found[1], found[2]
	return nil
}

func (s *stage) startCompound(ctx context.Context) error {
	s.changes = make(chan change, 100)
	dtu, err := freePort()
	if err != nil {
		return fmt.Errorf("find a port for the DTU: %w", err)
	}
	lines, err := s.stdout("compound-sim", "run", "--scenario", "demo", "--json", "--dial", "pump="+dtu)
	if err != nil {
		return err
	}
	scan := bufio.NewScanner(lines)
	if !scan.Scan() {
		return errors.New("start the compound: it ended at once")
	}
	s.began = time.Now()
	var first struct {
		Listeners []struct{ Name, TCP, PTY, Dial string }
	}
	if err := json.Unmarshal(scan.Bytes(), &first); err != nil {
		return fmt.Errorf("start the compound: %w", err)
	}
	s.at = make(map[string]string)
	for _, l := range first.Listeners {
		s.at[l.Name] = l.TCP + l.PTY + l.Dial // one of them is given
	}
	go s.relay(ctx, scan)
	return nil
}

// freePort returns an address of this machine on which nobody listens. The
// gateway will, for the DTU that dials in.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// relay passes on what happens for the first time; a ramp is many changes.
func (s *stage) relay(ctx context.Context, scan *bufio.Scanner) {
	told := map[string]bool{}
	for scan.Scan() {
		var c change
		if json.Unmarshal(scan.Bytes(), &c) != nil || c.Note == "" || told[c.Note] {
			continue
		}
		told[c.Note] = true
		select {
		case s.changes <- c:
		case <-ctx.Done():
		}
	}
}

func (s *stage) startGateway(ctx context.Context, secret string) error {
	store := filepath.Join(s.dir, "edge")
	if err := os.Mkdir(store, 0o700); err != nil {
		return err
	}
	if err := s.writeConfig(store, secret); err != nil {
		return err
	}
	served := regexp.MustCompile(`metrics and health are served" addr=(\S+)`)
	found, err := s.await(ctx, s.stderr("gatehouse", "run", "--config", filepath.Join(s.dir, "gateway.yaml")), served)
	if err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	s.metrics = found[1]
	return nil
}

func (s *stage) cloudDir() string { return filepath.Join(s.dir, "cloud") }

// admin runs a command on the running cloud and returns the one line it prints.
func (s *stage) admin(args ...string) (string, error) {
	out, err := exec.Command(filepath.Join(s.bin, "gatehouse-cloud"), append(args, "--data", s.cloudDir())...).Output()
	if err != nil {
		return "", fmt.Errorf("gatehouse-cloud %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// stdout and stderr start a program and return what it prints there.
func (s *stage) stdout(program string, args ...string) (io.Reader, error) {
	return s.launch(program, args, (*exec.Cmd).StdoutPipe)
}

func (s *stage) stderr(program string, args ...string) func() (io.Reader, error) {
	return func() (io.Reader, error) { return s.launch(program, args, (*exec.Cmd).StderrPipe) }
}

func (s *stage) launch(program string, args []string, pipe func(*exec.Cmd) (io.ReadCloser, error)) (io.Reader, error) {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us; we stop them in order
	r, err := pipe(cmd)
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.running = append(s.running, cmd)
	return r, nil
}

// await starts a program and returns the first line of its log that matches,
// then goes on reading, so that the program never waits for a reader.
func (s *stage) await(ctx context.Context, launch func() (io.Reader, error), want *regexp.Regexp) ([]string, error) {
	r, err := launch()
	if err != nil {
		return nil, err
	}
	found := make(chan []string, 1)
	said := make(chan string, 1)
	go func() {
		var log strings.Builder
		for scan := bufio.NewScanner(r); scan.Scan(); {
			if m := want.FindStringSubmatch(scan.Text()); m != nil {
				found <- m
				_, _ = io.Copy(io.Discard, r)
				return
			}
			fmt.Fprintln(&log, scan.Text())
		}
		said <- log.String()
	}()
	select {
	case m := <-found:
		return m, nil
	case log := <-said:
		return nil, fmt.Errorf("it ended at once:\n%s", log)
	case <-time.After(startTimeout):
		return nil, errors.New("it does not get ready")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stop ends the programs, the latest first.
func (s *stage) stop() {
	for i := len(s.running) - 1; i >= 0; i-- {
		cmd := s.running[i]
		_ = cmd.Process.Signal(syscall.SIGTERM)
		patience := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		patience.Stop()
	}
}
