package broker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestAFloodOfRefusalsIsOneLine(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&out, nil)))
	for _, line := range []string{
		`10.0.0.7:34672 - mid:26 - "gw-1" - authentication error - User "gw-1"`,
		`10.0.0.8:34674 - mid:27 - "gw-2" - authentication error - User "gw-2"`,
		`[fe80::1]:999 - mid:127 - "a \ b" - authentication error - User "x"`,
	} {
		l.Errorf("%s", line)
	}
	l.Errorf("JetStream out of disk space")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 { // one per address family, and the disk
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	if !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[2], "level=ERROR") {
		t.Fatalf("levels:\n%s", out.String())
	}
}
