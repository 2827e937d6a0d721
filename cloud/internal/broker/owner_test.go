package broker

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
)

func TestAnothersDirectoryIsLeftAlone(t *testing.T) {
	dir := "/usr" // root's
	if os.Geteuid() == 0 {
		dir = t.TempDir()
		if err := os.Chown(dir, 12345, -1); err != nil {
			t.Skip(err)
		}
	}
	b, err := Start(t.Context(), Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if b != nil {
		b.Close()
	}
	if !errors.Is(err, ErrOwner) || !strings.Contains(err.Error(), "sudo -u") {
		t.Fatalf("error %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
