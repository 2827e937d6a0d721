// Package cli is the command line of gatehouse-cloud.
package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// defaultData is where a packaged service keeps its data.
const defaultData = "/var/lib/gatehouse-cloud"

// New returns the root command.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:           "gatehouse-cloud",
		Short:         "The service gateways report to and platforms pull from",
		SilenceUsage:  true,
		SilenceErrors: true, // main prints the error
	}
	root.AddCommand(newRun(), newGateway(), newToken(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "gatehouse-cloud", version())
			return err
		},
	}
}

// version returns the module's version or, in a build from a tree, its commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version + " " + info.GoVersion
}

func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
