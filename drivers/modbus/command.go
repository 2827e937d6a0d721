package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/drivers"
)

// command is what a person may order: frames in their order.
type command struct {
	name  string
	steps []step
}

// step is one frame and the time the device needs behind it.
type step struct {
	tx    []byte
	what  string
	pause time.Duration
}

// commands builds the frames of every command.
func (p *planner) commands() error {
	for _, c := range p.spec.Commands {
		built := command{name: c.Name}
		for _, s := range c.Steps {
			tx, err := p.writes(s.At, s.Value, s.Multiple)
			if err != nil {
				return fmt.Errorf("command %s: %w", c.Name, err)
			}
			what := fmt.Sprintf("0x%04X to %s %d", s.Value, s.At.Space, s.At.Address)
			built.steps = append(built.steps, step{tx: tx, what: what, pause: s.Pause})
		}
		p.d.commands = append(p.d.commands, built)
	}
	return nil
}

// Commands returns the names of what a person may order.
func (d *Driver) Commands() []string {
	var names []string
	for _, c := range d.commands {
		names = append(names, c.name)
	}
	return names
}

// Command sends the steps of a command in order and waits behind each as long
// as it says. It stops at the first that the device does not confirm, and
// repeats none: a step that got no answer may have been done. The error says how
// far it came.
func (d *Driver) Command(ctx context.Context, name string) error {
	i := slices.IndexFunc(d.commands, func(c command) bool { return c.name == name })
	if i < 0 {
		return fmt.Errorf("modbus: no command %q", name)
	}
	steps := d.commands[i].steps
	for n, s := range steps {
		progress := fmt.Sprintf("step %d of %d (%s)", n+1, len(steps), s.what)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped before %s: %w; %d done", progress, err, n)
		}
		if _, err := d.exchange(ctx, s.tx); err != nil {
			doubt := ""
			if !errors.Is(err, drivers.ErrRefused) {
				doubt = ", and this one perhaps"
			}
			return fmt.Errorf("%s: %w; %d done%s", progress, err, n, doubt)
		}
		pause(ctx, s.pause)
	}
	return nil
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
