// Package profiles holds what is known of each device model: one YAML file
// per model, linked into the binary.
//
// It guarantees: a Profile that Load or Parse returns without error is
// complete and consistent, but for the places that a profile with confirm leaves
// to the site (Point.Open, Profile.Place), and every role and unit in it is on
// the published lists; every fault of a file is reported at once, as
// file:line:col, the key, what is wrong and what to do. Nothing is shipped here
// that has no source: each file names its own and how far it carries.
package profiles

import (
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/firmware-profiles/strict"
	"gatehouse/protocol/point"
)

//go:embed *.yaml
var shipped embed.FS

// Profile is one device model.
type Profile struct {
	Model  string    `yaml:"model"` // the file's name without .yaml
	Maker  string    `yaml:"maker"`
	Names  Bilingual `yaml:"names"`
	Source string    `yaml:"source"` // where the registers were read
	Grade  string    `yaml:"grade"`  // A two or more sources agree, B one concrete source, C partial
	Driver string    `yaml:"driver"` // the folder in drivers/ that speaks to it
	Link   Link      `yaml:"link"`
	Timing Timing    `yaml:"timing"`
	// Hole is how many addresses without a point one read may span; 0 unless a
	// source shows the device answering such a read.
	Hole int `yaml:"hole"`
	// Probes are the questions that find the device on an unknown line, in the
	// order they are worth asking.
	Probes []Probe `yaml:"probes"`
	// Fingerprint tells this model from others on an unknown line: every mark
	// must fit. A model that has none can be found, not recognised.
	Fingerprint []Mark `yaml:"fingerprint"`
	// Confirm says that the profile leaves open what only the installer can know,
	// a register of a manual that is not public: the device entry must then say
	// who confirmed it, and by what.
	Confirm  bool                 `yaml:"confirm"`
	Frame    *Frame               `yaml:"frame"`    // of a line-frame device
	States   map[string]StateSet  `yaml:"states"`   // tables that points refer to by name
	Points   []Point              `yaml:"points"`   // what the device measures and switches
	Commands map[string]Command   `yaml:"commands"` // what a person may order, by name
	Variants map[string]Variation `yaml:"variants"` // firmware and fittings that differ
}

// Bilingual is what people call it.
type Bilingual struct {
	ZH string `yaml:"zh"`
	EN string `yaml:"en"`
}

// Link is how the device leaves the factory.
type Link struct {
	Baud    int    `yaml:"baud"`
	Parity  string `yaml:"parity"` // none, even, odd
	Stop    int    `yaml:"stop"`
	Address int    `yaml:"address"`
	// Addresses is how many consecutive addresses the device answers on; default 1.
	Addresses int `yaml:"addresses"`
}

// Timing is the device's pace; zero means the bus default.
type Timing struct {
	Poll    time.Duration `yaml:"poll"`    // period of a site that gives none
	Timeout time.Duration `yaml:"timeout"` // reply deadline
	Gap     time.Duration `yaml:"gap"`     // silence it needs between frames
	// Offline is how long it may be silent before its points are stale; default
	// three polls. A protocol may set it (OSDP: 8 s), and a device that talks
	// unasked must.
	Offline time.Duration `yaml:"offline"`
	Wake    *Wake         `yaml:"wake"`
}

// Wake is what a sleeping device needs to hear before each request.
type Wake struct {
	Bytes Hex           `yaml:"bytes"`
	Pause time.Duration `yaml:"pause"` // after it, before the request
}

// Hex is bytes, written FF 01 86 or FF0186.
type Hex []byte

// UnmarshalText reads hexadecimal digits, with or without spaces.
func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), " ", ""))
	if err != nil {
		return fmt.Errorf("%q is not hexadecimal, write bytes as FF 01 86", text)
	}
	*h = b
	return nil
}

// Mark is one register read that must give a fitting answer.
type Mark struct {
	Space   string   `yaml:"space"`
	Address uint16   `yaml:"address"`
	Type    string   `yaml:"type"`  // as of a point
	Order   string   `yaml:"order"` // as of a point
	Equals  []uint64 `yaml:"equals"`
	Min     *float64 `yaml:"min"` // of the raw number
	Max     *float64 `yaml:"max"`
}

