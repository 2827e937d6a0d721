package rule

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"gatehouse/protocol/point"
)

// latest is a Lookup of fixed readings.
type latest map[point.ID]point.Reading

func (l latest) Latest(p point.ID) (point.Reading, bool) {
	r, ok := l[p]
	return r, ok
}

const (
	gasID   point.ID = "det-1/gas"
	doorID  point.ID = "di-1/di1"
	stateID point.ID = "det-1/state"
)

func points() map[point.ID]*PointInfo {
	return map[point.ID]*PointInfo{
		gasID:   {ID: gasID, Role: "gas", Unit: point.PercentLEL, Kind: point.Number},
		doorID:  {ID: doorID, Role: "gas_alarm", Kind: point.Bool},
		stateID: {ID: stateID, Role: "detector_state", Kind: point.State, AlarmStates: []string{"low_alarm", "high_alarm"}},
	}
}

// one binds a single def that must fit exactly one point.
func one(t *testing.T, def Def) Bound {
	t.Helper()
	if def.ID == "" {
		def.ID = "r"
	}
	def.Priority, def.Title = "P1", "t"
	bound, errs := Bind([]Def{def}, points())
	if len(errs) > 0 || len(bound) != 1 {
		t.Fatalf("Bind = %d rules, %v", len(bound), errs)
	}
	return bound[0]
}

func good(v point.Value) point.Reading { return point.Reading{Value: v, Quality: point.Good} }

func TestVerdicts(t *testing.T) {
	gas := Def{Role: "gas", Unit: point.PercentLEL, When: "value >= 25", Clear: "value < 20"}
	states := Def{Role: "detector_state", When: "state in [fault, lost]", Clear: "state in [normal]"}
	named := func(s string) point.Value { return point.Value{Kind: point.State, Text: s} }
	for _, c := range []struct {
		name string
		def  Def
		in   point.Reading
		want Verdict
	}{
		{"at the limit fires", gas, good(point.Float(25)), Firing},
		{"between the limits holds", gas, good(point.Float(22)), Hold},
		{"below the clearing limit is normal", gas, good(point.Float(19.9)), Normal},
		{"saturated fires", gas, good(point.Float(1e9)), Firing},
		{"stale is unknown however high", gas, point.Reading{Value: point.Float(99), Quality: point.Stale}, Unknown},
		{"faulty is unknown however low", gas, point.Reading{Value: point.Float(0), Quality: point.Fault}, Unknown},
		{"a number where none is expected is unknown", gas, good(point.Truth(true)), Unknown},
		{"without a clear, not firing is normal", Def{Role: "gas", Unit: point.PercentLEL, When: "value < 5"}, good(point.Float(5)), Normal},
		{"active contact fires", Def{Role: "gas_alarm", When: "active"}, good(point.Truth(true)), Firing},
		{"inactive contact is normal", Def{Role: "gas_alarm", When: "active"}, good(point.Truth(false)), Normal},
		{"inactive can be the danger", Def{Role: "gas_alarm", When: "inactive"}, good(point.Truth(false)), Firing},
		{"the device's own alarm state fires", Def{Role: "detector_state", When: "alarm_state"}, good(named("high_alarm")), Firing},
		{"another state is normal", Def{Role: "detector_state", When: "alarm_state"}, good(named("normal")), Normal},
		{"a warming-up state is unknown", Def{Role: "detector_state", When: "alarm_state"}, point.Reading{Value: named("warming_up")}, Unknown},
		{"a named state fires", states, good(named("lost")), Firing},
		{"a state that neither raises nor clears holds", states, good(named("low_alarm")), Hold},
		{"the clearing state is normal", states, good(named("normal")), Normal},
		{"silence fires no_data", Def{Role: "gas", Unit: point.PercentLEL, When: "no_data"}, point.Reading{Quality: point.Stale}, Firing},
		{"a fault fires no_data", Def{Role: "gas", Unit: point.PercentLEL, When: "no_data"}, point.Reading{Quality: point.Fault}, Firing},
		{"warming up is no verdict on data", Def{Role: "gas", Unit: point.PercentLEL, When: "no_data"}, point.Reading{}, Unknown},
		{"good data is normal", Def{Role: "gas", Unit: point.PercentLEL, When: "no_data"}, good(point.Float(1)), Normal},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := one(t, c.def)
			c.in.Point = b.Rule.Points(b.Point.ID)[0]
			if got := b.Rule.Eval(time.Time{}, b.Point.ID, latest{c.in.Point: c.in}); got != c.want {
				t.Errorf("verdict = %v, want %v", got, c.want)
			}
			if got := b.Rule.Eval(time.Time{}, b.Point.ID, latest{}); got != Unknown {
				t.Errorf("verdict without any reading = %v, want unknown", got)
			}
		})
	}
}

