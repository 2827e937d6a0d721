package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/cloud/internal/eventlog"
	"gatehouse/cloud/internal/fleet"
)

// Bounds of one request.
const (
	defaultLimit = 100
	maxLimit     = 1000
	maxWait      = 60 * time.Second
	maxKinds     = 16
)

// query is a checked request for events.
type query struct {
	filter eventlog.Filter
	cursor *eventlog.Cursor
	since  time.Time
	limit  int
	wait   time.Duration
}

var params = []string{"cursor", "scope", "kind", "since", "limit", "wait", "drill"}

// parseQuery checks v against what the token allows.
func parseQuery(v url.Values, t fleet.Token) (q query, p *problem) {
	for name, values := range v {
		if !slices.Contains(params, name) {
			return q, badParam(name, "unknown parameter", "known are "+strings.Join(params, ", "))
		}
		if len(values) != 1 {
			return q, badParam(name, "given more than once", "give it once")
		}
	}
	if q.filter.Scope, p = parseScope(v.Get("scope"), t); p != nil {
		return q, p
	}
	if q.filter.Kinds, p = parseKinds(v.Get("kind"), t); p != nil {
		return q, p
	}
	if q.filter.Drill, p = parseDrill(v.Get("drill")); p != nil {
		return q, p
	}
	if q.limit, p = parseLimit(v.Get("limit")); p != nil {
		return q, p
	}
	if q.wait, p = parseWait(v.Get("wait")); p != nil {
		return q, p
	}
	if q.since, p = parseSince(v.Get("since")); p != nil {
		return q, p
	}
	q.cursor, p = parseCursor(v.Get("cursor"))
	return q, p
}

func parseScope(s string, t fleet.Token) (string, *problem) {
	switch {
	case s == "":
		return t.Scope, nil
	case !fleet.ValidScope(s):
		return "", badParam("scope", fmt.Sprintf("%q is no division prefix", s), "give the first 2, 4, 6, 9 or 12 digits of a division code")
	case !t.AllowsScope(s):
		return "", &problem{Status: http.StatusForbidden, Title: "outside the token's scope", Param: "scope",
			Detail: fmt.Sprintf("the token reads %s and below", t.Scope), Hint: "narrow the scope, or ask for a token of a wider one"}
	}
	return s, nil
}

func parseKinds(s string, t fleet.Token) ([]string, *problem) {
	if s == "" {
		if slices.Contains(t.Kinds, fleet.AllKinds) {
			return nil, nil
		}
		return t.Kinds, nil
	}
	kinds := strings.Split(s, ",")
	if len(kinds) > maxKinds {
		return nil, badParam("kind", fmt.Sprintf("%d kinds", len(kinds)), fmt.Sprintf("give at most %d, or a prefix of them", maxKinds))
	}
	for _, k := range kinds {
		if !fleet.ValidKind(k) {
			return nil, badParam("kind", fmt.Sprintf("%q is no kind", k), "give kinds or prefixes of them, as in alarm.raised,gateway")
		}
		if !t.AllowsKind(k) {
			return nil, &problem{Status: http.StatusForbidden, Title: "outside the token's kinds", Param: "kind",
				Detail: fmt.Sprintf("the token reads %s, not %s", strings.Join(t.Kinds, ","), k), Hint: "ask for a token that includes the kind"}
		}
	}
	return kinds, nil
}

func parseDrill(s string) (eventlog.Drill, *problem) {
	switch s {
	case "":
		return eventlog.DrillAny, nil
	case "true":
		return eventlog.DrillOnly, nil
	case "false":
		return eventlog.DrillNone, nil
	}
	return 0, badParam("drill", fmt.Sprintf("%q", s), "true for drills only, false for none, absent for both")
}

func parseLimit(s string) (int, *problem) {
	if s == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		return 0, badParam("limit", fmt.Sprintf("%q", s), fmt.Sprintf("give a number from 1 to %d", maxLimit))
	}
	return n, nil
}

// parseWait reads seconds or a duration such as 1m30s.
func parseWait(s string) (time.Duration, *problem) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if n, errSeconds := strconv.ParseUint(s, 10, 16); errSeconds == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxWait {
		return 0, badParam("wait", fmt.Sprintf("%q", s), fmt.Sprintf("give seconds or a duration, at most %s", maxWait))
	}
	return d, nil
}

func parseSince(s string) (time.Time, *problem) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, badParam("since", fmt.Sprintf("%q is no time", s), "give RFC 3339, as in 2026-11-01T08:00:00+08:00, with + written as %2B")
	}
	return t, nil
}

func parseCursor(s string) (*eventlog.Cursor, *problem) {
	if s == "" {
		return nil, nil
	}
	c, err := eventlog.ParseCursor(s)
	if errors.Is(err, eventlog.ErrCursor) {
		return nil, badParam("cursor", err.Error(), "give the Gatehouse-Cursor of an earlier answer unchanged, or none to start over")
	}
	return &c, nil
}