// Frame is what a line-frame device sends, and what asks for it.
type Frame struct {
	Request Hex     `yaml:"request"` // empty: the device talks unasked
	Start   Hex     `yaml:"start"`
	End     Hex     `yaml:"end"`
	Size    int     `yaml:"size"`
	Max     int     `yaml:"max"`
	Length  *Length `yaml:"length"`
	Check   *Check  `yaml:"check"`
}

// Length is where a frame says its own size.
type Length struct {
	At     int  `yaml:"at"`
	Size   int  `yaml:"size"`
	Little bool `yaml:"little"`
	Add    int  `yaml:"add"`
}

// Check is the check value of a frame; negative places count from its end.
type Check struct {
	Kind  string `yaml:"kind"` // sum8, neg8, xor8, crc16-modbus, crc16-ccitt
	From  int    `yaml:"from"`
	Until int    `yaml:"until"`
	At    int    `yaml:"at"`
}

// Command is the writes behind one order of a person.
type Command struct {
	Names Bilingual `yaml:"names"`
	Steps []Step    `yaml:"steps"`
}

// Step is one write of a command.
type Step struct {
	Space    string        `yaml:"space"` // coil or holding
	Address  uint16        `yaml:"address"`
	Value    uint16        `yaml:"value"`
	Multiple bool          `yaml:"multiple"` // by function 15 or 16
	Pause    time.Duration `yaml:"pause"`    // after it
}

// Probe is one read that the device answers.
type Probe struct {
	Baud    int    `yaml:"baud"`
	Parity  string `yaml:"parity"`
	Stop    int    `yaml:"stop"`
	Space   string `yaml:"space"`
	Address uint16 `yaml:"address"`
	Count   int    `yaml:"count"`
}

// StateSet names the codes of a state point.
type StateSet map[uint64]State

// State is one code: normal, warmup (not ready yet), fault or alarm.
type State struct {
	Name  string `yaml:"name"`
	Class string `yaml:"class"`
}

// Point is one value of the device, or a row of Count like ones at consecutive
// addresses, named NAME1 to NAMEn.
type Point struct {
	Name  string     `yaml:"name"`
	Names Bilingual  `yaml:"names"`
	Count int        `yaml:"count"`
	Role  point.Role `yaml:"role"` // the kind of value follows from it
	Unit  point.Unit `yaml:"unit"`

	Space    string `yaml:"space"`     // modbus: coil, discrete, holding, input; others: see drivers.Item
	Address  uint32 `yaml:"address"`   // zero-based; a data id of DL/T 645, an offset in a frame
	UnitPlus int    `yaml:"unit_plus"` // added to the device's address
	Type     string `yaml:"type"`      // see drivers.PointSpec; a register is u16 by default
	Size     int    `yaml:"size"`      // bytes of a bcd, sbcd, text, hex or decimal value
	Order    string `yaml:"order"`     // HL (default): high word or byte first; LH: low one first
	Swap     bool   `yaml:"swap"`      // the two bytes of each register are swapped
	Bits     uint64 `yaml:"bits"`      // these bits of the raw value, packed together

	Scale     float64  `yaml:"scale"` // value = raw*scale + offset; default 1
	Offset    float64  `yaml:"offset"`
	Decimals  *Lookup  `yaml:"decimals"`
	UnitFrom  *Lookup  `yaml:"unit_from"`
	Active    *uint64  `yaml:"active"`   // the code of the active state; default: any but inactive, or but 0
	Inactive  *uint64  `yaml:"inactive"` // the code of the other; with both, any third is a fault
	Invert    bool     `yaml:"invert"`
	States    string   `yaml:"states"`
	StatusOf  string   `yaml:"status_of"` // the state point that vouches for this one
	Sentinels []uint64 `yaml:"sentinels"`
	Min       *float64 `yaml:"min"`
	Max       *float64 `yaml:"max"`
	MaxStep   *float64 `yaml:"max_step"` // between two readings; more is read again before it is believed
	Write     *Write   `yaml:"write"`
}

// Kind is the kind of value the point has: that of its role.
func (p Point) Kind() point.Kind { return point.Roles[p.Role].Kind }

