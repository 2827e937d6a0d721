package config

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"gatehouse/protocol/point"
)

// notInThisRelease checks the sections that no part of the daemon acts on yet,
// so that a file written today stays valid, and says plainly that they do
// nothing.
func (l *loader) notInThisRelease() {
	const hint = "keep it for a later release, and do not rely on it"
	if l.Has("web") {
		l.warn("web", hint, "this release has no local page")
	}
	if len(l.cfg.Cameras) > 0 {
		l.warn("cameras", hint, "this release records no pictures")
	}
	if len(l.cfg.Residents) > 0 {
		l.warn("residents", hint, "this release watches over no residents")
	}
	if len(l.cfg.Notify) > 0 {
		what := "this release sends no notices"
		if slices.ContainsFunc(l.cfg.Notify, func(n Notifier) bool { return slices.Contains(n.Priorities, "P1") }) {
			what = "NOBODY WILL BE NOTIFIED OF P1 ALARMS: this release sends no notices"
		}
		l.warn("notify", "alarms reach people through the local siren and the cloud only", "%s", what)
	}
	l.cameras()
	l.residents()
	l.notify()
}

func (l *loader) cameras() {
	ids := make(map[string]bool)
	for i, c := range l.cfg.Cameras {
		key := fmt.Sprintf("cameras[%d]", i)
		l.identify(key, c.ID, ids)
		if u, err := url.Parse(c.URL); l.required(key+".url", c.URL, "write rtsp://HOST/…") {
			switch {
			case err != nil || u.Host == "" || u.Scheme != "rtsp":
				l.Fail(key+".url", "write rtsp://HOST/…", "is no camera address")
			case u.User != nil:
				l.Fail(key+".url", "use user and password_file", "carries credentials")
			}
		}
		if c.PasswordFile != "" {
			l.secret(key+".password_file", c.PasswordFile)
		}
	}
}

func (l *loader) residents() {
	ids := make(map[string]bool)
	for i, r := range l.cfg.Residents {
		key := fmt.Sprintf("residents[%d]", i)
		l.identify(key, r.ID, ids)
		l.required(key+".place", r.Place, "say where the resident lives: building/unit/room")
		if r.Door != "" {
			l.pointID(key+".door", r.Door)
		}
		for j, id := range r.SignsOfLife {
			l.pointID(fmt.Sprintf("%s.signs_of_life[%d]", key, j), id)
		}
		if r.Consent == nil {
			l.Fail(key+".consent", "no resident is watched over without it: {by: 本人, signed: 2026-11-01, document: …}", "is missing")
			continue
		}
		l.required(key+".consent.by", r.Consent.By, "say who agreed: 本人 or 监护人")
		l.required(key+".consent.document", r.Consent.Document, "say where the signed paper is kept")
		if _, err := time.Parse(time.DateOnly, r.Consent.Signed); err != nil {
			l.Fail(key+".consent.signed", "write it as 2026-11-01", "%q is no date", r.Consent.Signed)
		}
	}
}

func (l *loader) pointID(key, id string) {
	if _, err := point.ParseID(id); err != nil {
		l.Fail(key, "write device/point", "%q is no point id", id)
	}
}

func (l *loader) notify() {
	ids := make(map[string]bool)
	for i, n := range l.cfg.Notify {
		key := fmt.Sprintf("notify[%d]", i)
		l.identify(key, n.ID, ids)
		if l.required(key+".kind", n.Kind, "write webhook") && n.Kind != "webhook" {
			l.Fail(key+".kind", "write webhook", "unknown kind %q", n.Kind)
		}
		if l.required(key+".url_file", n.URLFile, "name the file that holds the address") {
			l.secret(key+".url_file", n.URLFile)
		}
		for j, p := range n.Priorities {
			if !slices.Contains([]string{"P1", "P2", "P3", "P4"}, p) {
				l.Fail(fmt.Sprintf("%s.priorities[%d]", key, j), "P1 life, P2 urgent, P3 same day, P4 maintenance", "%q is no priority", p)
			}
		}
	}
}
