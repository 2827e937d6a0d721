package cli

import (
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/cloud/app"
	"gatehouse/cloud/internal/control"
)

// adminFlags are shared by all commands on the fleet.
type adminFlags struct {
	data string
	json bool
}

func (a *adminFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.data, "data", defaultData, "data directory of the service, running or not")
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

// with opens the fleet for the time of do.
func (a *adminFlags) with(cmd *cobra.Command, do func(control.Admin) error) error {
	admin, done, err := app.OpenAdmin(cmd.Context(), a.data, newLogger(cmd.ErrOrStderr(), slog.LevelWarn))
	if err != nil {
		return err
	}
	defer done()
	return do(admin)
}

func newGateway() *cobra.Command {
	cmd := &cobra.Command{Use: "gateway", Short: "Manage gateways"}
	cmd.AddCommand(newGatewayAdd(), newGatewayList())
	return cmd
}

func newGatewayAdd() *cobra.Command {
	var flags adminFlags
	var id, division string
	cmd := &cobra.Command{
		Use:     "add",
		Short:   "Register a gateway and print its secret, once",
		Example: "  gatehouse-cloud gateway add --id gw-0001 --division 530102001003 > secret",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd, func(admin control.Admin) error {
				secret, err := admin.AddGateway(cmd.Context(), id, division)
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd, control.SecretGateway{NewGateway: control.NewGateway{ID: id, Division: division}, Secret: secret})
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), secret)
				return err
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&id, "id", "", "gateway id: letters, digits, '_' and '-'")
	cmd.Flags().StringVar(&division, "division", "", "12-digit division code")
	mustRequire(cmd, "id", "division")
	return cmd
}

func newGatewayList() *cobra.Command {
	var flags adminFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List gateways",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd, func(admin control.Admin) error {
				list, err := admin.Gateways(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd, list)
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tDIVISION\tCREATED\tLAST SEEN")
				for _, g := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.ID, g.Division, local(g.Created, "-"), local(g.LastSeen, "never"))
				}
				return w.Flush()
			})
		},
	}
	flags.add(cmd)
	return cmd
}

func newToken() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Manage tokens of the pull API"}
	cmd.AddCommand(newTokenCreate(), newTokenList())
	return cmd
}

func newTokenCreate() *cobra.Command {
	var flags adminFlags
	var scope, expires string
	var kinds []string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it, once",
		Example: `  gatehouse-cloud token create --scope 530102 --kinds alarm,gateway
  gatehouse-cloud token create --scope 53 --kinds '*' --expires 2160h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			until, err := parseExpiry(expires, time.Now())
			if err != nil {
				return err
			}
			return flags.with(cmd, func(admin control.Admin) error {
				t, bearer, err := admin.CreateToken(cmd.Context(), scope, kinds, until)
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd, control.SecretToken{Token: t, Bearer: bearer})
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), bearer)
				return err
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&scope, "scope", "", "division prefix it may read: 2, 4, 6, 9 or 12 digits")
	cmd.Flags().StringSliceVar(&kinds, "kinds", nil, "kinds or prefixes of kinds it may read, or *")
	cmd.Flags().StringVar(&expires, "expires", "", "when it ends: a duration (2160h) or a time (RFC 3339); never if absent")
	mustRequire(cmd, "scope", "kinds")
	return cmd
}

func newTokenList() *cobra.Command {
	var flags adminFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tokens, without what their bearers show",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd, func(admin control.Admin) error {
				list, err := admin.Tokens(cmd.Context())
				if err != nil {
					return err
				}
				if flags.json {
					return printJSON(cmd, list)
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tSCOPE\tKINDS\tCREATED\tEXPIRES")
				for _, t := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.ID, t.Scope, strings.Join(t.Kinds, ","), local(t.Created, "-"), local(t.Expires, "never"))
				}
				return w.Flush()
			})
		},
	}
	flags.add(cmd)
	return cmd
}

// parseExpiry reads a duration from now or a time; empty is the zero time.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("--expires %q: want a duration as in 2160h or a time as in 2027-01-01T00:00:00+08:00", s)
	}
	return t, nil
}

func local(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.Local().Format(time.RFC3339)
}

// mustRequire marks flags that exist by construction.
func mustRequire(cmd *cobra.Command, names ...string) {
	for _, n := range names {
		if err := cmd.MarkFlagRequired(n); err != nil {
			panic(err) // a flag's name is misspelt in this package
		}
	}
}
