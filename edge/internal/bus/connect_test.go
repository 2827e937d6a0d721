package bus

import (
	"testing"
	"time"
)

// A thousand links lose one server at the same moment, for a minute.
func TestAThousandLinksDoNotComeBackTogether(t *testing.T) {
	lost := time.Now()
	back := lost.Add(time.Minute)
	slots := make(map[time.Duration]int)
	var last time.Duration
	for range 1000 {
		r := redial{at: lost}
		for r.at.Before(back) {
			r.after(r.at)
		}
		waited := r.at.Sub(back)
		slots[waited/(100*time.Millisecond)]++
		last = max(last, waited)
	}
	for slot, n := range slots {
		if n > 100 { // 40 if all were spread evenly over two and a half seconds
			t.Errorf("%d come back in the same tenth of a second (%v)", n, slot*100*time.Millisecond)
		}
	}
	if last > redialMax {
		t.Errorf("the last comes %v after the server", last)
	}
}
