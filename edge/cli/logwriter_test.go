package cli

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// stuck is a reader of the log that does not read until released.
type stuck struct {
	release chan struct{}
	got     strings.Builder
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.release
	return s.got.Write(p)
}

func TestALogNobodyReadsStopsNobodyAndSaysWhatItLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{release: make(chan struct{})}
		w := newLogWriter(s)
		for i := range 2 * logQueue {
			if n, err := fmt.Fprintf(w, "line %d\n", i); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}
		synctest.Wait()
		close(s.release)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		kept, lost := 0, 0
		for line := range strings.Lines(s.got.String()) {
			var n int
			if _, after, ok := strings.Cut(line, " lines="); ok {
				if _, err := fmt.Sscan(after, &n); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				lost += n
			} else if _, err := fmt.Sscanf(line, "line %d", &n); err == nil {
				kept++
			}
		}
		if kept < logQueue || lost == 0 || kept+lost != 2*logQueue {
			t.Errorf("of %d lines %d are in the log, and %d are said to be lost", 2*logQueue, kept, lost)
		}
	})
}
