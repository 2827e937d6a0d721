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
		got := s.got.String()
		if !strings.HasPrefix(got, "line 0\n") || !strings.Contains(got, "lines=102") || strings.Count(got, "\nline ") < logQueue {
			t.Errorf("the log holds %d lines and begins %.200q", strings.Count(got, "\n"), got)
		}
	})
}
