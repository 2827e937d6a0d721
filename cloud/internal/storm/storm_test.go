package storm

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestFirstPassesThenOnePerIntervalWithCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(time.Minute)
		if held, ok := g.Pass("a"); !ok || held != 0 {
			t.Fatalf("first: held %d, ok %v", held, ok)
		}
		for range 5 {
			if _, ok := g.Pass("a"); ok {
				t.Fatal("a flood passed")
			}
		}
		if _, ok := g.Pass("b"); !ok {
			t.Fatal("another kind was held back")
		}
		<-time.After(time.Minute) // the bubble's clock
		if held, ok := g.Pass("a"); !ok || held != 5 {
			t.Fatalf("after the interval: held %d, ok %v", held, ok)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	g := NewGate(time.Hour)
	for i := range 10 * maxKeys {
		g.Pass(strconv.Itoa(i))
	}
	if len(g.seen) > maxKeys {
		t.Fatalf("%d kinds remembered", len(g.seen))
	}
}
