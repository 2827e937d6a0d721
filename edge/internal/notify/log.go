package notify

import (
	"context"
	"log/slog"

	"gatehouse/edge/internal/alarm"
	"gatehouse/protocol/wire"
)

// Log writes every step of every alarm to the daemon's log, where the guard
// room's journal shows it even when nothing else works.
type Log struct {
	Log *slog.Logger
}

// Step writes one line.
func (l Log) Step(step alarm.Step) {
	level := slog.LevelInfo
	if step.Kind == wire.KindAlarmRaised {
		level = slog.LevelWarn
	}
	a := step.Alarm
	l.Log.Log(context.Background(), level, step.Kind, "id", a.ID.String(), "rule", a.Rule, "point", a.Point, "place", a.Place,
		"priority", a.Priority, "title", a.Title, "value", a.Value.String(), "unit", string(a.Unit), "by", a.AckedBy)
}
