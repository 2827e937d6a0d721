package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// event is what the demo shows of an event.
type event struct {
	Type string
	Data struct {
		Rule, Place, Point, Title, Priority, Unit string
		Value                                     any
	}
}

// platform pulls events by cursor, as a city's platform does.
type platform struct {
	s      *stage
	cursor string
	raised map[string]bool // rules whose alarms came
}

func newPlatform(s *stage) *platform { return &platform{s: s, raised: make(map[string]bool)} }

// gasRule is the rule of the alarm without which the demo has failed.
const gasRule = "gas-detector"

// pull sends events until ctx ends, waiting at the cloud for news.
func (p *platform) pull(ctx context.Context, events chan<- event) {
	for ctx.Err() == nil {
		page, err := p.page(ctx)
		if err != nil && ctx.Err() == nil {
			p.s.say("platform", "the cloud does not answer: %v", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
		for _, e := range page {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		}
	}
}

func (p *platform) page(ctx context.Context) ([]event, error) {
	q := url.Values{"kind": {"alarm,gap"}, "wait": {"10s"}, "cursor": {p.cursor}}
	if p.cursor == "" {
		q.Del("cursor")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.s.http+"/v1/events?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", resp.Status)
	}
	var page []event
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return nil, err
	}
	p.cursor = resp.Header.Get("Gatehouse-Cursor")
	return page, nil
}

// show prints one event as a person reads it.
func (p *platform) show(e event) {
	d := e.Data
	if e.Type == "alarm.raised" {
		p.raised[d.Rule] = true
	}
	value := ""
	if _, contact := d.Value.(bool); d.Value != nil && !contact {
		value = fmt.Sprintf("  %v %s", d.Value, d.Unit)
	}
	p.s.say("platform", "%-14s %s  %s  %s  %s%s", e.Type, d.Priority, d.Title, d.Place, d.Point, value)
}

// summary says which of the scripted alarms came out of the cloud, each by the
// kind of line it took.
func (p *platform) summary() {
	fmt.Println("\nAlarms that came out of the cloud:")
	for _, part := range parts {
		mark := "no "
		if p.raised[part.rule] {
			mark = "yes"
		}
		fmt.Printf("  %s  %s\n", mark, part.what)
	}
}
