package app

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestPartsStopInReverseAndAHungOneIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var ended []string
		parts := &tasks{log: slog.New(slog.DiscardHandler)}
		parts.onStop("store", func() error { ended = append(ended, "store"); return nil })
		for _, name := range []string{"journal", "table", "bus"} {
			parts.run(ctx, name, func(ctx context.Context) error {
				<-ctx.Done()
				<-time.After(time.Second) // what is left to do takes its time
				ended = append(ended, name)
				return nil
			})
		}
		forever := make(chan struct{})
		parts.run(ctx, "hung", func(context.Context) error { <-forever; return nil })
		cancel()
		synctest.Wait()
		if len(ended) != 0 {
			t.Errorf("%v ended before their turn", ended)
		}
		start := time.Now()
		parts.stop()
		if want := []string{"bus", "table", "journal", "store"}; !slices.Equal(ended, want) {
			t.Errorf("ended as %v, want %v", ended, want)
		}
		if took := time.Since(start); took != stopPatience+3*time.Second {
			t.Errorf("stopping took %v", took)
		}
		close(forever)
	})
}
