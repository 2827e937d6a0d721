package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/drivers"
	"gatehouse/drivers/all"
	"gatehouse/edge/internal/bus"
	"gatehouse/edge/internal/config"
	"gatehouse/edge/internal/keyring"
	"gatehouse/edge/internal/web"
	"gatehouse/protocol/point"
	"gatehouse/protocol/wire"
)

// credentialSize is how many bytes of a keyed hash stand for a card: enough
// that no two cards of a city are taken for each other.
const credentialSize = 16

// hashCards returns the only form in which a credential leaves a driver: HMAC
// under the compound's own key. Without a key there is none, and drivers of
// devices that read cards refuse to be built.
func hashCards(key string) func(credential []byte) string {
	if key == "" {
		return nil
	}
	return func(credential []byte) string {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write(credential)
		return hex.EncodeToString(mac.Sum(nil)[:credentialSize])
	}
}

// readsCards reports whether a device has a point whose value is a credential.
func readsCards(s drivers.Spec) bool {
	for _, p := range s.Points {
		if p.Role == "card" || p.Role == "keypad" {
			return true
		}
	}
	return false
}

// attach builds the driver of one device and puts it on its bus.
func attach(b *bus.Bus, dp config.DevicePlan, plan config.Plan, log *slog.Logger) error {
	factory := all.Factories[dp.Driver]
	if factory == nil {
		return fmt.Errorf("no driver %q", dp.Driver)
	}
	deps := drivers.Deps{
		Link: b.Link(dp.Spec.Device, dp.Timing), Log: log.With("device", dp.Spec.Device), Now: time.Now,
	}
	if readsCards(dp.Spec) {
		deps.Card = hashCards(plan.CardKey)
	}
	if dp.Driver == "osdp" {
		path := dp.KeyFile
		if path == "" {
			path = filepath.Join(plan.Config.Store.Dir, "keys", dp.Spec.Device+".key")
		}
		deps.Key = openKeys(path, log)
	}
	d, err := factory(dp.Spec, deps)
	if err != nil {
		return err
	}
	return b.Attach(dp.Spec.Device, d)
}

// openKeys opens a key file. One that cannot be used costs its reader the secure
// channel, which is an alarm as long as it lasts, and nobody else anything.
func openKeys(path string, log *slog.Logger) *keyring.Ring {
	ring, err := keyring.Open(path)
	if err != nil {
		log.Error("the key of a door reader cannot be used: nothing it says of cards is believed", "err", err,
			"hint", "put the key file right and start gatehouse again")
		return keyring.Unreadable(err)
	}
	return ring
}

// find returns the bus of that id, or nil.
func (s *busSet) find(id string) *liveBus {
	for _, b := range s.list {
		if b.id == id {
			return b
		}
	}
	return nil
}

// fieldwork is what a person may see and order of the buses.
type fieldwork struct {
	buses  *busSet
	record func(lane wire.Lane, kind string, body []byte) wire.Record
	commit func(key string, state []byte, recs ...wire.Record) error
	log    *slog.Logger
}

// Buses lists the links and how full they are.
func (f fieldwork) Buses() []web.BusView {
	views := make([]web.BusView, len(f.buses.list))
	for i, b := range f.buses.list {
		budget := b.bus.Budget()
		what, hint := b.bus.Warning()
		views[i] = web.BusView{ID: b.id, Link: b.bus.Address(), Up: b.bus.Up(), Budget: budget.Ratio, LifeSafety: budget.Critical, Warning: what, Hint: hint}
	}
	return views
}

// Trace returns the frames of a bus after a sequence number.
func (f fieldwork) Trace(ctx context.Context, id string, after uint64) ([]bus.Frame, error) {
	b := f.buses.find(id)
	if b == nil {
		return nil, web.ErrUnknown
	}
	return b.bus.Trace(ctx, after)
}

// Commands lists what can be ordered of a device.
func (f fieldwork) Commands(device string) ([]string, error) {
	b := f.buses.devices[device]
	if b == nil {
		return nil, web.ErrUnknown
	}
	return b.bus.Commands(device), nil
}

// Command carries out a person's order. It is put on record before it goes to
// the device, and so is what became of it; what cannot be recorded is not done.
func (f fieldwork) Command(ctx context.Context, device, name, actor string) error {
	b := f.buses.devices[device]
	if b == nil {
		return web.ErrUnknown
	}
	if err := f.audit(device, name, actor, "ordered"); err != nil {
		return fmt.Errorf("the order cannot be put on record, and was not carried out: %w", err)
	}
	err := b.bus.Command(ctx, device, name)
	outcome := "done"
	switch {
	case errors.Is(err, drivers.ErrUnderway):
		outcome = err.Error()
	case err != nil:
		outcome = "failed: " + err.Error()
	}
	if auditErr := f.audit(device, name, actor, outcome); auditErr != nil && err == nil {
		err = fmt.Errorf("%w: %w", web.ErrUnrecorded, auditErr)
	}
	return err
}

func (f fieldwork) audit(device, name, actor, outcome string) error {
	f.log.Info("device command", "device", device, "command", name, "by", actor, "outcome", outcome)
	note := wire.Note{Text: "device command", Attrs: map[string]string{"device": device, "command": name, "by": actor, "outcome": outcome}}
	body, err := note.Encode()
	if err != nil {
		return err
	}
	return f.commit("", nil, f.record(wire.LaneEvent, wire.KindGatewayCommand, body))
}

// Budgets says which devices of a plan the gateway would refuse to start with, and
// of each bus whether its line has the time for the others; it opens no device.
// file is where the plan was read.
func Budgets(plan config.Plan, file string) (refused, tight []config.Problem) {
	set, err := newBuses(plan, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		for what := range strings.SplitSeq(err.Error(), "\n") {
			refused = append(refused, config.Problem{File: file, Key: "devices", What: what, Hint: "the gateway will not start like this"})
		}
	}
	if set == nil {
		return refused, nil
	}
	defer set.acceptor.Close()
	for _, b := range set.list {
		if what, hint := b.bus.Warning(); what != "" {
			tight = append(tight, config.Problem{File: file, Key: "buses." + b.id, What: what, Hint: hint})
		}
	}
	return refused, tight
}

// write commands an output point on its bus.
func (s *busSet) write(ctx context.Context, p point.ID, v point.Value) error {
	b := s.outputs[p]
	if b == nil {
		return fmt.Errorf("%s: %w", p, drivers.ErrNotWritable)
	}
	return b.bus.Write(ctx, p, v)
}
