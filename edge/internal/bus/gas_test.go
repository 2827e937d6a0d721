package bus

import (
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/drivertest"
	"gatehouse/drivers/modbus"
	protocol "gatehouse/protocol/modbus"
	"gatehouse/protocol/point"
)

// gasModule is a device that answers on four unit ids, one for each gas.
func gasModule(t *testing.T, r *rig) {
	t.Helper()
	spec := drivers.Spec{Device: "m", Framing: drivers.RTU, Address: 1, Every: time.Second}
	for i, name := range []string{"ch4", "o2", "co", "h2s"} {
		spec.Points = append(spec.Points, drivers.PointSpec{
			ID: point.MakeID("m", name), Kind: point.Number, Critical: true,
			At: drivers.Item{Space: "holding", UnitPlus: i},
		})
	}
	d, err := modbus.New(spec, drivers.Deps{Link: r.Link("m", Timing{})})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Attach("m", d); err != nil {
		t.Fatal(err)
	}
}

// mute answers for all units but those.
func (r *rig) mute(units ...byte) {
	r.line.mu.Lock()
	defer r.line.mu.Unlock()
	r.line.reply = func(tx []byte) ([]byte, time.Duration) {
		for _, u := range units {
			if tx[0] == u {
				return nil, 0
			}
		}
		return drivertest.ReplyRTU(nil, tx, func(_, _ byte, _ uint16) uint16 { return 1 }), 20 * time.Millisecond
	}
}

func TestOneDeadUnitDoesNotBlindTheOthersOfItsDevice(t *testing.T) {
	const timeout = 250 * time.Millisecond
	for _, dead := range [][]byte{{1}, {3}, {1, 2}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Options{Timeout: timeout, Retries: 1})
			gasModule(t, r)
			names := []point.ID{"m/ch4", "m/o2", "m/co", "m/h2s"}
			r.mute()
			r.run(t)
			<-time.After(10 * time.Second)
			r.mute(dead...)
			fell := time.Now()
			<-time.After(time.Hour)
			r.mute()
			back := time.Now()
			<-time.After(10 * time.Second)
			r.stop()
			for i, p := range names {
				if dead[0] == byte(i+1) || dead[len(dead)-1] == byte(i+1) {
					continue
				}
				if n := len(r.seen[p]); n < 3550 {
					t.Errorf("units %v dead: %s was read %d times in an hour at 1 s", dead, p, n)
				}
				last := fell
				for _, at := range r.seen[p] {
					// Once the module is demoted and found again; then a dead unit costs
					// its timeout, and as long again until a late answer cannot come.
					bound := time.Second + 2*timeout + 100*time.Millisecond
					if last.Sub(fell) < 10*time.Second {
						bound = 5 * time.Second // one cycle of four timeouts for each dead unit in a row
					}
					if gap := at.Sub(last); at.After(fell) && gap > bound {
						t.Errorf("units %v dead: %v without %s, %v after", dead, gap, p, at.Sub(fell))
					}
					if at.After(fell) {
						last = at
					}
				}
			}
			for _, p := range names {
				n := 0
				for _, at := range r.seen[p] {
					if at.After(back) {
						n++
					}
				}
				if n < 7 {
					t.Errorf("units %v back: %s was read %d times in 10 s", dead, p, n)
				}
			}
		})
	}
}

func TestABusyDeviceIsAskedAgainAndNotDemoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Retries: 2})
		gasModule(t, r)
		r.mute()
		answer := r.line.reply
		asked := 0
		r.line.reply = func(tx []byte) ([]byte, time.Duration) {
			if tx[0] == 2 {
				if asked++; asked%2 == 1 { // busy once, then it has time
					return drivertest.Exception(nil, tx, protocol.DeviceBusy), 20 * time.Millisecond
				}
			}
			if tx[0] == 3 { // never has time
				return drivertest.Exception(nil, tx, protocol.Acknowledge), 20 * time.Millisecond
			}
			return answer(tx)
		}
		r.run(t)
		<-time.After(20 * time.Second)
		r.stop()
		for p, want := range map[point.ID]int{"m/ch4": 20, "m/o2": 20, "m/co": 0, "m/h2s": 20} {
			if n := len(r.seen[p]); n < want || want == 0 && n > 0 {
				t.Errorf("%s was read %d times in 20 s, want %d", p, n, want)
			}
		}
		if r.log.String() != "" {
			t.Errorf("a hiccup is no news:\n%s", r.log)
		}
	})
}
