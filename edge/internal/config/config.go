// Package config turns gateway.yaml into a Plan the daemon can run.
//
// It guarantees: an unknown key, a missing value, a unit, role, profile or
// rule that does not exist is an error with file:line:col, the key, what is
// wrong and what to do; all errors are reported at once; a Plan returned
// without error has every default filled in and every reference resolved, but
// for the pace of a line, which the bus knows. It opens no device, no socket and
// no store; of ports it asks the system the names.
package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatehouse/drivers"
	"gatehouse/edge/internal/bus"
	"gatehouse/edge/internal/rule"
	profiles "gatehouse/firmware-profiles"
	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

// Problem is one finding in a file; String prints it.
type Problem = strict.Problem

// Errors is every problem of a file, sorted by position, one line each.
type Errors = strict.Errors

// Bytes is a size, written 1GiB, 512MiB or 4096.
type Bytes int64

// UnmarshalText reads a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits, shift := string(text), 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if rest, ok := strings.CutSuffix(digits, unit); ok {
			digits, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return fmt.Errorf("%q is no size, write it as 1GiB, 512MiB or 4096", text)
	}
	*b = Bytes(n << shift)
	return nil
}

// Config is gateway.yaml, key by key.
type Config struct {
	Gateway   Gateway    `yaml:"gateway"`
	Store     Store      `yaml:"store"`
	Web       Web        `yaml:"web"`
	Metrics   Metrics    `yaml:"metrics"`
	Cloud     Cloud      `yaml:"cloud"`
	Buses     []Bus      `yaml:"buses"`
	Devices   []Device   `yaml:"devices"`
	Cameras   []Camera   `yaml:"cameras"`
	Residents []Resident `yaml:"residents"`
	Rules     Rules      `yaml:"rules"`
	Notify    []Notifier `yaml:"notify"`
	Cards     Cards      `yaml:"cards"`
}

// Cards says how credentials read at doors are hashed before anything else
// sees them.
type Cards struct {
	// KeyFile holds the compound's secret, mode 0600, 32 bytes or more as text. All
	// gateways of a compound share it: the same card is then the same hash.
	KeyFile string `yaml:"key_file"`
}

// Gateway says which box this is and where it stands.
type Gateway struct {
	ID       string `yaml:"id"`
	Division string `yaml:"division"` // 12 digits; the cloud's own record rules
	Compound string `yaml:"compound"`
	Timezone string `yaml:"timezone"` // default Asia/Shanghai
}

// Store says where records wait until the cloud has them.
type Store struct {
	Dir   string `yaml:"dir"`   // default /var/lib/gatehouse
	Quota Bytes  `yaml:"quota"` // default min(2 GiB, 25 % of the file system)
}

// Web is the guard's page.
type Web struct {
	Listen string `yaml:"listen"`
}

// Metrics is the maintenance listener: /metrics, /healthz, /readyz.
type Metrics struct {
	Listen string `yaml:"listen"` // default 127.0.0.1:9100
}

// Cloud says where records go. An empty Broker means: nowhere, run alone.
type Cloud struct {
	Broker     string        `yaml:"broker"` // mqtt://host:port, mqtts://host:port
	SecretFile string        `yaml:"secret_file"`
	CAFile     string        `yaml:"ca_file"`
	Flush      time.Duration `yaml:"flush"`     // default 10s
	Heartbeat  time.Duration `yaml:"heartbeat"` // default 5m
	// Plain allows mqtt:// to a host other than loopback. Off by default.
	Plain bool `yaml:"allow_plaintext"`
}

// Bus is one physical link.
type Bus struct {
	ID      string          `yaml:"id"`
	Link    string          `yaml:"link"` // serial:PATH?baud=9600&parity=none&stop=1, tcp://HOST:PORT, tcp-listen://:PORT?register=HEX
	Framing drivers.Framing `yaml:"framing"`
	Timeout time.Duration   `yaml:"timeout"` // reply deadline; default (also 0s) by link and speed
	Gap     time.Duration   `yaml:"gap"`     // silence between frames; default (also 0s) 3.5 characters of a serial line
	Retries *int            `yaml:"retries"` // before a poll counts as failed; default 1
}

