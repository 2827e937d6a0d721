package e2e

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/drivers/sim"
	edgecli "gatehouse/edge/cli"
)

// gasRule is the shipped rule on a gas detector's contact.
const gasRule = "gas-detector"

// ofRule picks the events of one rule.
func ofRule(events []event, rule string) (picked []event) {
	for _, e := range events {
		if e.Data.Rule == rule {
			picked = append(picked, e)
		}
	}
	return picked
}

func types(events []event) (list []string) {
	for _, e := range events {
		list = append(list, e.Type)
	}
	return list
}

// checkOnceInOrder fails unless ids are unique and, lane by lane, sequence
// numbers follow one another without a hole.
func checkOnceInOrder(t *testing.T, events []event) {
	t.Helper()
	ids, last := map[string]bool{}, map[string]uint64{}
	for _, e := range events {
		if ids[e.ID] {
			t.Errorf("event %s (%s) came twice", e.ID, e.Type)
		}
		ids[e.ID] = true
		if before, seen := last[e.Lane]; seen && e.Seq != before+1 {
			t.Errorf("lane %s: sequence %d follows %d", e.Lane, e.Seq, before)
		}
		last[e.Lane] = e.Seq
	}
}

func TestAGasContactReachesThePlatformWithin3Seconds(t *testing.T) {
	t.Parallel()
	c := newCompound(t)
	c.startEdge()
	c.awaitAlarm(gasRule, "")
	p := c.puller("alarm")
	if _, err := p.pull(0); err != nil {
		t.Fatal(err)
	}

	start := time.Now()
	c.gas(true)
	p.until("the alarm", 10*time.Second, func(es []event) bool { return len(ofRule(es, gasRule)) == 1 })
	took := time.Since(start)
	t.Logf("contact to platform: %v", took.Round(time.Millisecond))
	if took > 3*time.Second {
		t.Errorf("contact to platform took %v, want at most 3 s", took)
	}
	e := ofRule(p.all, gasRule)[0]
	if e.Type != "alarm.raised" || e.Source != gatewayID || e.Division != division || e.Data.Priority != "P1" ||
		e.Data.Place != "3/2/501" || e.Data.Point != "di-3-2/di1" && e.Data.Point != "di1" || !strings.HasSuffix(e.Time, "+08:00") {
		t.Errorf("event = %+v", e)
	}
	eventually(t, 5*time.Second, "the siren relay to close", func() bool {
		coil, err := c.sim.Get("plant/7", sim.Coil, 0, 1)
		return err == nil && coil[0] == 1
	})

	a := c.awaitAlarm(gasRule, "raised")
	var out bytes.Buffer
	if status := edgecli.Execute(t.Context(), []string{"alarms", "ack", a.ID, "--by", "老王", "--config", c.config},
		edgecli.Streams{Out: &out, Err: io.Discard}); status != 0 || !strings.Contains(out.String(), "老王") {
		t.Fatalf("ack: exit %d: %s", status, &out)
	}
	eventually(t, 5*time.Second, "the siren to fall silent", func() bool {
		coil, err := c.sim.Get("plant/7", sim.Coil, 0, 1)
		return err == nil && coil[0] == 0
	})
	c.gas(false)
	p.until("answer and clear", 10*time.Second, func(es []event) bool { return len(ofRule(es, gasRule)) == 3 })
	want := []string{"alarm.raised", "alarm.acknowledged", "alarm.cleared"}
	if got := types(ofRule(p.all, gasRule)); !slices.Equal(got, want) {
		t.Errorf("steps = %v, want %v", got, want)
	}
	checkOnceInOrder(t, p.all)
	if status := c.edge.terminate(); status != 0 {
		t.Errorf("gatehouse exits %d on SIGTERM", status)
	}
	if status := c.cloud.terminate(); status != 0 {
		t.Errorf("gatehouse-cloud exits %d on SIGTERM", status)
	}
}

// cycle raises and clears the gas alarm once and waits until the gateway has
// taken both up.
func (c *compound) cycle() {
	c.t.Helper()
	c.gas(true)
	c.awaitAlarm(gasRule, "raised")
	c.gas(false)
	c.awaitAlarm(gasRule, "cleared")
}

// checkCycles pulls everything and fails unless each of n cycles is there
// once, in order.
func (c *compound) checkCycles(n int) {
	c.t.Helper()
	p := c.puller("alarm,gap")
	p.until("every transition", 60*time.Second, func(es []event) bool { return len(ofRule(es, gasRule)) >= 2*n })
	if _, err := p.pull(time.Second); err != nil { // what may come twice comes now
		c.t.Fatal(err)
	}
	steps := ofRule(p.all, gasRule)
	if len(steps) != 2*n {
		c.t.Fatalf("%d steps for %d cycles:\n%s", len(steps), n, describe(steps))
	}
	for i, e := range steps {
		want := "alarm.raised"
		if i%2 == 1 {
			want = "alarm.cleared"
		}
		if e.Type != want || e.Data.Occurrence != i/2+1 {
			c.t.Errorf("step %d is %s, occurrence %d:\n%s", i, e.Type, e.Data.Occurrence, describe(steps))
		}
	}
	checkOnceInOrder(c.t, p.all)
}

func TestTheCloudKilledFor20SecondsLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	c := newCompound(t)
	c.startEdge()
	c.awaitAlarm(gasRule, "")
	c.cycle()
	c.cloud.kill()
	n := 1
	for down := time.Now(); time.Since(down) < 20*time.Second; n++ {
		c.cycle()
	}
	c.startCloud()
	c.cycle()
	c.checkCycles(n + 1)
}

func TestTheEdgeKilledInTheMiddleLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	c := newCompound(t)
	c.startEdge()
	c.awaitAlarm(gasRule, "")
	n := 0
	for range 4 {
		for range 2 {
			c.cycle()
			n++
		}
		c.gas(true)
		c.awaitAlarm(gasRule, "raised") // killed while the alarm stands …
		c.edge.kill()
		c.startEdge()
		c.awaitAlarm(gasRule, "raised") // … it stands after the restart, raised once
		c.gas(false)
		c.awaitAlarm(gasRule, "cleared") // killed before this may be stored …
		c.edge.kill()
		c.startEdge()
		c.awaitAlarm(gasRule, "cleared") // … it is cleared after the restart, once
		n++
	}
	c.checkCycles(n)
}
