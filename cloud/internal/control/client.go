package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"gatehouse/cloud/internal/fleet"
)

// ErrNotRunning occurs when nothing answers at the socket.
var ErrNotRunning = errors.New("service is not running")

// Client does to a running service what Admin says.
type Client struct {
	http *http.Client
}

// Dial checks that a service listens at path.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	_ = c.Close() // it was only to see who is there
	return &Client{http: &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}},
	}}, nil
}

// AddGateway registers a gateway and returns its secret.
func (c *Client) AddGateway(ctx context.Context, id, division string) (string, error) {
	var g SecretGateway
	err := c.do(ctx, http.MethodPost, "/gateways", NewGateway{ID: id, Division: division}, &g)
	return g.Secret, err
}

// Gateways lists all gateways.
func (c *Client) Gateways(ctx context.Context) (list []fleet.Gateway, err error) {
	err = c.do(ctx, http.MethodGet, "/gateways", nil, &list)
	return list, err
}

// CreateToken makes a token and returns its bearer string.
func (c *Client) CreateToken(ctx context.Context, scope string, kinds []string, expires time.Time) (fleet.Token, string, error) {
	var t SecretToken
	err := c.do(ctx, http.MethodPost, "/tokens", NewToken{Scope: scope, Kinds: kinds, Expires: expires}, &t)
	return t.Token, t.Bearer, err
}

// Tokens lists all tokens.
func (c *Client) Tokens(ctx context.Context) (list []fleet.Token, err error) {
	err = c.do(ctx, http.MethodGet, "/tokens", nil, &list)
	return list, err
}

// kinds are the registry's errors by the status they travel under.
var kinds = map[int]error{http.StatusBadRequest: fleet.ErrInvalid, http.StatusConflict: fleet.ErrExists}

// refusal is the registry's error on this side of the socket.
type refusal struct {
	text string
	kind error // nil if the client cannot tell
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

func (c *Client) do(ctx context.Context, method, path string, send, receive any) error {
	body, err := json.Marshal(send)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the running service: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || f.Error == "" {
			return fmt.Errorf("the running service answered %s", resp.Status)
		}
		return &refusal{text: f.Error, kind: kinds[resp.StatusCode]}
	}
	if err := json.NewDecoder(resp.Body).Decode(receive); err != nil {
		return fmt.Errorf("answer of the running service: %w", err)
	}
	return nil
}
