package alarm

import (
	"slices"

	"gatehouse/edge/internal/rule"
	"gatehouse/protocol/point"
)

// ruleSet holds the rules by number, in the order in which they were bound.
// There may be one for each of tens of thousands of points, so each is two
// numbers; what they share, and what is known of their points, stands once.
type ruleSet struct {
	guards []*rule.Guard
	rules  []placed
	points *rule.Catalogue

	// The rules that ask for a slot are hung[start[slot]:start[slot+1]].
	start []uint32
	hung  []int32
}

// placed is one rule: which guard, and on which slot.
type placed struct {
	guard uint32
	slot  int32
}

func newRuleSet(points *rule.Catalogue, bound []rule.Bound) ruleSet {
	s := ruleSet{points: points, rules: make([]placed, 0, len(bound))}
	numbers := make(map[*rule.Guard]uint32)
	on := make([][]int32, points.Len())
	for _, b := range bound {
		slot, listed := points.Slot(b.Point.ID)
		if !listed {
			continue
		}
		n, known := numbers[b.Guard]
		if !known {
			n = uint32(len(s.guards))
			numbers[b.Guard], s.guards = n, append(s.guards, b.Guard)
		}
		number := int32(len(s.rules))
		s.rules = append(s.rules, placed{guard: n, slot: slot})
		for _, p := range b.Rule.Points(b.Point.ID) {
			if slot, listed := points.Slot(p); listed {
				on[slot] = append(on[slot], number)
			}
		}
	}
	s.start = make([]uint32, len(on)+1)
	for slot, numbers := range on {
		s.hung = append(s.hung, numbers...)
		s.start[slot+1] = uint32(len(s.hung))
	}
	s.rules, s.hung = slices.Clip(s.rules), slices.Clip(s.hung)
	return s
}

func (s *ruleSet) len() int { return len(s.rules) }

// on returns the numbers of the rules that ask for a slot.
func (s *ruleSet) on(slot int32) []int32 { return s.hung[s.start[slot]:s.start[slot+1]] }

func (s *ruleSet) guard(i int32) *rule.Guard { return s.guards[s.rules[i].guard] }

func (s *ruleSet) point(i int32) point.ID { return s.points.ID(s.rules[i].slot) }

// bound puts a rule together again with all that is known of its point.
func (s *ruleSet) bound(i int32) rule.Bound {
	info := s.points.Info(s.rules[i].slot)
	return rule.Bound{Guard: s.guard(i), Point: &info}
}