// Device is one device on a bus.
type Device struct {
	ID      string                 `yaml:"id"`
	Name    string                 `yaml:"name"`
	Place   string                 `yaml:"place"`
	Zone    string                 `yaml:"zone"`
	Bus     string                 `yaml:"bus"`
	Address int                    `yaml:"address"`
	Profile string                 `yaml:"profile"`
	Variant string                 `yaml:"variant"`
	Poll    time.Duration          `yaml:"poll"` // default: the profile's
	Points  map[string]DevicePoint `yaml:"points"`
	// Meter is the 12-digit address of a DL/T 645 meter, or "any" for the only
	// one on its line.
	Meter string `yaml:"meter"`
	// Serial is this device's own line setting, on a local port shared with
	// devices of another; default: the bus's.
	Serial *Serial `yaml:"serial"`
	// Timeout and Gap default to the profile's, then the bus's.
	Timeout time.Duration `yaml:"timeout"`
	Gap     time.Duration `yaml:"gap"`
	// KeyFile holds the secure-channel key of a door reader: 32 hexadecimal
	// digits, mode 0600. Default: made when the reader is installed, and kept in
	// the store's directory.
	KeyFile string `yaml:"key_file"`
	// ClearText lets a door reader report cards without a secure channel. Whoever
	// cuts its wire can then read and forge them. Off by default.
	ClearText bool `yaml:"allow_clear_text"`
	// Confirmed is what an installer must sign for a profile that asks for it.
	Confirmed *Confirmation `yaml:"confirmed"`
}

// Serial is how characters look on a line.
type Serial struct {
	Baud   int    `yaml:"baud"`
	Parity string `yaml:"parity"` // none (default), even, odd
	Stop   int    `yaml:"stop"`   // 1 (default), 2
}

// Confirmation says who answers for a register that no public source shows.
type Confirmation struct {
	By     string `yaml:"by"`
	On     string `yaml:"on"`     // the day, 2026-11-23
	Source string `yaml:"source"` // the manual and its page, or the reading that showed it
}

// DevicePoint is what a site says about one point of a device.
type DevicePoint struct {
	Role    point.Role `yaml:"role"`
	Name    string     `yaml:"name"`
	Place   string     `yaml:"place"`
	Zone    string     `yaml:"zone"`
	Contact string     `yaml:"contact"` // no (default) or nc
	Label   string     `yaml:"label"`   // wire label
	// Pulse makes each command to an output a pulse that the module times
	// itself; default: a level that stays until the next command.
	Pulse time.Duration `yaml:"pulse"`
	// Register says where the point stands, for a profile that leaves it open.
	Register *profiles.Register `yaml:"register"`
}

// Camera, Resident and Notifier are read and checked; the parts of the daemon
// that use them are not in this release, and loading says so as a warning.
type Camera struct {
	ID           string `yaml:"id"`
	Name         string `yaml:"name"`
	Zone         string `yaml:"zone"`
	URL          string `yaml:"url"`
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
}

// Resident: see Camera.
type Resident struct {
	ID          string   `yaml:"id"`
	Place       string   `yaml:"place"`
	LivesAlone  bool     `yaml:"lives_alone"`
	Door        string   `yaml:"door"`
	SignsOfLife []string `yaml:"signs_of_life"`
	Consent     *Consent `yaml:"consent"`
}

// Consent says who agreed to a resident's rules, when, and where it is written.
type Consent struct {
	By       string `yaml:"by"`
	Signed   string `yaml:"signed"`
	Document string `yaml:"document"`
}

// Notifier: see Camera.
type Notifier struct {
	ID         string   `yaml:"id"`
	Kind       string   `yaml:"kind"`
	URLFile    string   `yaml:"url_file"`
	Template   string   `yaml:"template"`
	Priorities []string `yaml:"priorities"`
}

// Rules chooses shipped packs and adds the site's own rules. A custom rule
// with the id of a shipped one replaces it.
type Rules struct {
	Include []string   `yaml:"include"` // default [standard]
	Custom  []rule.Def `yaml:"custom"`
}

// Plan is what a valid Config comes to.
type Plan struct {
	Config   Config
	Location *time.Location
	Secret   string // content of cloud.secret_file
	CardKey  string // content of cards.key_file
	Buses    []BusPlan
	Points   map[point.ID]*rule.PointInfo
	Rules    []rule.Bound
	Warnings []Problem
}

// BusPlan is one link with the devices on it.
type BusPlan struct {
	Bus
	Devices []DevicePlan
}

// DevicePlan is one device, compiled from its profile.
type DevicePlan struct {
	Driver  string // key in drivers/all
	Spec    drivers.Spec
	Timing  bus.Timing    // zero fields mean the bus default
	Offline time.Duration // silence after which its points are stale; 0: by their period
	KeyFile string        // absolute; "": kept in the store's directory
}
