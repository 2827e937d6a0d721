package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunPrintsAddressesFirstThenEveryChangeAndStopsCleanly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	link := filepath.Join(t.TempDir(), "tty")
	cmd := command()
	cmd.SetOut(w)
	cmd.SetArgs([]string{"run", "--json", "--speed", "1000", "--listen", "127.0.0.1:0", "--pty", "meters=" + link})
	done := make(chan error, 1)
	go func() {
		done <- cmd.ExecuteContext(ctx)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	var ready struct {
		Listeners []struct{ Name, TCP, PTY, Link string }
	}
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &ready) != nil || len(ready.Listeners) < 2 {
		t.Fatalf("first line %q, %v", lines.Text(), lines.Err())
	}
	if ready.Listeners[1].Link != link {
		t.Errorf("link %q, want %q", ready.Listeners[1].Link, link)
	}
	conn, err := net.Dial("tcp", ready.Listeners[0].TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for lines.Scan() && !strings.Contains(lines.Text(), "gas contact of 3/2/501 opens: over") {
	}
	cancel()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Errorf("the link is left behind: %v", err)
	}
}

func TestAnOverrideOfNoListenerIsRefused(t *testing.T) {
	cmd := command()
	cmd.SetArgs([]string{"run", "--listen", "west=127.0.0.1:0"})
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), `no TCP listener "west"`) {
		t.Errorf("run: %v", err)
	}
}
