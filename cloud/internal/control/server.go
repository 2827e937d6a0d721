package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"gatehouse/cloud/internal/fleet"
)

// maxRequest bounds what a command may send.
const maxRequest = 64 << 10

// Server is a listening control socket. Close ends it.
type Server struct {
	http *http.Server
	done chan struct{}
}

// Listen serves admin on the socket at path. The caller must own the data
// directory: a socket left there by a killed process is replaced.
func Listen(path string, admin Admin, log *slog.Logger) (*Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w (hint: the data directory's path may be too long for a socket; 100 bytes are safe)", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s := &Server{
		http: &http.Server{Handler: routes(admin), ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket", "err", err)
		}
	}()
	return s, nil
}

// Close ends the server after the requests under way, or after a second.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.done
}

func routes(admin Admin) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /gateways", func(w http.ResponseWriter, r *http.Request) {
		list, err := admin.Gateways(r.Context())
		answer(w, list, err)
	})
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, r *http.Request) {
		list, err := admin.Tokens(r.Context())
		answer(w, list, err)
	})
	mux.HandleFunc("POST /gateways", func(w http.ResponseWriter, r *http.Request) {
		var req NewGateway
		if !decode(w, r, &req) {
			return
		}
		secret, err := admin.AddGateway(r.Context(), req.ID, req.Division)
		answer(w, SecretGateway{NewGateway: req, Secret: secret}, err)
	})
	mux.HandleFunc("POST /tokens", func(w http.ResponseWriter, r *http.Request) {
		var req NewToken
		if !decode(w, r, &req) {
			return
		}
		t, bearer, err := admin.CreateToken(r.Context(), req.Scope, req.Kinds, req.Expires)
		answer(w, SecretToken{Token: t, Bearer: bearer}, err)
	})
	return mux
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		write(w, http.StatusBadRequest, failure{Error: err.Error()})
		return false
	}
	return true
}

func answer(w http.ResponseWriter, v any, err error) {
	switch {
	case err == nil:
		write(w, http.StatusOK, v)
	case errors.Is(err, fleet.ErrInvalid):
		write(w, http.StatusBadRequest, failure{Error: err.Error()})
	case errors.Is(err, fleet.ErrExists):
		write(w, http.StatusConflict, failure{Error: err.Error()})
	default:
		write(w, http.StatusInternalServerError, failure{Error: err.Error()})
	}
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a command that went away needs no answer
}
