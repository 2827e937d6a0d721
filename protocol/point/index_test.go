package point

import (
	"fmt"
	"testing"
)

func TestIndexFindsEveryIDAndNoOther(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1000} {
		var ids []ID
		for i := range n {
			ids = append(ids, MakeID(fmt.Sprintf("d-%d", i/20), fmt.Sprintf("r%d", i%20)))
		}
		x, err := NewIndex(ids)
		if err != nil || x.Len() != n {
			t.Fatalf("%d ids: Len %d, %v", n, x.Len(), err)
		}
		for i, id := range ids {
			if slot, ok := x.Slot(id); !ok || int(slot) != i || x.ID(slot) != id {
				t.Fatalf("%s: slot %d, %v; want %d", id, slot, ok, i)
			}
		}
		for _, id := range []ID{"", "d-0/r", "d-0/r00", "x/y"} {
			if slot, ok := x.Slot(id); ok {
				t.Errorf("%q has slot %d", id, slot)
			}
		}
	}
	if _, err := NewIndex([]ID{"a/b", "c/d", "a/b"}); err == nil {
		t.Error("an id that comes twice has two slots")
	}
}

func TestIndexDoesNotAllocate(t *testing.T) {
	x, err := NewIndex([]ID{"det-1/gas", "det-1/state"})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if slot, ok := x.Slot("det-1/state"); !ok || x.ID(slot) != "det-1/state" {
			t.Error("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
