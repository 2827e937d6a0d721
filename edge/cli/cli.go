// Package cli holds the commands of gatehouse, one file each.
//
// It guarantees: results go to standard output and everything else to standard
// error; exit status 0 is success, 1 a finding or failure, 2 a wrong command
// line; every listing has --json.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Streams are where a command writes.
type Streams struct {
	Out io.Writer
	Err io.Writer
}

// errFound ends a command that has already printed why it fails.
var errFound = errors.New("findings were printed")

// usageError marks a wrong command line.
type usageError struct{ error }

// Execute runs one command line and returns the exit status.
func Execute(ctx context.Context, args []string, s Streams) int {
	root := &cobra.Command{
		Use:           "gatehouse",
		Short:         "the gateway of a residential compound",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		Args:          noArgs,
		RunE:          needsSubcommand,
	}
	root.SetArgs(args)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().String("lang", "", "language of what people read: zh or en (default: from LANG, else zh)")
	root.AddCommand(runCommand(s), checkCommand(s), alarmsCommand(s), pointsCommand(s), busesCommand(s),
		traceCommand(s), commandCommand(s), versionCommand(s))
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(s.Err, "gatehouse: %v\nSee: gatehouse --help\n", err)
		return 2
	}
	fmt.Fprintf(s.Err, "gatehouse: %v\n", err)
	return 1
}

// noArgs and needsSubcommand make a wrong command line of what cobra lets pass.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no argument %q", cmd.CommandPath(), args[0])}
	}
	return nil
}

func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command %q of %s", args[0], cmd.CommandPath())}
	}
	return usageError{fmt.Errorf("%s needs a command", cmd.CommandPath())}
}

// version is the module's version and revision as the build recorded them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += " " + s.Value[:12]
		}
	}
	return v
}

func versionCommand(s Streams) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: noArgs, Run: func(*cobra.Command, []string) {
		fmt.Fprintln(s.Out, "gatehouse", version())
	}}
}
