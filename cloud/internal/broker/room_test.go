package broker

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRoomCountsWhatIsTakenAlready(t *testing.T) {
	dir := t.TempDir()
	before, err := measure(dir)
	if err != nil {
		t.Fatal(err)
	}
	if before.room < minRoom || before.size < before.room && before.room > minRoom {
		t.Fatalf("%+v", before)
	}
	const taken = 32 << 20
	if err := os.WriteFile(filepath.Join(dir, "log"), make([]byte, taken), 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := measure(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Others write to the disk too; but what this directory took is no loss.
	if lost := before.room - after.room; lost > taken/2 {
		t.Errorf("%d bytes of room lost by writing %d", lost, taken)
	}
}
