package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gatehouse/edge/internal/web"
)

func alarmsCommand(s Streams) *cobra.Command {
	var r reach
	cmd := &cobra.Command{Use: "alarms", Short: "see and answer the alarms of the running gateway", RunE: needsSubcommand}
	r.flags(cmd)
	cmd.AddCommand(alarmsList(s, &r), alarmsAck(s, &r))
	return cmd
}

func alarmsList(s Streams, r *reach) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the open alarms, the most urgent first",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var alarms []web.AlarmView
			if _, err := r.ask(cmd.Context(), "GET", "/v1/alarms", nil, &alarms); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(s.Out).Encode(alarms)
			}
			return printAlarms(s, alarms, wordsFor(cmd))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func printAlarms(s Streams, alarms []web.AlarmView, w words) error {
	if len(alarms) == 0 {
		fmt.Fprintln(s.Out, w.noAlarms)
		return nil
	}
	for _, a := range alarms {
		fmt.Fprintf(s.Out, "%s  %s  %s\n", a.Priority, w.title(a), w.status[a.Status])
		fmt.Fprintf(s.Out, "    %s %s  %s", a.Place, a.Name, a.Point)
		if a.Unit != "" && a.Value != "-" {
			fmt.Fprintf(s.Out, "  %s %s", a.Value, a.Unit)
		}
		fmt.Fprintf(s.Out, "\n    %s %s", w.since, a.Raised.Local().Format("2006-01-02 15:04:05"))
		if a.AckedBy != "" {
			fmt.Fprintf(s.Out, "  %s %s", w.ackedBy, a.AckedBy)
		}
		if a.Remark != "" {
			fmt.Fprintf(s.Out, "\n    %s", a.Remark)
		}
		fmt.Fprintf(s.Out, "\n    %s\n", a.ID)
	}
	return nil
}

func alarmsAck(s Streams, r *reach) *cobra.Command {
	var by string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ack ID",
		Short: "say that you have taken note of an alarm",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usageError{fmt.Errorf("alarms ack takes one alarm id: see gatehouse alarms list")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var a web.AlarmView
			accepted, err := r.ask(cmd.Context(), "POST", "/v1/alarms/"+url.PathEscape(args[0])+"/ack", web.AckRequest{Actor: by}, &a)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(s.Out).Encode(a)
			}
			w := wordsFor(cmd)
			fmt.Fprintf(s.Out, "%s  %s  %s: %s\n", a.Priority, w.title(a), w.ackedBy, a.AckedBy)
			if accepted {
				fmt.Fprintln(s.Err, w.notStored)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&by, "by", loginName(), "who answers")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the alarm as JSON")
	return cmd
}

// loginName is who an acknowledgement comes from unless told otherwise.
func loginName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

func pointsCommand(s Streams) *cobra.Command {
	var r reach
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "points",
		Short: "list every point's latest reading and its quality",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var points []web.PointView
			if _, err := r.ask(cmd.Context(), "GET", "/v1/points", nil, &points); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(s.Out).Encode(points)
			}
			tw := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
			for _, p := range points {
				at := p.At.Local().Format("15:04:05")
				if p.Value == "-" && p.LastGood == nil {
					at = "-" // never read
				}
				fmt.Fprintf(tw, "%s\t%s %s\t%s\t%s\n", p.Point, p.Value, p.Unit, p.Quality, at)
			}
			return tw.Flush()
		},
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}
