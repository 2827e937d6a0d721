package profiles

import (
	"slices"

	"gatehouse/protocol/point"
)

// Lists are the closed lists of the schema, by the type or field that draws
// from each (point.Role, profiles.Point.space). What a driver takes of spaces
// and types is narrower, and checked at load.
func Lists() map[string][]any {
	var spaces, types []string
	for _, w := range ways {
		spaces, types = append(spaces, w.spaces...), append(types, w.types...)
	}
	slices.Sort(types)
	types = slices.Compact(types)
	registers := ways[0]
	lists := map[string][]any{
		"point.Role":              list(RoleNames()),
		"point.Unit":              list(point.Units),
		"profiles.Profile.grade":  list(grades),
		"profiles.Profile.driver": list(driverNames()),
		"profiles.State.class":    list(classes),
		"profiles.Check.kind":     list(checkKinds),
		"profiles.Step.space":     list([]string{"coil", "holding"}),
		"profiles.Lookup.space":   list([]string{"holding", "input"}),
		"profiles.Link.baud":      list(bauds),
		"profiles.Link.parity":    list(parity),
		"profiles.Link.stop":      list([]int{1, 2}),
		"profiles.Probe.space":    list(registers.spaces),
		"profiles.Mark.space":     list(registers.spaces),
		"profiles.Mark.type":      list(registers.types),
		"profiles.Mark.order":     list(orders),
	}
	for _, field := range []string{"baud", "parity", "stop"} {
		lists["profiles.Probe."+field] = lists["profiles.Link."+field]
	}
	for _, holder := range []string{"Point", "Patch", "Register"} {
		lists["profiles."+holder+".space"] = list(spaces)
		lists["profiles."+holder+".type"] = list(types)
		lists["profiles."+holder+".order"] = list(orders)
	}
	return lists
}

// Keys are the keys of each type without which no profile loads.
func Keys() map[string][]string {
	return map[string][]string{
		"profiles.Profile":   {"model", "maker", "names", "source", "grade", "driver", "link", "points"},
		"profiles.Bilingual": {"zh", "en"},
		"profiles.Link":      {"baud", "parity", "stop"},
		"profiles.Point":     {"name", "names", "role"},
		"profiles.State":     {"name", "class"},
		"profiles.Mark":      {"space"},
		"profiles.Command":   {"names", "steps"},
		"profiles.Step":      {"space", "address", "value"},
		"profiles.Variation": {"names"},
		"profiles.Check":     {"kind"},
	}
}

func list[T any](values []T) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}
