package fleet

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gatehouse/cloud/internal/broker"
)

const division = "530102001003"

func open(t *testing.T, dir string, now func() time.Time) (r *Registry, stop func()) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := broker.Start(t.Context(), broker.Options{Dir: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	if r, err = Open(t.Context(), Options{Conn: nc, Log: log, Now: now}); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { nc.Close(); b.Close() })
	t.Cleanup(stop)
	return r, stop
}

func TestRegistryOutlivesTheProcessAndKeepsNoSecret(t *testing.T) {
	dir := t.TempDir()
	r, stop := open(t, dir, nil)
	secret, err := r.AddGateway(t.Context(), "gw-1", division)
	if err != nil {
		t.Fatal(err)
	}
	token, bearer, err := r.CreateToken(t.Context(), "5301", []string{"alarm"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r.Seen("gw-1")
	r.storeSeen(t.Context())
	before, _ := r.Gateways(t.Context())
	stop()

	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		if bytes.Contains(p, []byte(secret)) || bytes.Contains(p, []byte(bearer)) || bytes.Contains(p, []byte(bearer[len(token.ID)+1:])) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	r, _ = open(t, dir, nil)
	if !r.Authenticate("gw-1", secret) || r.Authenticate("gw-1", secret+"x") || r.Authenticate("gw-1", "") || r.Authenticate("gw-2", secret) {
		t.Error("authentication after the restart")
	}
	if d, ok := r.Division("gw-1"); !ok || d != division {
		t.Errorf("division %q, %v", d, ok)
	}
	after, _ := r.Gateways(t.Context())
	if len(after) != 1 || !after[0].LastSeen.Equal(before[0].LastSeen) || after[0].LastSeen.IsZero() {
		t.Errorf("last seen %+v, was %+v", after, before)
	}
	if got, err := r.Token(bearer); err != nil || got.ID != token.ID || got.Scope != "5301" {
		t.Errorf("token %+v, %v", got, err)
	}
	if _, err := r.AddGateway(t.Context(), "gw-1", division); !errors.Is(err, ErrExists) {
		t.Errorf("a second gw-1: %v", err)
	}
}

func TestTokenExpires(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	r, _ := open(t, t.TempDir(), func() time.Time { return now })
	_, bearer, err := r.CreateToken(t.Context(), "53", []string{AllKinds}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Token(bearer); err != nil {
		t.Fatalf("fresh: %v", err)
	}
	now = now.Add(time.Hour)
	if _, err := r.Token(bearer); !errors.Is(err, ErrToken) {
		t.Fatalf("expired: %v", err)
	}
}

func TestTokenAllows(t *testing.T) {
	token := Token{Scope: "5301", Kinds: []string{"alarm", "gateway.started"}}
	for scope, want := range map[string]bool{"53": false, "5301": true, "530102": true, "530102001003": true, "5302": false, "44": false} {
		if got := token.AllowsScope(scope); got != want {
			t.Errorf("scope %s: %v", scope, got)
		}
	}
	for kind, want := range map[string]bool{
		"alarm": true, "alarm.raised": true, "alarms": false, "alarm-x": false, "gateway": false, "gateway.started": true, "gateway.started.x": true, "gap": false,
	} {
		if got := token.AllowsKind(kind); got != want {
			t.Errorf("kind %s: %v", kind, got)
		}
	}
	if !(Token{Kinds: []string{AllKinds}}).AllowsKind("anything.at.all") {
		t.Error("* does not allow all")
	}
}
