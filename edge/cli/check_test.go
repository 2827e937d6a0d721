package cli

import (
	"errors"
	"testing"

	"gatehouse/edge/internal/config"
)

// What a driver refuses when it is built is as wrong as what loading finds: a
// config that check calls ok is one that the gateway starts with.
func TestCheckFailsOnWhatTheGatewayWouldNotStartWith(t *testing.T) {
	refusal, slow := config.Problem{Key: "devices", What: "refused"}, config.Problem{Key: "buses.b", What: "tight"}
	trial := func(config.Plan) (refused, tight []config.Problem) {
		return []config.Problem{refusal}, []config.Problem{slow}
	}
	plan := config.Plan{}
	problems, err := judge(&plan, nil, trial)
	if err != nil || len(problems) != 1 || problems[0] != refusal {
		t.Errorf("problems %v, %v", problems, err)
	}
	if len(plan.Warnings) != 1 || plan.Warnings[0] != slow {
		t.Errorf("warnings %v", plan.Warnings)
	}

	found := config.Errors{{Key: "buses", What: "wrong"}}
	if problems, err := judge(&plan, found, nil); err != nil || len(problems) != 1 || problems[0] != found[0] {
		t.Errorf("problems %v, %v", problems, err)
	}
	lost := errors.New("no such file")
	if _, err := judge(&plan, lost, nil); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
}