func TestBindNamesEveryFault(t *testing.T) {
	for _, c := range []struct {
		def       Def
		key, what string
	}{
		{Def{ID: "a b", Role: "gas"}, "id", "no rule id"},
		{Def{Role: "gass", When: "value > 1"}, "role", "unknown role"},
		{Def{When: "value > 1"}, "role", "missing"},
		{Def{Role: "gas", Safety: true, When: "no_data"}, "safety", "role and to every"},
		{Def{Role: "siren", When: "active"}, "role", "output"},
		{Def{Role: "siren", When: "no_data", Title: "-", Priority: "P2"}, "", ""},
		{Def{Role: "gas", When: "value > 1", Priority: "P5"}, "priority", "P5"},
		{Def{Role: "gas", When: "value > 1", Title: "-"}, "", ""},
		{Def{Role: "gas", When: "value > 1", For: -1}, "for", "negative"},
		{Def{Role: "gas", When: ""}, "when", "empty"},
		{Def{Role: "gas", When: "value ~ 3"}, "when", "comparison"},
		{Def{Role: "gas", When: "value > NaN"}, "when", "no number"},
		{Def{Role: "gas", When: "value > Inf"}, "when", "no number"},
		{Def{Role: "gas", When: "active"}, "when", "contact"},
		{Def{Role: "gas_alarm", When: "value > 3"}, "when", "number"},
		{Def{Safety: true, When: "value > 3"}, "when", "every safety point"},
		{Def{Role: "gas", Unit: "V", When: "value > 3"}, "unit", "does not fit"},
		{Def{Role: "gas", Unit: "%LEL", When: "value > 3", Clear: "value > 2"}, "clear", "does not clear"},
		{Def{Role: "gas", Unit: "%LEL", When: "value >= 3", Clear: "value <= 3"}, "clear", "does not clear"},
		{Def{Role: "gas", Unit: "%LEL", When: "value > 3", Clear: "value < 4"}, "clear", "does not clear"},
		{Def{Role: "gas_alarm", When: "active", Clear: "inactive"}, "clear", "cannot clear"},
		{Def{Role: "detector_state", When: "state in [a", Clear: ""}, "when", "no list"},
	} {
		if c.def.ID == "" {
			c.def.ID = "r"
		}
		if c.def.Title == "" {
			c.def.Title = "t"
		}
		if c.def.Priority == "" {
			c.def.Priority = "P1"
		}
		_, errs := Bind([]Def{c.def}, points())
		if c.key == "" {
			continue
		}
		found := false
		for _, e := range errs {
			found = found || e.Key == c.key && strings.Contains(e.What, c.what) && e.Hint != ""
		}
		if !found {
			t.Errorf("%+v: want a fault of %q saying %q with a hint, got %+v", c.def, c.key, c.what, errs)
		}
	}
}

func TestRuleWithoutUnitIsRefusedWhereRoleHasSeveral(t *testing.T) {
	_, errs := Bind([]Def{{ID: "r", Role: "gas", When: "value > 3", Priority: "P1", Title: "t"}}, points())
	if len(errs) != 1 || errs[0].Key != "unit" {
		t.Fatalf("errs = %+v, want one about the unit", errs)
	}
}

func TestUnguardedFindsSafetyPointsWithOnlyNoData(t *testing.T) {
	bound, errs := Bind([]Def{
		{ID: "a", Role: "gas_alarm", When: "active", Priority: "P1", Title: "t"},
		{ID: "n", Safety: true, When: "no_data", Priority: "P3", Title: "t"},
	}, points())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	open := Unguarded(bound, points())
	if len(open) != 2 || open[0].ID != gasID || open[1].ID != stateID {
		t.Errorf("unguarded = %+v, want %s and %s", open, gasID, stateID)
	}
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{"value >= 25", "state in [a, b]", "active", "no_data", "value<-1e3", "state in []"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCondition(s)
		if err != nil {
			return
		}
		if c.word == "value" && (c.compare.limit != c.compare.limit || c.compare.op > notBelow) {
			t.Errorf("%q gives %+v", s, c)
		}
		if c.word == "state" && len(c.states) == 0 {
			t.Errorf("%q names no state", s)
		}
	})
}

func TestPointsShareTheirGuard(t *testing.T) {
	site := make(map[point.ID]*PointInfo)
	for i, states := range [][]string{{"a"}, {"a"}, {"b"}} {
		id := point.MakeID("d", string(rune('0'+i)))
		site[id] = &PointInfo{ID: id, Role: "detector_state", Kind: point.State, AlarmStates: states}
	}
	bound, errs := Bind([]Def{{ID: "r", Role: "detector_state", When: "alarm_state", Priority: "P1", Title: "t"}}, site)
	if len(errs) > 0 || len(bound) != 3 {
		t.Fatal(bound, errs)
	}
	if bound[0].Guard != bound[1].Guard || bound[1].Guard == bound[2].Guard {
		t.Error("two points with the same states must share a guard, and one with others must not")
	}
}

func TestACatalogueReturnsWhatItWasGiven(t *testing.T) {
	given := []*PointInfo{
		{ID: "d/a", Name: "3栋 弱电箱 电压", Place: "3/2", Zone: "3", Label: "W-1", Role: "voltage", Unit: point.Volt, Kind: point.Number, Every: time.Second},
		{ID: "d/b", Name: "3栋 弱电箱 状态", Place: "3/2", Zone: "3", Role: "state", Kind: point.State, Every: time.Second, AlarmStates: []string{"x", "y"}},
		{ID: "e/a", Name: "", Role: "gas"},
		{ID: "e/b", Name: " ", Role: "gas"},
		{ID: "e/c", Name: "灯", Role: "gas", AlarmStates: []string{"x,y"}},
	}
	c, err := NewCatalogue(given)
	if err != nil || c.Len() != len(given) {
		t.Fatal(c, err)
	}
	for i, want := range given {
		if got := c.Info(int32(i)); !reflect.DeepEqual(got, *want) {
			t.Errorf("slot %d: got %+v, want %+v", i, got, *want)
		}
	}
	if _, err := NewCatalogue([]*PointInfo{{ID: "d/a"}, {ID: "d/a"}}); err == nil {
		t.Error("a point is listed twice")
	}
}
