package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gatehouse/edge/internal/web"
)

func busesCommand(s Streams) *cobra.Command {
	var r reach
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "buses",
		Short: "list the links, whether they are up, and how much of their time the poll plan needs",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var buses []web.BusView
			if _, err := r.ask(cmd.Context(), "GET", "/v1/buses", nil, &buses); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(s.Out).Encode(buses)
			}
			w := wordsFor(cmd)
			tw := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
			for _, b := range buses {
				fmt.Fprintf(tw, "%s\t%s\t%3.0f %%\t%s\n", b.ID, w.link[b.Up], 100*b.Budget, b.Link)
			}
			if err := tw.Flush(); err != nil {
				return err
			}
			for _, b := range buses {
				if b.Warning != "" {
					fmt.Fprintf(s.Out, "%s: %s: %s\n", b.ID, b.Warning, b.Hint)
				}
			}
			return nil
		},
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func traceCommand(s Streams) *cobra.Command {
	var r reach
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "trace BUS",
		Short: "show the frames of one bus as they go by, until interrupted",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("trace takes one bus: see gatehouse buses")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return follow(cmd.Context(), s, &r, args[0], asJSON) },
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

// follow prints frames as they come, and says how many it missed.
func follow(ctx context.Context, s Streams, r *reach, bus string, asJSON bool) error {
	for last := uint64(0); ; {
		var frames []web.FrameView
		_, err := r.ask(ctx, "GET", fmt.Sprintf("/v1/buses/%s/trace?after=%d", url.PathEscape(bus), last), nil, &frames)
		switch {
		case ctx.Err() != nil:
			return nil // interrupted: the way a trace ends
		case err != nil:
			return err
		}
		for _, f := range frames {
			if last > 0 && f.Seq > last+1 {
				fmt.Fprintf(s.Err, "%d frames were too fast to show\n", f.Seq-last-1)
			}
			last = f.Seq
			if err := printFrame(s, f, asJSON); err != nil {
				return err
			}
		}
	}
}

func printFrame(s Streams, f web.FrameView, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(s.Out).Encode(f)
	}
	var line strings.Builder
	fmt.Fprintf(&line, "%s %s %s", f.At.Local().Format("15:04:05.000"), f.Dir, f.Device)
	for i := 0; i+1 < len(f.Bytes); i += 2 {
		line.WriteString(" " + f.Bytes[i:i+2])
	}
	if f.Hidden > 0 {
		fmt.Fprintf(&line, " +%d bytes", f.Hidden)
	}
	if f.Note != "" {
		line.WriteString("  " + f.Note)
	}
	_, err := fmt.Fprintln(s.Out, line.String())
	return err
}

func commandCommand(s Streams) *cobra.Command {
	var r reach
	var by string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "command DEVICE [NAME]",
		Short: "order something of a device that is put on record, such as closing a breaker or installing a door reader; without NAME, list what can be ordered",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{errors.New("command takes a device and the name of a command")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/devices/" + url.PathEscape(args[0]) + "/commands"
			if len(args) == 1 {
				return listCommands(cmd.Context(), s, &r, path, asJSON)
			}
			if !yes && !confirmed(s, wordsFor(cmd), args[0], args[1]) {
				return errors.New("not confirmed, nothing was sent: confirm on a terminal, or with --yes")
			}
			var done web.CommandView
			_, err := r.ask(cmd.Context(), "POST", path+"/"+url.PathEscape(args[1]), web.CommandRequest{Actor: by}, &done)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(s.Out).Encode(done)
			}
			outcome := wordsFor(cmd).done
			if done.Note != "" {
				outcome = done.Note
			}
			fmt.Fprintf(s.Out, "%s %s: %s\n", done.Device, done.Command, outcome)
			return nil
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&by, "by", loginName(), "who orders it")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listCommands(ctx context.Context, s Streams, r *reach, path string, asJSON bool) error {
	var names []string
	if _, err := r.ask(ctx, "GET", path, nil, &names); err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(s.Out).Encode(names)
	}
	for _, n := range names {
		fmt.Fprintln(s.Out, n)
	}
	return nil
}

// confirmed asks the person at the terminal to type the device's id: what is
// switched cannot be taken back.
func confirmed(s Streams, w words, device, name string) bool {
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err != nil {
		return false // nobody is asked through a pipe
	}
	fmt.Fprintf(s.Err, w.confirm, device, name, device)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	return err == nil && strings.TrimSpace(answer) == device
}
