package control

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"gatehouse/cloud/internal/fleet"
)

// refusing is a registry that refuses everything for one reason.
type refusing struct{ err error }

func (r refusing) AddGateway(context.Context, string, string) (string, error) { return "", r.err }
func (r refusing) Gateways(context.Context) ([]fleet.Gateway, error)          { return nil, r.err }
func (r refusing) Tokens(context.Context) ([]fleet.Token, error)              { return nil, r.err }
func (r refusing) CreateToken(context.Context, string, []string, time.Time) (fleet.Token, string, error) {
	return fleet.Token{}, "", r.err
}

func TestClientErrsAsTheRegistryDoes(t *testing.T) {
	for _, want := range []error{fleet.ErrExists, fleet.ErrInvalid, errors.New("disk gone")} {
		path := filepath.Join(t.TempDir(), SocketName)
		s, err := Listen(path, refusing{want}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.AddGateway(t.Context(), "gw-1", "530102001003")
		if err == nil || err.Error() != want.Error() {
			t.Errorf("error %v, want %v", err, want)
		}
		for _, kind := range []error{fleet.ErrExists, fleet.ErrInvalid} {
			if errors.Is(err, kind) != errors.Is(want, kind) {
				t.Errorf("%v is %v: %t", err, kind, errors.Is(err, kind))
			}
		}
		s.Close()
	}
}
