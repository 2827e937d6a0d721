// Package web is how people and programs reach the running daemon: the control
// socket for the commands, and the listener for metrics and health.
//
// It guarantees: the control socket is mode 0600 and answers only root and the
// daemon's own user, whatever the file's mode has become; every change names
// who made it; a listener that cannot be opened costs only itself and is tried
// again.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/edge/internal/alarm"
	"gatehouse/edge/internal/rule"
	"gatehouse/edge/internal/table"
	"gatehouse/protocol/wire"
)

// ErrRunning occurs when a living daemon answers on the socket already.
var ErrRunning = errors.New("another gatehouse is running on it")

// SocketName is the control socket's name in the store's directory.
const SocketName = "control.sock"

// Alarms is what the control socket asks of the alarm manager.
type Alarms interface {
	List() []alarm.Alarm
	Acknowledge(id wire.EventID, actor string) (alarm.Alarm, error)
}

// Points is what the control socket asks of the table.
type Points interface {
	Snapshot() []table.Entry
}

// AlarmView is an open alarm as JSON.
type AlarmView struct {
	ID         string     `json:"id"`
	Status     string     `json:"status"`
	Priority   string     `json:"priority"`
	Title      string     `json:"title"`
	TitleEN    string     `json:"title_en,omitempty"`
	Rule       string     `json:"rule"`
	Point      string     `json:"point"`
	Name       string     `json:"name,omitempty"`
	Place      string     `json:"place,omitempty"`
	Value      string     `json:"value"`
	Unit       string     `json:"unit,omitempty"`
	Occurrence int        `json:"occurrence"`
	Raised     time.Time  `json:"raised"`
	Cleared    *time.Time `json:"cleared,omitempty"`
	Acked      *time.Time `json:"acknowledged,omitempty"`
	AckedBy    string     `json:"acknowledged_by,omitempty"`
	Remark     string     `json:"remark,omitempty"`
}

// PointView is one point's latest reading as JSON.
type PointView struct {
	Point    string     `json:"point"`
	Name     string     `json:"name,omitempty"`
	Place    string     `json:"place,omitempty"`
	Role     string     `json:"role"`
	Value    string     `json:"value"`
	Unit     string     `json:"unit,omitempty"`
	Quality  string     `json:"quality"`
	At       time.Time  `json:"at"`
	LastGood *time.Time `json:"last_good,omitempty"`
}

// AckRequest is the body of an acknowledgement.
type AckRequest struct {
	Actor string `json:"actor"`
}

// Failure is the body of every error answer.
type Failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// ControlOptions is what a Control needs.
type ControlOptions struct {
	Path      string
	Alarms    Alarms
	Points    Points
	Info      *rule.Catalogue // of each entry of a snapshot
	Fieldwork Fieldwork
	Log       *slog.Logger
}

// Control serves the control socket.
type Control struct {
	o  ControlOptions
	ln net.Listener
}

// ListenControl opens the socket. A socket file that a dead daemon left behind
// is replaced; that of a living one is an error.
func ListenControl(o ControlOptions) (*Control, error) {
	if conn, err := net.Dial("unix", o.Path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("control socket %s: %w: stop that one first, or give this one its own store.dir", o.Path, ErrRunning)
	}
	if err := os.Remove(o.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	old := unix.Umask(0o177)
	ln, err := net.Listen("unix", o.Path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w: is the store's directory there and writable?", err)
	}
	return &Control{o: o, ln: ownerOnly{ln}}, nil
}

// Run serves until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/alarms", c.listAlarms)
	mux.HandleFunc("POST /v1/alarms/{id}/ack", c.ackAlarm)
	mux.HandleFunc("GET /v1/points", c.listPoints)
	mux.HandleFunc("GET /v1/buses", c.listBuses)
	mux.HandleFunc("GET /v1/buses/{id}/trace", c.traceBus)
	mux.HandleFunc("GET /v1/devices/{id}/commands", c.listCommands)
	mux.HandleFunc("POST /v1/devices/{id}/commands/{name}", c.commandDevice)
	return serve(ctx, c.ln, mux)
}

func (c *Control) listAlarms(w http.ResponseWriter, _ *http.Request) {
	views := []AlarmView{}
	for _, a := range c.o.Alarms.List() {
		views = append(views, viewAlarm(a))
	}
	answer(w, http.StatusOK, views)
}

func (c *Control) ackAlarm(w http.ResponseWriter, r *http.Request) {
	id, err := wire.ParseEventID(r.PathValue("id"))
	if err != nil {
		answer(w, http.StatusBadRequest, Failure{err.Error(), "copy the id from: gatehouse alarms list"})
		return
	}
	var req AckRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&req); err != nil {
		answer(w, http.StatusBadRequest, Failure{"the request is not JSON: " + err.Error(), ""})
		return
	}
	a, err := c.o.Alarms.Acknowledge(id, req.Actor)
	switch {
	case errors.Is(err, alarm.ErrNoAlarm):
		answer(w, http.StatusNotFound, Failure{err.Error(), "see the open alarms with: gatehouse alarms list"})
	case errors.Is(err, alarm.ErrNoActor):
		answer(w, http.StatusBadRequest, Failure{err.Error(), "say who you are with --by NAME"})
	case errors.Is(err, alarm.ErrNotDurable):
		answer(w, http.StatusAccepted, viewAlarm(a))
	case err != nil:
		answer(w, http.StatusInternalServerError, Failure{err.Error(), ""})
	default:
		answer(w, http.StatusOK, viewAlarm(a))
	}
}

func (c *Control) listPoints(w http.ResponseWriter, _ *http.Request) {
	views := []PointView{}
	for i, e := range c.o.Points.Snapshot() {
		info := c.o.Info.Info(int32(i))
		views = append(views, PointView{
			Point: string(info.ID), Name: info.Name, Place: info.Place, Role: string(info.Role), Value: e.Latest.Value.String(), Unit: string(info.Unit),
			Quality: e.Latest.Quality.String(), At: e.Latest.At, LastGood: when(e.LastGood.At),
		})
	}
	sort.Slice(views, func(i, j int) bool { return views[i].Point < views[j].Point })
	answer(w, http.StatusOK, views)
}

func viewAlarm(a alarm.Alarm) AlarmView {
	return AlarmView{
		ID: a.ID.String(), Status: string(a.Status()), Priority: fmt.Sprintf("P%d", a.Priority), Title: a.Title, TitleEN: a.TitleEN,
		Rule: a.Rule, Point: string(a.Point), Name: a.Name, Place: a.Place, Value: a.Value.String(), Unit: string(a.Unit),
		Occurrence: a.Occurrence, Raised: a.Raised, Cleared: when(a.Cleared), Acked: when(a.Acked), AckedBy: a.AckedBy, Remark: a.Remark,
	}
}

// when returns nil for the zero time, which JSON would print as year 1.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the asker has gone; nothing to do about it
}

// ownerOnly turns away peers that are neither root nor our own user.
type ownerOnly struct{ net.Listener }

func (l ownerOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUID(conn); err == nil && (uid == 0 || int(uid) == os.Getuid()) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func peerUID(conn net.Conn) (uint32, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("no unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}
