package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse/edge/app"
	"gatehouse/edge/internal/config"
)

// finding is one line of check --json.
type finding struct {
	Severity string `json:"severity"` // error or warning
	File     string `json:"file"`
	Line     int    `json:"line"`
	Col      int    `json:"col"`
	Key      string `json:"key"`
	What     string `json:"what"`
	Hint     string `json:"hint,omitempty"`
}

func checkCommand(s Streams) *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check --config gateway.yaml",
		Short: "say everything that is wrong with a configuration; exit 1 if anything is",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			plan, err := config.Load(path)
			problems, err := judge(&plan, err, func(plan config.Plan) (refused, tight []config.Problem) { return app.Budgets(plan, path) })
			if err != nil {
				return err
			}
			if asJSON {
				return printFindings(s, problems, plan.Warnings)
			}
			for _, p := range problems {
				fmt.Fprintln(s.Out, p.String())
			}
			for _, p := range plan.Warnings {
				fmt.Fprintln(s.Out, "warning:", p.String())
			}
			if len(problems) > 0 {
				return errFound
			}
			fmt.Fprintf(s.Out, "%s: ok: %d buses, %d devices, %d points, %d rules\n",
				path, len(plan.Buses), len(plan.Config.Devices), len(plan.Points), len(plan.Rules))
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

// judge returns what keeps the gateway from starting: what loading the plan found
// and, if that was nothing, what its drivers refuse on trial. What only slows it
// joins the warnings of the plan.
func judge(plan *config.Plan, loading error, trial func(config.Plan) (refused, tight []config.Problem)) (config.Errors, error) {
	var problems config.Errors
	switch {
	case errors.As(loading, &problems):
		return problems, nil
	case loading != nil:
		return nil, loading
	}
	refused, tight := trial(*plan)
	plan.Warnings = append(plan.Warnings, tight...)
	return refused, nil
}

func printFindings(s Streams, problems, warnings []config.Problem) error {
	list := []finding{}
	add := func(severity string, ps []config.Problem) {
		for _, p := range ps {
			list = append(list, finding{severity, p.File, p.Line, p.Col, p.Key, p.What, p.Hint})
		}
	}
	add("error", problems)
	add("warning", warnings)
	if err := json.NewEncoder(s.Out).Encode(list); err != nil {
		return err
	}
	if len(problems) > 0 {
		return errFound
	}
	return nil
}
