// Package fleet knows who may talk to the cloud: gateways with their division
// and secret, platforms with their tokens.
//
// It guarantees: a secret or token is shown once, when it is made, and only
// its hash is kept; what Add or Create returned is durable; Authenticate and
// Token answer from memory, in constant time as to the secret.
//
// Secrets are 256 random bits made here, never chosen by people, so there is
// nothing to guess and a slow hash would only slow down a reconnect storm:
// a salted SHA-256 is enough.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gatehouse/protocol/wire"
)

// Errors an operator can meet.
var (
	// ErrExists occurs when a gateway id is taken.
	ErrExists = errors.New("gateway exists")
	// ErrInvalid occurs when an argument is not what it must be.
	ErrInvalid = errors.New("invalid")
)

const (
	bucket        = "fleet"
	gatewayPrefix = "gateway."
	tokenPrefix   = "token."
	seenPrefix    = "seen."

	// seenEvery is how far behind the stored last-seen time may be.
	seenEvery = 10 * time.Minute
)

// Gateway is one box as the cloud knows it.
type Gateway struct {
	ID       string    `json:"id"`
	Division string    `json:"division"`
	Created  time.Time `json:"created"`
	LastSeen time.Time `json:"last_seen,omitzero"`
}

// Token is what a bearer may pull.
type Token struct {
	ID      string    `json:"id"`
	Scope   string    `json:"scope"`
	Kinds   []string  `json:"kinds"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// storedGateway and storedToken are the values in the bucket.
type storedGateway struct {
	Gateway
	Secret digest `json:"secret"`
}

type storedToken struct {
	Token
	Secret digest `json:"secret"`
}

// Options say where the registry lives.
type Options struct {
	Conn *nats.Conn       // required
	Log  *slog.Logger     // required
	Now  func() time.Time // time.Now if nil
}

// Registry is the fleet in memory, written through to a key-value bucket. One
// process owns it at a time.
type Registry struct {
	kv  jetstream.KeyValue
	log *slog.Logger
	now func() time.Time

	mu       sync.RWMutex // guards all below
	gateways map[string]*storedGateway
	tokens   map[string]*storedToken
	stored   map[string]time.Time // last-seen times as they stand in the bucket
}

// Open loads the registry.
func Open(ctx context.Context, o Options) (*Registry, error) {
	if o.Conn == nil || o.Log == nil {
		return nil, errors.New("fleet: Conn and Log are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucket, Description: "gateways and tokens", History: 1, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	r := &Registry{
		kv: kv, log: o.Log, now: o.Now,
		gateways: map[string]*storedGateway{}, tokens: map[string]*storedToken{}, stored: map[string]time.Time{},
	}
	return r, r.load(ctx)
}

// load reads the whole bucket once.
func (r *Registry) load(ctx context.Context) error {
	w, err := r.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read bucket %s: %w", bucket, err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case e := <-w.Updates():
			if e == nil { // all there is has been seen
				r.mergeSeen()
				return nil
			}
			if err := r.take(e.Key(), e.Value()); err != nil {
				return fmt.Errorf("bucket %s, key %s: %w", bucket, e.Key(), err)
			}
		case <-ctx.Done():
			return fmt.Errorf("read bucket %s: %w", bucket, ctx.Err())
		}
	}
}

func (r *Registry) take(key string, value []byte) error {
	switch {
	case strings.HasPrefix(key, gatewayPrefix):
		var g storedGateway
		if err := json.Unmarshal(value, &g); err != nil {
			return err
		}
		r.gateways[g.ID] = &g
	case strings.HasPrefix(key, tokenPrefix):
		var t storedToken
		if err := json.Unmarshal(value, &t); err != nil {
			return err
		}
		r.tokens[t.ID] = &t
	case strings.HasPrefix(key, seenPrefix):
		var at time.Time
		if err := at.UnmarshalText(value); err != nil {
			return err
		}
		r.stored[strings.TrimPrefix(key, seenPrefix)] = at
	}
	return nil
}

func (r *Registry) mergeSeen() {
	for id, at := range r.stored {
		if g := r.gateways[id]; g != nil {
			g.LastSeen = at
		}
	}
}

func (r *Registry) put(ctx context.Context, key string, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := r.kv.Create(ctx, key, p); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

var divisionForm = regexp.MustCompile(`^[0-9]{12}$`)

// AddGateway registers a box and returns its secret, which is not kept.
func (r *Registry) AddGateway(ctx context.Context, id, division string) (secret string, err error) {
	if !wire.ValidGatewayID(id) {
		return "", fmt.Errorf("%w gateway id %q (hint: 1 to 64 of A-Z, a-z, 0-9, '_' and '-')", ErrInvalid, id)
	}
	if !divisionForm.MatchString(division) {
		return "", fmt.Errorf("%w division %q (hint: the 12-digit statistical division code, as in 530102001003)", ErrInvalid, division)
	}
	secret = newSecret()
	g := &storedGateway{Gateway: Gateway{ID: id, Division: division, Created: r.now().UTC()}, Secret: newDigest(secret)}
	if err := r.put(ctx, gatewayPrefix+id, g); err != nil {
		if errors.Is(err, jetstream.ErrKeyExists) {
			return "", fmt.Errorf("%w: %s (hint: choose another id)", ErrExists, id)
		}
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gateways[id] = g
	return secret, nil
}

// Gateways lists all boxes by id.
func (r *Registry) Gateways(context.Context) ([]Gateway, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Gateway, 0, len(r.gateways))
	for _, g := range r.gateways {
		list = append(list, g.Gateway)
	}
	slices.SortFunc(list, func(a, b Gateway) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Len counts the gateways.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.gateways)
}

// Division returns where a gateway stands.
func (r *Registry) Division(gateway string) (division string, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g := r.gateways[gateway]
	if g == nil {
		return "", false
	}
	return g.Division, true
}

// Authenticate reports whether secret is the gateway's.
func (r *Registry) Authenticate(gateway, secret string) bool {
	r.mu.RLock()
	g := r.gateways[gateway]
	r.mu.RUnlock()
	return g != nil && g.Secret.matches(secret)
}

// Seen notes that a gateway was heard of now.
func (r *Registry) Seen(gateway string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.gateways[gateway]; g != nil {
		g.LastSeen = r.now().UTC()
	}
}
