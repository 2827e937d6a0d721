package api

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// problem is an error as a client reads it, RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Param  string `json:"param,omitempty"` // the query parameter at fault
	Hint   string `json:"hint,omitempty"`  // what to do next
}

func badParam(param, detail, hint string) *problem {
	return &problem{Status: http.StatusBadRequest, Title: "invalid parameter", Param: param, Detail: detail, Hint: hint}
}

func badQuery(err error) *problem {
	return &problem{Status: http.StatusBadRequest, Title: "invalid query", Detail: err.Error(),
		Hint: "join parameters with & and write %, ; and + in a value as %25, %3B and %2B"}
}

func (a *API) refuse(w http.ResponseWriter, p problem) {
	p.Type = "about:blank"
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte(`{"title":"error"}`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="gatehouse"`)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // a client that went away needs no answer
	a.requests.WithLabelValues(strconv.Itoa(p.Status)).Inc()
}