// Lookup is a code in a register beside the value, and what it stands for: a
// power of ten to divide by (decimals) or a factor to the point's unit (unit_from).
type Lookup struct {
	Space   string             `yaml:"space"` // default: the point's
	Address uint16             `yaml:"address"`
	Bits    uint64             `yaml:"bits"`
	Map     map[uint64]float64 `yaml:"map"`
}

// Write is how an output is commanded.
type Write struct {
	Address  uint16  `yaml:"address"`  // a level, in the point's own space
	On       *uint16 `yaml:"on"`       // written for active; default: the protocol's own value
	Off      *uint16 `yaml:"off"`      // written for inactive
	Multiple bool    `yaml:"multiple"` // by function 15 or 16
	// PulseAddress takes a pulse that the module times itself, in steps of
	// 100 ms up to PulseMax, so that a gateway that dies leaves nothing energised.
	PulseAddress *uint16       `yaml:"pulse_address"`
	PulseMax     time.Duration `yaml:"pulse_max"`
}

// Variation is what differs in one firmware or fitting of the model.
type Variation struct {
	Names  Bilingual        `yaml:"names"`
	Points map[string]Patch `yaml:"points"`
}

// Patch replaces what it states of a point.
type Patch struct {
	Space    *string     `yaml:"space"`
	Address  *uint32     `yaml:"address"`
	Type     *string     `yaml:"type"`
	Unit     *point.Unit `yaml:"unit"`
	Order    *string     `yaml:"order"`
	Scale    *float64    `yaml:"scale"`
	Min      *float64    `yaml:"min"`
	Max      *float64    `yaml:"max"`
	MaxStep  *float64    `yaml:"max_step"`
	Active   *uint64     `yaml:"active"`
	Inactive *uint64     `yaml:"inactive"`
	UnitFrom *Lookup     `yaml:"unit_from"`
}

// Register is where a point stands in one device, as its installer read it in
// the manual, for a point that the profile leaves open. What it states replaces
// what the profile has.
type Register struct {
	Space     string     `yaml:"space"`
	Address   *uint32    `yaml:"address"`
	Type      string     `yaml:"type"`
	Order     string     `yaml:"order"`
	Swap      *bool      `yaml:"swap"`
	Bits      *uint64    `yaml:"bits"`
	Unit      point.Unit `yaml:"unit"`
	Scale     *float64   `yaml:"scale"`
	Offset    *float64   `yaml:"offset"`
	Active    *uint64    `yaml:"active"`
	Inactive  *uint64    `yaml:"inactive"`
	Sentinels []uint64   `yaml:"sentinels"`
	Min       *float64   `yaml:"min"`
	Max       *float64   `yaml:"max"`
	MaxStep   *float64   `yaml:"max_step"`
	States    StateSet   `yaml:"states"`
}

// Names returns the names of the shipped profiles.
func Names() []string {
	files, err := fs.Glob(shipped, "*.yaml")
	if err != nil {
		return nil // only a bad pattern, and this one is constant
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(f, ".yaml")
	}
	return files
}

// Load returns a shipped profile.
func Load(name string) (Profile, error) {
	data, err := shipped.ReadFile(name + ".yaml")
	if err != nil {
		return Profile{}, fmt.Errorf("unknown profile %q, %s", name, strict.OneOf(name, Names()))
	}
	return Parse(path.Join("firmware-profiles", name+".yaml"), data)
}

// LoadFile reads a profile that is not shipped.
func LoadFile(file string) (Profile, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Profile{}, fmt.Errorf("read profile: %w", err)
	}
	return Parse(file, data)
}

// Parse decodes and checks one profile. The error is a strict.Errors.
func Parse(file string, data []byte) (Profile, error) {
	var p Profile
	d := strict.Decode(file, data, &p)
	p.zeroScales(d) // before a default hides them
	p.fill()
	p.check(d, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	if err := d.Err(); err != nil {
		return Profile{}, err
	}
	p.expand()
	return p, nil
}

// Point returns the point of that name.
func (p Profile) Point(name string) (Point, bool) {
	for _, pt := range p.Points {
		if pt.Name == name {
			return pt, true
		}
	}
	return Point{}, false
}

// PointNames lists the profile's points in order.
func (p Profile) PointNames() []string {
	names := make([]string, len(p.Points))
	for i, pt := range p.Points {
		names[i] = pt.Name
	}
	return names
}
