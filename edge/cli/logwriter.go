package cli

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// logWriter keeps whoever logs from waiting for whoever reads the log: with a
// hung disk behind it, a log line must not stop an alarm. What does not fit
// into its queue is counted and said later.
type logWriter struct {
	to    io.Writer
	lines chan []byte
	lost  atomic.Int64
	done  chan struct{}
}

const (
	logQueue    = 1024
	logPatience = time.Second // to get rid of the last lines at the end
)

func newLogWriter(to io.Writer) *logWriter {
	w := &logWriter{to: to, lines: make(chan []byte, logQueue), done: make(chan struct{})}
	go w.run()
	return w
}

// Write queues one line; it never waits and never fails.
func (w *logWriter) Write(p []byte) (int, error) {
	select {
	case w.lines <- append([]byte(nil), p...):
	default:
		w.lost.Add(1)
	}
	return len(p), nil
}

func (w *logWriter) run() {
	defer close(w.done)
	for line := range w.lines {
		if n := w.lost.Swap(0); n > 0 {
			fmt.Fprintf(w.to, "level=WARN msg=\"log lines were lost because nobody read them\" lines=%d\n", n)
		}
		_, _ = w.to.Write(line) // there is nowhere to say that saying fails
	}
}

// Close writes what is queued, as long as somebody reads it. Nothing may be
// written afterwards.
func (w *logWriter) Close() error {
	close(w.lines)
	select {
	case <-w.done:
	case <-time.After(logPatience):
	}
	return nil
}
