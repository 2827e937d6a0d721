package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"gatehouse/edge/app"
	"gatehouse/edge/internal/config"
)

func runCommand(s Streams) *cobra.Command {
	var path, format string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "run --config gateway.yaml",
		Short: "run the gateway until it is told to stop",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := newLogWriter(s.Err)
			defer out.Close()
			log, err := logger(out, format, verbose)
			if err != nil {
				return err
			}
			err = app.Run(cmd.Context(), app.Options{ConfigPath: path, Version: version(), Log: log})
			return printProblems(s, err)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "/etc/gatehouse/gateway.yaml", "the gateway's configuration")
}

func logger(to io.Writer, format string, verbose bool) (*slog.Logger, error) {
	o := &slog.HandlerOptions{}
	if verbose {
		o.Level = slog.LevelDebug
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(to, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, o)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %q: want text or json", format)}
}

// printProblems prints what is wrong with a configuration, a line each.
func printProblems(s Streams, err error) error {
	var problems config.Errors
	if !errors.As(err, &problems) {
		return err
	}
	for _, p := range problems {
		fmt.Fprintln(s.Err, p.String())
	}
	return errFound
}
