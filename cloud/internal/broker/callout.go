package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"gatehouse/protocol/wire"
)

// errRefused is all a refused client gets to know.
var errRefused = errors.New("unknown gateway, wrong secret or foreign client id")

// Authenticator knows the gateways.
type Authenticator interface {
	// Authenticate reports whether secret is the gateway's.
	Authenticate(gateway, secret string) bool
}

// Authorize lets in the gateways that a knows. Until it is called nobody gets
// in. Of the server's ways to authenticate only the callout sees the MQTT
// client id, and a client id that is not bound to the login could be taken
// over by any other gateway.
func (b *Broker) Authorize(ctx context.Context, a Authenticator) error {
	nc, err := b.Connect("authorization")
	if err != nil {
		return err
	}
	b.callout = nc
	_, err = nc.Subscribe(server.AuthCalloutSubject, func(m *nats.Msg) {
		reply, err := b.authorize(a, m.Data)
		if err != nil {
			b.log.Warn("authorization request", "err", err)
			return
		}
		if err := m.Respond([]byte(reply)); err != nil {
			b.log.Warn("authorization answer", "err", err)
		}
	})
	if err != nil {
		return fmt.Errorf("answer authorization requests: %w", err)
	}
	return nc.FlushWithContext(ctx)
}

// Refused counts the logins refused since start.
func (b *Broker) Refused() uint64 { return b.refused.Load() }

// authorize returns the signed answer to one request.
func (b *Broker) authorize(a Authenticator, request []byte) (string, error) {
	req, err := jwt.DecodeAuthorizationRequestClaims(string(request))
	if err != nil {
		return "", fmt.Errorf("decode request: %w", err)
	}
	answer := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	answer.Audience = req.Server.ID
	gateway := req.ConnectOptions.Username
	ours := wire.ValidGatewayID(gateway) && req.ClientInformation.MQTT == gateway
	if ours && a.Authenticate(gateway, req.ConnectOptions.Password) {
		if answer.Jwt, err = b.userClaims(req.UserNkey, gateway); err != nil {
			return "", err
		}
	} else {
		b.refused.Add(1)
		answer.Error = errRefused.Error()
	}
	return answer.Encode(b.issuer)
}

// userClaims grants a gateway its own subjects. An MQTT client needs none
// beside them: what the server does for sessions and QoS 1 it does in its own
// name. A gateway that subscribes at QoS 1 costs a durable consumer, at most
// one since there is one topic to subscribe to; QoS 0 is enough, because an
// ack that is lost is given again.
func (b *Broker) userClaims(key, gateway string) (string, error) {
	u := jwt.NewUserClaims(key)
	u.Name, u.Audience = gateway, account
	for _, lane := range wire.Lanes {
		u.Pub.Allow.Add("gw." + gateway + ".v1." + lane.String())
	}
	u.Sub.Allow.Add("gw." + gateway + ".v1.ack")
	u.AllowedConnectionTypes.Add(jwt.ConnectionTypeMqtt)
	s, err := u.Encode(b.issuer)
	if err != nil {
		return "", fmt.Errorf("sign grant of %s: %w", gateway, err)
	}
	return s, nil
}
