package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"

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

// gated says a line unless one of its kind was said within the minute.
func (l *logger) gated(level slog.Level, line string) {
	if strings.Contains(line, " - mid:") { // said about an MQTT client: its fault, not the service's
		level = min(level, slog.LevelWarn)
	}
	if held, ok := l.gate.Pass(kindOf(line)); ok {
		l.log.Log(context.Background(), level, line, "alike_before", held)
	}
}

// kindOf strips a line of what differs between clients: digits (addresses,
// connection numbers) and quoted names. The server formats client lines before
// the logger sees them, so the format itself is of no help.
func kindOf(line string) string {
	line, _, _ = strings.Cut(line, ", SID ") // repeats a subject, without quotes
	quoted := false
	return strings.Map(func(r rune) rune {
		if r == '"' {
			quoted = !quoted
		}
		if quoted || unicode.IsDigit(r) {
			return -1
		}
		return r
	}, line)
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Warnf(format string, v ...any) {
	l.gated(slog.LevelWarn, fmt.Sprintf(format, v...))
}
func (l *logger) Errorf(format string, v ...any) {
	l.gated(slog.LevelError, fmt.Sprintf(format, v...))
}

// Fatalf keeps the first line for Start, which reports it.
func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
