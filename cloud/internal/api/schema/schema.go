// Package schema holds the published form of events: a JSON Schema (2020-12)
// of the event and one of the data of each type.
//
// It guarantees: a field that is required stays, with its type; fields may be
// added, so a reader ignores those it does not know.
package schema

import "embed"

// Files holds event.json and the files that DataFile names.
//
//go:embed *.json
var Files embed.FS

// DataFile returns the file for the data of an event type, or "" if events of
// that type travel opaque.
func DataFile(eventType string) string {
	switch eventType {
	case "alarm.raised", "alarm.acknowledged", "alarm.cleared":
		return "alarm.json"
	case "telemetry.readings":
		return "telemetry.json"
	case "gateway.started", "gateway.fault", "gateway.command":
		return "note.json"
	case "gap":
		return "gap.json"
	}
	return ""
}
