package bus

import (
	"fmt"
	"testing"
	"time"
)

func TestAStormIsOneLineAnHour(t *testing.T) {
	var s storm
	now := time.Now()
	lines, told := 0, 0
	for i := range 3*3600 + 1 {
		if n, due := s.tell("10.0.0.1", now.Add(time.Duration(i)*time.Second)); due {
			lines, told = lines+1, told+n
		}
	}
	if lines != 4 || told != 3*3600+1 {
		t.Errorf("%d lines for %d complaints in three hours", lines, told)
	}
}

func TestAStormOfManySourcesIsBounded(t *testing.T) {
	var s storm
	now := time.Now()
	lines := 0
	for i := range 10_000 {
		if _, due := s.tell(fmt.Sprint(i), now); due {
			lines++
		}
	}
	if lines != stormThings+1 || len(s.seen) != stormThings+1 {
		t.Errorf("%d lines, %d sources kept", lines, len(s.seen))
	}
	later := now.Add(2 * stormPause)
	if n, due := s.tell("new", later); n != 1 || !due || len(s.seen) != 1 {
		t.Errorf("after quiet hours: %d, %v, %d kept", n, due, len(s.seen))
	}
}
