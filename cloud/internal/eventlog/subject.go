package eventlog

import (
	"fmt"
	"slices"
	"strings"

	"gatehouse/protocol/wire"
)

// opaqueKind stands in a subject for a kind that cannot.
const opaqueKind = "opaque"

// divisionLevels are the lengths of a division prefix at which a token of the
// subject ends.
var divisionLevels = []int{2, 4, 6, 9, 12}

// eventSubject returns ev.<lane>.<pp>.<cc>.<xx>.<sss>.<ccc>.<gateway>.<kind>.
func eventSubject(lane wire.Lane, o Origin, kind string) (string, error) {
	if !wire.ValidGatewayID(o.Gateway) {
		return "", fmt.Errorf("gateway id %q cannot stand in a subject", o.Gateway)
	}
	if len(o.Division) != 12 || strings.Trim(o.Division, "0123456789") != "" {
		return "", fmt.Errorf("division %q: want 12 digits", o.Division)
	}
	return "ev." + lane.String() + "." + divisionTokens(o.Division) + "." + o.Gateway + "." + kindTokens(kind), nil
}

// markSubject returns the subject of a gateway's dedupe marker.
func markSubject(lane wire.Lane, gateway string) string {
	return "mark." + lane.String() + "." + gateway
}

// divisionTokens splits a division prefix, filling up with wildcards.
func divisionTokens(prefix string) string {
	tokens := make([]string, 0, len(divisionLevels))
	start := 0
	for _, end := range divisionLevels {
		if end > len(prefix) {
			tokens = append(tokens, "*")
			continue
		}
		tokens = append(tokens, prefix[start:end])
		start = end
	}
	return strings.Join(tokens, ".")
}

// kindTokens returns the kind as it stands in a subject.
func kindTokens(kind string) string {
	if len(kind) > 64 || strings.ContainsFunc(kind, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.'
	}) || slices.Contains(strings.Split(kind, "."), "") {
		return opaqueKind
	}
	return kind
}

// parseSubject is the inverse of eventSubject but for the kind.
func parseSubject(s string) (o Origin, err error) {
	t := strings.SplitN(s, ".", 9)
	if len(t) != 9 || t[0] != "ev" {
		return Origin{}, fmt.Errorf("subject %q is no event's", s)
	}
	return Origin{Division: strings.Join(t[2:7], ""), Gateway: t[7]}, nil
}
