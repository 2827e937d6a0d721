package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/cloud/app"
)

// run runs one command line and returns what it wrote to standard output.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := New()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(t.Output())
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

func TestFleetCommandsWorkWithAndWithoutTheService(t *testing.T) {
	data := t.TempDir()
	before := mustRun(t, "gateway", "add", "--data", data, "--id", "gw-1", "--division", "530102001003")
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan app.Addrs, 1), make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, app.Options{Data: data, HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0",
			Log: slog.New(slog.DiscardHandler), Ready: func(a app.Addrs) { ready <- a }})
	}()
	<-ready
	during := mustRun(t, "gateway", "add", "--data", data, "--id", "gw-2", "--division", "530102001003", "--json")
	token := mustRun(t, "token", "create", "--data", data, "--scope", "53", "--kinds", "alarm,gateway", "--expires", "24h")
	if _, err := run(t, "gateway", "add", "--data", data, "--id", "gw-1", "--division", "530102001003"); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a second gw-1: %v", err)
	}
	if info, err := os.Stat(filepath.Join(data, "control.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("control socket: %v, %v", info, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if strings.Count(before, "\n") != 1 || len(strings.TrimSpace(before)) != 43 {
		t.Errorf("gateway add printed %q", before)
	}
	var added struct{ ID, Division, Secret string }
	if err := json.Unmarshal([]byte(during), &added); err != nil || added.ID != "gw-2" || len(added.Secret) != 43 {
		t.Errorf("gateway add --json: %v, %s", err, during)
	}
	list := mustRun(t, "gateway", "list", "--data", data)
	if !strings.Contains(list, "gw-1") || !strings.Contains(list, "gw-2") {
		t.Errorf("gateways:\n%s", list)
	}
	tokens := mustRun(t, "token", "list", "--data", data, "--json")
	id, secret, _ := strings.Cut(strings.TrimSpace(token), ".")
	if !strings.Contains(tokens, id) || strings.Contains(tokens, secret) || !strings.Contains(tokens, "alarm") {
		t.Errorf("tokens:\n%s", tokens)
	}
}

func TestWrongArgumentsAreRefusedWithAHint(t *testing.T) {
	data := t.TempDir()
	for _, args := range [][]string{
		{"gateway", "add", "--id", "a/b", "--division", "530102001003"},
		{"gateway", "add", "--id", "gw-1", "--division", "5301"},
		{"token", "create", "--scope", "5", "--kinds", "alarm"},
		{"token", "create", "--scope", "53", "--kinds", "ALARM"},
		{"token", "create", "--scope", "53", "--kinds", "alarm", "--expires", "soon"},
		{"token", "create", "--scope", "53", "--kinds", "alarm", "--expires", "2001-01-01T00:00:00Z"},
	} {
		if out, err := run(t, append(args, "--data", data)...); err == nil {
			t.Errorf("%v: taken, printed %q", args, out)
		}
	}
}

func TestConfigIsStrictAndFlagsWin(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		path := filepath.Join(dir, "cloud.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for text, want := range map[string]string{
		"data: /d\nhtpp: 127.0.0.1:1\n": "[2:1]",
		"data: [1]\n":                   "[1:7]",
		"data: /d\ndata: /e\n":          "[2:1]",
	} {
		if _, err := loadConfig(write(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	c, err := loadConfig(write("data: /d\nmqtt: 127.0.0.1:7\nallow_plaintext: true\n"))
	if err != nil || c != (config{Data: "/d", HTTP: "127.0.0.1:8090", MQTT: "127.0.0.1:7", AllowPlaintext: true}) {
		t.Errorf("config %+v, %v", c, err)
	}
	if c, err = loadConfig(write("")); err != nil || c != defaultConfig() {
		t.Errorf("empty config %+v, %v", c, err)
	}
	cmd := newRun()
	if err := cmd.ParseFlags([]string{"--mqtt", "127.0.0.1:9"}); err != nil {
		t.Fatal(err)
	}
	c, err = resolve(cmd, write("mqtt: 127.0.0.1:7\nhttp: 127.0.0.1:8\n"), config{MQTT: "127.0.0.1:9"})
	if err != nil || c.MQTT != "127.0.0.1:9" || c.HTTP != "127.0.0.1:8" {
		t.Errorf("resolved %+v, %v", c, err)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"": {}, "24h": now.Add(24 * time.Hour), "2027-01-01T00:00:00Z": time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := parseExpiry(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
}
