package broker

import (
	"fmt"
	"log/slog"
	"time"

	"gatehouse/cloud/internal/storm"
)

// logger carries the server's lines into slog. What clients can provoke at
// will comes as one line per kind and minute; the server's chatter at start
// and stop is for debugging only.
type logger struct {
	log   *slog.Logger
	gate  *storm.Gate
	fatal chan string // what the server could not start with
}

func newLogger(log *slog.Logger) *logger {
	return &logger{log: log, gate: storm.NewGate(time.Minute), fatal: make(chan string, 1)}
}

func (l *logger) gated(say func(string, ...any), format string, v []any) {
	held, ok := l.gate.Pass(format)
	if !ok {
		return
	}
	if held > 0 {
		say(fmt.Sprintf(format, v...), "alike_before", held)
		return
	}
	say(fmt.Sprintf(format, v...))
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Warnf(format string, v ...any)   { l.gated(l.log.Warn, format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.gated(l.log.Error, format, v) }

// Fatalf keeps the first line for Start, which reports it.
func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
