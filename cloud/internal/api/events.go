package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gatehouse/cloud/internal/eventlog"
)

const (
	contentType  = "application/cloudevents-batch+json"
	cursorHeader = "Gatehouse-Cursor"

	readTimeout  = 20 * time.Second // for the log to answer
	writeTimeout = 30 * time.Second // for the client to take a page
)

// getEvents answers GET /v1/events.
func (a *API) getEvents(w http.ResponseWriter, r *http.Request) {
	token, err := a.bearer(r)
	if err != nil {
		a.refuse(w, problem{Status: http.StatusUnauthorized, Title: err.Error(),
			Hint: "send Authorization: Bearer with a token made by gatehouse-cloud token create"})
		return
	}
	leave, ok := a.enter(token.ID)
	if !ok {
		w.Header().Set("Retry-After", "1")
		a.refuse(w, problem{Status: http.StatusTooManyRequests, Title: "too many requests of this token at once",
			Hint: "finish one before the next, or use a token per reader"})
		return
	}
	defer leave()
	values, err := url.ParseQuery(r.URL.RawQuery) // not URL.Query, which drops what it cannot parse
	if err != nil {
		a.refuse(w, *badQuery(err))
		return
	}
	q, bad := parseQuery(values, token)
	if bad != nil {
		a.refuse(w, *bad)
		return
	}
	entries, next, err := a.collect(r.Context(), q)
	switch {
	case err == nil:
		a.answer(w, entries, next)
	case errors.Is(err, eventlog.ErrOtherFilter):
		a.refuse(w, *badParam("cursor", err.Error(), "keep scope, kind and drill as they were, or start over without a cursor"))
	case r.Context().Err() != nil: // nobody is left to be answered
	default:
		a.opt.Logger.Error("read events", "err", err)
		a.refuse(w, problem{Status: http.StatusServiceUnavailable, Title: "the event log does not answer", Hint: "try again in a few seconds with the same cursor"})
	}
}

// collect reads a page, waiting for it if there is none yet.
func (a *API) collect(ctx context.Context, q query) ([]eventlog.Entry, eventlog.Cursor, error) {
	var news <-chan struct{}
	var timeout <-chan time.Time
	if q.wait > 0 {
		n, stop := a.opt.Log.Watch(q.filter)
		defer stop()
		t := time.NewTimer(q.wait)
		defer t.Stop()
		news, timeout = n, t.C
	}
	cur, err := a.start(ctx, q)
	if err != nil {
		return nil, cur, err
	}
	for {
		entries, next, err := a.read(ctx, q, cur)
		if err != nil || len(entries) > 0 || q.wait == 0 {
			return entries, next, err
		}
		moved := next != cur
		if cur = next; moved {
			select {
			case <-timeout:
				return nil, next, nil
			default:
				continue // there may be more that way
			}
		}
		a.waiting.Inc()
		select {
		case <-news:
			a.waiting.Dec()
		case <-timeout:
			a.waiting.Dec()
			return nil, next, nil
		case <-a.opt.Stopping.Done():
			a.waiting.Dec()
			return nil, next, nil
		case <-ctx.Done():
			a.waiting.Dec()
			return nil, next, ctx.Err()
		}
	}
}

// start returns where the page begins. Since counts only without a cursor: it
// is a place to start, not a filter.
func (a *API) start(ctx context.Context, q query) (eventlog.Cursor, error) {
	if q.cursor != nil {
		return *q.cursor, nil
	}
	if q.since.IsZero() {
		return eventlog.Cursor{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return a.opt.Log.Since(ctx, q.filter, q.since)
}

func (a *API) read(ctx context.Context, q query, cur eventlog.Cursor) ([]eventlog.Entry, eventlog.Cursor, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return a.opt.Log.Read(ctx, q.filter, cur, q.limit)
}

// answer writes a page.
func (a *API) answer(w http.ResponseWriter, entries []eventlog.Entry, next eventlog.Cursor) {
	var body bytes.Buffer
	body.WriteByte('[')
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	for i, e := range entries {
		if i > 0 {
			body.WriteByte(',')
		}
		if err := enc.Encode(newEvent(e)); err != nil {
			a.opt.Logger.Error("render event", "id", e.Record.ID, "err", err)
			a.refuse(w, problem{Status: http.StatusInternalServerError, Title: "an event cannot be rendered"})
			return
		}
	}
	body.WriteString("]\n")
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(cursorHeader, next.String())
	// The server's own write deadline would count the waiting too.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := w.Write(body.Bytes()); err != nil {
		return // the client went away; it will ask again with its old cursor
	}
	a.requests.WithLabelValues("200").Inc()
	a.events.Add(float64(len(entries)))
}
