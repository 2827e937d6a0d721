package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse/edge/internal/config"
)

// trial is a plan of one input module.
func trial(t *testing.T) config.Plan {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	text := `gateway: {id: gw-1, division: "530102001003"}
buses: [{id: b, link: "tcp://127.0.0.1:4001", framing: rtu}]
devices: [{id: di-1, place: p, bus: b, address: 1, profile: wellpro-wp8026}]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// What a driver refuses is no matter of time on the line: the gateway does not start.
func TestBudgetsTellsARefusalFromATightLine(t *testing.T) {
	plan := trial(t)
	if refused, tight := Budgets(plan, "g.yaml"); len(refused) > 0 || len(tight) > 0 {
		t.Errorf("refused %v, tight %v", refused, tight)
	}

	points := plan.Buses[0].Devices[0].Spec.Points
	points[0].At.Space, points[1].At.Space = "attic", "cellar"
	refused, tight := Budgets(plan, "g.yaml")
	if len(refused) != 2 || len(tight) > 0 || !strings.Contains(refused[0].What, "di-1/di1") || !strings.Contains(refused[1].What, "di-1/di2") ||
		refused[0].File != "g.yaml" || refused[0].Hint == "" {
		t.Errorf("refused %v, tight %v", refused, tight)
	}

	plan = trial(t)
	for i := range plan.Buses[0].Devices[0].Spec.Points {
		plan.Buses[0].Devices[0].Spec.Points[i].Every = 10e6 // 10 ms, on 9600 baud
	}
	if refused, tight := Budgets(plan, "g.yaml"); len(refused) > 0 || len(tight) != 1 || tight[0].Key != "buses.b" {
		t.Errorf("refused %v, tight %v", refused, tight)
	}
}
