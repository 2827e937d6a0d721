// Command demo runs a simulated compound, a gateway and a cloud on this
// machine and shows alarms as a platform pulls them. It ends on Ctrl-C, or
// after DEMO_SECONDS; then its exit status is 0 only if the scripted gas alarm
// came out of the cloud.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, os.Getenv("DEMO_SECONDS")); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// errNoAlarm occurs when the time is over and the gas alarm did not come.
var errNoAlarm = errors.New("the scripted gas alarm did not come out of GET /v1/events")

func demo(ctx context.Context, seconds string) error {
	if seconds != "" {
		n, err := strconv.ParseFloat(seconds, 64)
		if err != nil || n <= 0 {
			return fmt.Errorf("DEMO_SECONDS=%q: want a number of seconds above 0", seconds)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(n*float64(time.Second)))
		defer cancel()
	}
	dir, err := os.MkdirTemp("", "gatehouse-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &stage{dir: dir, bin: "bin"}
	defer s.stop()
	if err := s.start(ctx); err != nil {
		return err
	}
	s.introduce()
	p := newPlatform(s)
	watch(ctx, s, p)
	p.summary()
	switch {
	case p.raised[gasRule]:
		return nil
	case seconds == "":
		return nil // stopped by hand before its time
	}
	return errNoAlarm
}

// watch prints what happens until ctx ends.
func watch(ctx context.Context, s *stage, p *platform) {
	events := make(chan event)
	go func() {
		defer close(events)
		p.pull(ctx, events)
	}()
	for events != nil {
		select {
		case c := <-s.changes:
			s.say("compound", "%s (%s)", c.Note, c.Change)
		case e, open := <-events:
			if !open {
				events = nil
				continue
			}
			p.show(e)
		}
	}
}

// say prints one line under the time since the scenario began.
func (s *stage) say(who, format string, args ...any) {
	fmt.Printf("%6.1f s  %-9s %s\n", time.Since(s.began).Seconds(), who, fmt.Sprintf(format, args...))
}

// introduce says what runs where.
func (s *stage) introduce() {
	socket := filepath.Join(s.dir, "edge", "control.sock")
	fmt.Printf(`Gatehouse: one compound, one gateway and one cloud on this machine.

  compound  Modbus TCP %s, Modbus RTU %s, a DTU that dials %s,
            a door reader %s, a meter %s, a gas module %s
  gateway   http://%s/metrics
  cloud     http://%s/v1/events, MQTT %s
  token     %s

Look for yourself, in another terminal:
  curl -H 'Authorization: Bearer %s' 'http://%s/v1/events?kind=alarm'
  bin/gatehouse alarms list --socket %s
  bin/gatehouse points --socket %s

`, s.at["plant"], s.at["meters"], s.at["pump"], s.at["door"], s.at["power"], s.at["boiler"], s.metrics, s.http, s.mqtt, s.token, s.token, s.http, socket, socket)
	fmt.Println("What happens: \"compound\" is the script, \"platform\" what a city's platform has pulled from the cloud.")
}
