package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// AllKinds in a token's list stands for every kind there is or will be.
const AllKinds = "*"

// ErrToken occurs when a bearer shows no token that is known and valid now.
var ErrToken = errors.New("unknown or expired token")

var kindForm = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)

// ValidScope reports whether s is a division prefix at one of the five levels.
func ValidScope(s string) bool {
	switch len(s) {
	case 2, 4, 6, 9, 12:
	default:
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// ValidKind reports whether s is a record kind or a prefix of kinds.
func ValidKind(s string) bool { return len(s) <= 64 && kindForm.MatchString(s) }

// AllowsScope reports whether t may read scope.
func (t Token) AllowsScope(scope string) bool { return strings.HasPrefix(scope, t.Scope) }

// AllowsKind reports whether t may read kind, or all kinds under it.
func (t Token) AllowsKind(kind string) bool {
	return slices.ContainsFunc(t.Kinds, func(k string) bool {
		return k == AllKinds || k == kind || strings.HasPrefix(kind, k+".")
	})
}

// CreateToken makes a token and returns the string its bearer shows, which is
// not kept. A zero expires means never.
func (r *Registry) CreateToken(ctx context.Context, scope string, kinds []string, expires time.Time) (t Token, bearer string, err error) {
	if !ValidScope(scope) {
		return t, "", fmt.Errorf("%w scope %q (hint: the first 2, 4, 6, 9 or 12 digits of a division code)", ErrInvalid, scope)
	}
	if len(kinds) == 0 {
		return t, "", fmt.Errorf("%w kinds: none given (hint: a list as in alarm,gateway, or * for all)", ErrInvalid)
	}
	for _, k := range kinds {
		if k != AllKinds && !ValidKind(k) {
			return t, "", fmt.Errorf("%w kind %q (hint: a kind as in alarm.raised, a prefix as in alarm, or *)", ErrInvalid, k)
		}
	}
	now := r.now().UTC()
	if !expires.IsZero() && !expires.After(now) {
		return t, "", fmt.Errorf("%w expiry %s: already over", ErrInvalid, expires.Format(time.RFC3339))
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	t = Token{ID: hex.EncodeToString(id[:]), Scope: scope, Kinds: kinds, Created: now, Expires: expires}
	secret := newSecret()
	stored := &storedToken{Token: t, Secret: newDigest(secret)}
	if err := r.put(ctx, tokenPrefix+t.ID, stored); err != nil {
		return Token{}, "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[t.ID] = stored
	return t, t.ID + "." + secret, nil
}

// Tokens lists all tokens by time of creation.
func (r *Registry) Tokens(context.Context) ([]Token, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Token, 0, len(r.tokens))
	for _, t := range r.tokens {
		list = append(list, t.Token)
	}
	slices.SortFunc(list, func(a, b Token) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// Token returns what the bearer may do.
func (r *Registry) Token(bearer string) (Token, error) {
	id, secret, _ := strings.Cut(bearer, ".")
	r.mu.RLock()
	t := r.tokens[id]
	r.mu.RUnlock()
	if t == nil || !t.Secret.matches(secret) || !t.Expires.IsZero() && !r.now().Before(t.Expires) {
		return Token{}, ErrToken
	}
	return t.Token, nil
}
