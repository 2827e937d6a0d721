package web

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gatehouse/drivers"
	"gatehouse/edge/internal/alarm"
	"gatehouse/edge/internal/bus"
)

// ErrUnknown occurs when there is no bus or device of that id.
var ErrUnknown = errors.New("no such bus or device")

// ErrUnrecorded occurs when an order was carried out and its outcome could not
// be put on record.
var ErrUnrecorded = errors.New("carried out, but the outcome is not on record")

// commandTimeout bounds an order: longer than any command may take.
const commandTimeout = 20 * time.Second

// traceHold is how long a question for frames waits for one.
const traceHold = 3 * time.Second

// Fieldwork is what the control socket asks of the buses and devices.
type Fieldwork interface {
	Buses() []BusView
	Trace(ctx context.Context, bus string, after uint64) ([]bus.Frame, error)
	Commands(device string) ([]string, error)
	Command(ctx context.Context, device, name, actor string) error
}

// BusView is one link as JSON. Budget and LifeSafety are shares of the line's
// time that the poll plan needs; above 1 it does not fit.
type BusView struct {
	ID         string  `json:"id"`
	Link       string  `json:"link"`
	Up         bool    `json:"up"`
	Budget     float64 `json:"budget"`
	LifeSafety float64 `json:"life_safety"`
	Warning    string  `json:"warning,omitempty"`
	Hint       string  `json:"hint,omitempty"`
}

// FrameView is one frame of a trace as JSON.
type FrameView struct {
	Seq    uint64    `json:"seq"`
	At     time.Time `json:"at"`
	Device string    `json:"device"`
	Dir    string    `json:"dir"` // tx: sent by the gateway; rx
	Bytes  string    `json:"bytes"`
	Hidden int       `json:"hidden,omitempty"`
	Note   string    `json:"note,omitempty"`
}

// CommandRequest is the body of an order.
type CommandRequest struct {
	Actor string `json:"actor"`
}

// CommandView is an order that was carried out; Note says what is still to come.
type CommandView struct {
	Device  string `json:"device"`
	Command string `json:"command"`
	By      string `json:"by"`
	Note    string `json:"note,omitempty"`
}

func (c *Control) listBuses(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, c.o.Fieldwork.Buses())
}

func (c *Control) traceBus(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint(r.FormValue("after"), 10, 63)
	if r.FormValue("after") != "" && err != nil {
		answer(w, http.StatusBadRequest, Failure{"after is no sequence number", ""})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), traceHold)
	defer cancel()
	frames, err := c.o.Fieldwork.Trace(ctx, r.PathValue("id"), after)
	if errors.Is(err, ErrUnknown) {
		answer(w, http.StatusNotFound, Failure{"there is no bus " + strconv.Quote(r.PathValue("id")), "the buses are: " + c.busNames()})
		return
	}
	views := []FrameView{} // none came in time
	for _, f := range frames {
		v := FrameView{Seq: f.Seq, At: f.At, Device: f.Device, Dir: "rx", Bytes: strings.ToUpper(hex.EncodeToString(f.Bytes)), Hidden: f.Hidden, Note: f.Note}
		if f.Sent {
			v.Dir = "tx"
		}
		views = append(views, v)
	}
	answer(w, http.StatusOK, views)
}

func (c *Control) busNames() string {
	var names []string
	for _, b := range c.o.Fieldwork.Buses() {
		names = append(names, b.ID)
	}
	return strings.Join(names, ", ")
}

func (c *Control) listCommands(w http.ResponseWriter, r *http.Request) {
	names, err := c.o.Fieldwork.Commands(r.PathValue("id"))
	if err != nil {
		answer(w, http.StatusNotFound, Failure{"there is no device " + strconv.Quote(r.PathValue("id")), "see the devices with: gatehouse points"})
		return
	}
	answer(w, http.StatusOK, append([]string{}, names...))
}

func (c *Control) commandDevice(w http.ResponseWriter, r *http.Request) {
	var req CommandRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&req); err != nil {
		answer(w, http.StatusBadRequest, Failure{"the request is not JSON: " + err.Error(), ""})
		return
	}
	if !alarm.ValidName(req.Actor) {
		answer(w, http.StatusBadRequest, Failure{"an order needs a name: 1 to 64 printable characters", "say who you are with --by NAME"})
		return
	}
	device, name := r.PathValue("id"), r.PathValue("name")
	// A line that breaks, or a person who loses patience, stops no command half way.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), commandTimeout)
	defer cancel()
	err := c.o.Fieldwork.Command(ctx, device, name, req.Actor)
	switch {
	case err == nil:
		answer(w, http.StatusOK, CommandView{device, name, req.Actor, ""})
	case errors.Is(err, ErrUnknown), errors.Is(err, bus.ErrNoCommand):
		answer(w, http.StatusNotFound, Failure{err.Error(), "see what can be ordered with: gatehouse command DEVICE"})
	case errors.Is(err, drivers.ErrRefused):
		answer(w, http.StatusConflict, Failure{err.Error(), "the device answered that it will not: look at it before you order again"})
	case errors.Is(err, bus.ErrNotBegun):
		answer(w, http.StatusServiceUnavailable, Failure{err.Error(), "nothing was sent: look at the link with gatehouse buses, and order again"})
	case errors.Is(err, drivers.ErrUnderway), errors.Is(err, ErrUnrecorded):
		answer(w, http.StatusAccepted, CommandView{device, name, req.Actor, err.Error()})
	case errors.Is(err, drivers.ErrNoReply), errors.Is(err, drivers.ErrLinkDown), errors.Is(err, drivers.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		answer(w, http.StatusGatewayTimeout, Failure{err.Error(), "nobody knows whether it was carried out: look at the device before you order again"})
	default:
		answer(w, http.StatusInternalServerError, Failure{err.Error(), ""})
	}
}
