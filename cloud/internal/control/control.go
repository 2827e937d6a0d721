// Package control is how commands reach a running service: HTTP over a Unix
// socket in the data directory.
//
// It guarantees: only the user who runs the service (and root) can connect;
// the Client behaves as the registry behind the socket does.
package control

import (
	"context"
	"time"

	"gatehouse/cloud/internal/fleet"
)

// SocketName is the socket's file name in the data directory.
const SocketName = "control.sock"

// Admin is what can be done to the fleet.
type Admin interface {
	AddGateway(ctx context.Context, id, division string) (secret string, err error)
	Gateways(ctx context.Context) ([]fleet.Gateway, error)
	CreateToken(ctx context.Context, scope string, kinds []string, expires time.Time) (t fleet.Token, bearer string, err error)
	Tokens(ctx context.Context) ([]fleet.Token, error)
}

// NewGateway asks for a gateway, and SecretGateway answers.
type NewGateway struct {
	ID       string `json:"id"`
	Division string `json:"division"`
}

// SecretGateway is a new gateway with the secret that is shown once.
type SecretGateway struct {
	NewGateway
	Secret string `json:"secret"`
}

// NewToken asks for a token, and SecretToken answers.
type NewToken struct {
	Scope   string    `json:"scope"`
	Kinds   []string  `json:"kinds"`
	Expires time.Time `json:"expires,omitzero"`
}

// SecretToken is a new token with the bearer string that is shown once.
type SecretToken struct {
	fleet.Token
	Bearer string `json:"token"`
}

// failure is the answer to what could not be done.
type failure struct {
	Error string `json:"error"`
}
