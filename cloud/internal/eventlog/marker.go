package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// markerVersion is the version of the marker's JSON. Fields may be added
	// without raising it as long as a reader that ignores them is right.
	markerVersion = 1
	// maxEarlier bounds how many epochs before the present one are remembered.
	maxEarlier = 8
)

// marker is what the log knows of one gateway's lane: up to where it has all
// there was to have. Its JSON form is stored.
type marker struct {
	Version int    `json:"v,omitempty"` // absent means 1
	Epoch   string `json:"epoch"`
	Last    uint64 `json:"last"`
	Earlier []mark `json:"earlier,omitempty"` // epochs before, latest first

	at uint64 // its own sequence in the stream; 0 if there is none
}

// mark is how far one epoch came.
type mark struct {
	Epoch string `json:"epoch"`
	Last  uint64 `json:"last"`
}

// lastOf returns up to where an epoch is complete, if the marker knows it.
func (m marker) lastOf(epoch string) (last uint64, ok bool) {
	if m.Epoch == epoch {
		return m.Last, m.at != 0
	}
	for _, e := range m.Earlier {
		if e.Epoch == epoch {
			return e.Last, true
		}
	}
	return 0, false
}

// moved returns the marker after epoch became complete up to last. An epoch
// that ends, or gives way to an older copy of its gateway, is kept among the
// earlier ones: should it come back, it goes on from where it was.
func (m marker) moved(epoch string, last uint64) marker {
	next := marker{Epoch: epoch, Last: last, Earlier: m.Earlier}
	if m.at == 0 || m.Epoch == epoch {
		return next
	}
	next.Earlier = []mark{{Epoch: m.Epoch, Last: m.Last}}
	for _, e := range m.Earlier {
		if e.Epoch != epoch && len(next.Earlier) < maxEarlier {
			next.Earlier = append(next.Earlier, e)
		}
	}
	return next
}

// parseMarker is the inverse of the marker's JSON form.
func parseMarker(p []byte, at uint64) (marker, error) {
	m := marker{Version: markerVersion, at: at}
	if err := json.Unmarshal(p, &m); err != nil {
		return marker{}, err
	}
	if m.Version > markerVersion {
		return marker{}, fmt.Errorf("%w: marker of version %d", ErrFormat, m.Version)
	}
	m.Version = 0
	return m, nil
}

// marker returns what is known of a gateway's lane, from memory or the stream.
func (ln *lane) marker(ctx context.Context, gateway string) (marker, error) {
	ln.mu.Lock()
	m, ok := ln.markers[gateway]
	ln.mu.Unlock()
	if ok {
		return m, nil
	}
	msg, err := ln.stream.GetLastMsgForSubject(ctx, markSubject(ln.id, gateway))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return marker{}, fmt.Errorf("%w: marker of %s: %w", ErrStore, gateway, err)
	default:
		if m, err = parseMarker(msg.Data, msg.Sequence); err != nil {
			return marker{}, fmt.Errorf("%w: marker of %s: %w", ErrStore, gateway, err)
		}
	}
	ln.learn(gateway, m)
	return m, nil
}

func (ln *lane) learn(gateway string, m marker) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	m.Earlier = slices.Clip(m.Earlier) // shared from here on, never written
	ln.markers[gateway] = m
}

func (ln *lane) forget(gateway string) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	delete(ln.markers, gateway)
}
