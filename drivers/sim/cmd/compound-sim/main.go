// Command compound-sim runs a simulated compound for demos and tests.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gatehouse/drivers/sim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "compound-sim:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "compound-sim", Short: "The devices of a compound on simulated lines, with a scenario",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(runCommand(), &cobra.Command{
		Use: "scenarios", Short: "List the built-in scenarios", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), strings.Join(sim.Names(), "\n"))
		},
	})
	return root
}

func runCommand() *cobra.Command {
	var (
		scenario    string
		listen, pty []string
		dial        []string
		opts        sim.Options
		asJSON      bool
		debug       bool
	)
	cmd := &cobra.Command{
		Use: "run", Short: "Run a scenario until SIGTERM", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if opts.Scenario, err = sim.Load(scenario); err != nil {
				return err
			}
			if opts.Listen, err = overrides(listen, opts.Scenario, func(l sim.Listener) bool { return l.TCP != nil }); err != nil {
				return err
			}
			if opts.PTY, err = overrides(pty, opts.Scenario, func(l sim.Listener) bool { return l.PTY != nil }); err != nil {
				return err
			}
			if opts.Dial, err = overrides(dial, opts.Scenario, func(l sim.Listener) bool { return l.Dial != nil }); err != nil {
				return err
			}
			level := slog.LevelWarn
			if debug {
				level = slog.LevelDebug
			}
			opts.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			return run(cmd.Context(), opts, newReporter(cmd.OutOrStdout(), asJSON))
		},
	}
	f := cmd.Flags()
	f.StringVar(&scenario, "scenario", "demo", "name of a built-in scenario, or path of a file")
	f.StringArrayVar(&listen, "listen", nil, "[listener=]host:port instead of the scenario's TCP address")
	f.StringArrayVar(&pty, "pty", nil, "[listener=]path of the link to the pseudo-terminal")
	f.StringArrayVar(&dial, "dial", nil, "[listener=]host:port that a serial server dials")
	f.Uint64Var(&opts.Seed, "seed", 1, "seed of the noise")
	f.Float64Var(&opts.Speed, "speed", 1, "seconds of the scenario per second")
	f.BoolVar(&opts.Loop, "loop", false, "begin the steps again after the scenario's period")
	f.BoolVar(&asJSON, "json", false, "print addresses and changes as lines of JSON")
	f.BoolVar(&debug, "debug", false, "log every refused or incomplete request")
	return cmd
}

// overrides reads [listener=]value; without a name the first listener of the
// kind is meant.
func overrides(args []string, sc *sim.Scenario, kind func(sim.Listener) bool) (map[string]string, error) {
	out := make(map[string]string)
	for _, arg := range args {
		name, value, named := strings.Cut(arg, "=")
		if !named {
			value = arg
			for _, l := range sc.Listeners {
				if kind(l) {
					name = l.Name
					break
				}
			}
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%q: listener %q is given twice", arg, name)
		}
		out[name] = value
	}
	return out, nil
}

func run(ctx context.Context, opts sim.Options, r *reporter) error {
	opts.OnChange = r.change
	s, err := sim.Start(opts)
	if err != nil {
		return err
	}
	r.ready(opts.Scenario.Name, s.Addresses())
	<-ctx.Done()
	return s.Close()
}

// reporter prints for a person, or for a program. A change may happen before
// the addresses are printed; it waits, so that they are the first line.
type reporter struct {
	w      io.Writer
	json   bool
	opened chan struct{}
}

func newReporter(w io.Writer, asJSON bool) *reporter {
	return &reporter{w: w, json: asJSON, opened: make(chan struct{})}
}

func (r *reporter) ready(scenario string, addresses []sim.Address) {
	defer close(r.opened)
	if r.json {
		r.encode(map[string]any{"scenario": scenario, "listeners": addresses})
		return
	}
	for _, a := range addresses {
		where := "answers at " + a.TCP
		switch {
		case a.PTY != "":
			where = strings.TrimSpace("answers at " + a.PTY + " " + a.Link)
		case a.Dial != "":
			where = "dials " + a.Dial
		case a.TCP == "":
			where = "dials nowhere: say where to with --dial"
		}
		fmt.Fprintf(r.w, "%s: %s %s\n", scenario, a.Name, where)
	}
}

func (r *reporter) change(c sim.Change) {
	<-r.opened
	if r.json {
		r.encode(map[string]any{"at": c.At.Seconds(), "unit": c.Unit, "note": c.Note, "change": c.String()})
		return
	}
	note := ""
	if c.Note != "" {
		note = "  (" + c.Note + ")"
	}
	fmt.Fprintf(r.w, "t+%-6s %-9s %s%s\n", fmt.Sprintf("%.1fs", c.At.Seconds()), c.Unit, c.String(), note)
}

func (r *reporter) encode(v any) {
	enc := json.NewEncoder(r.w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a closed stdout does not stop the compound
}
