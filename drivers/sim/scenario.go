package sim

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

//go:embed scenarios/*.yaml
var shipped embed.FS

// Scenario is a scenario file; scenarios/demo.yaml documents every key.
type Scenario struct {
	Name      string        `yaml:"-"`
	About     string        `yaml:"about"`
	Period    time.Duration `yaml:"period"` // after which a looped scenario begins again
	Listeners []Listener    `yaml:"listeners"`
	Units     []Unit        `yaml:"units"`
	Steps     []Step        `yaml:"steps"`
	Noise     []Noise       `yaml:"noise"`

	Readers     []ReaderUnit `yaml:"readers"`
	Meters      []MeterUnit  `yaml:"meters"`
	GasModules  []GasUnit    `yaml:"gas_modules"`
	TextReaders []TextUnit   `yaml:"text_readers"`
}

// Listener is one place where units answer: a TCP address, a pseudo-terminal (a
// link to it is made at the path given; "" makes none), or an address to which a
// serial server dials ("" dials nowhere until Options say where).
type Listener struct {
	Name string  `yaml:"name"`
	TCP  *string `yaml:"tcp"`
	PTY  *string `yaml:"pty"`
	Dial *string `yaml:"dial"`
	// Framing rtu makes Modbus units on tcp answer as behind a transparent serial
	// server; all but Modbus always does.
	Framing string `yaml:"framing"`
	Server  Server `yaml:"server"`
}

func (l Listener) kind() string {
	switch {
	case l.TCP != nil:
		return "tcp"
	case l.Dial != nil:
		return "dial"
	}
	return "pty"
}

// Unit is one slave with its initial tables.
type Unit struct {
	Listener string `yaml:"listener"`
	ID       uint8  `yaml:"id"`
	About    string `yaml:"about"`
	Coil     Cells  `yaml:"coil"`
	Discrete Cells  `yaml:"discrete"`
	Holding  Cells  `yaml:"holding"`
	Input    Cells  `yaml:"input"`
	Pulse    *Pulse `yaml:"pulse"`
	Breaker  bool   `yaml:"breaker"` // holding 0x80 and 0x81 operate 0x10 in two steps
}

func (u *Unit) spaces() map[Space]Cells {
	return map[Space]Cells{Coil: u.Coil, Discrete: u.Discrete, Holding: u.Holding, Input: u.Input}
}

// Pulse describes write-only coils that switch another coil on for a while:
// function 05 on At+i with value n holds coil i for n×Step.
type Pulse struct {
	At    uint16        `yaml:"at"`
	Coils uint16        `yaml:"coils"`
	Step  time.Duration `yaml:"step"`
}

// Step is what happens to one unit at one moment: exactly one of what is not At,
// Unit, Note and For.
type Step struct {
	At     time.Duration      `yaml:"at"`
	Unit   string             `yaml:"unit"`
	Note   string             `yaml:"note"`
	For    time.Duration      `yaml:"for"` // with Set, Values or Fault: afterwards it is as before
	Set    map[Space]Cells    `yaml:"set"`
	Ramp   *Ramp              `yaml:"ramp"`
	Silent time.Duration      `yaml:"silent"`
	Fault  *Fault             `yaml:"fault"`
	Values map[string]float64 `yaml:"values"` // of a reader, meter or gas module
	Card   *Swipe             `yaml:"card"`   // shown to a reader
	Keys   string             `yaml:"keys"`   // pressed at a reader
	Text   string             `yaml:"text"`   // sent by a text reader
}

// Ramp moves one register from From to To in equal steps.
type Ramp struct {
	Space   Space         `yaml:"space"`
	Address uint16        `yaml:"address"`
	From    uint16        `yaml:"from"`
	To      uint16        `yaml:"to"`
	Over    time.Duration `yaml:"over"`
	Every   time.Duration `yaml:"every"`
}

// Noise moves one measurement around Base, at most Spread away from it.
type Noise struct {
	Unit    string        `yaml:"unit"`
	Space   Space         `yaml:"space"`
	Address uint16        `yaml:"address"`
	Type    string        `yaml:"type"` // u16 or f32
	Base    float64       `yaml:"base"`
	Spread  float64       `yaml:"spread"`
	Every   time.Duration `yaml:"every"`
}

// Names lists the scenarios that are built in.
func Names() []string {
	files, err := fs.Glob(shipped, "scenarios/*.yaml")
	if err != nil {
		return nil // the pattern is a constant
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	return files
}

// Load reads a built-in scenario by its name, or a file by its path. An error
// lists everything that is wrong, each as file:line:col.
func Load(nameOrPath string) (*Scenario, error) {
	if !strings.ContainsAny(nameOrPath, `/.`) {
		src, err := shipped.ReadFile("scenarios/" + nameOrPath + ".yaml")
		if err != nil {
			return nil, fmt.Errorf("no built-in scenario %q: choose one of %s, or give a path ending in .yaml",
				nameOrPath, strings.Join(Names(), ", "))
		}
		return parse(nameOrPath, nameOrPath+".yaml", src)
	}
	src, err := os.ReadFile(nameOrPath)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	return parse(strings.TrimSuffix(filepath.Base(nameOrPath), filepath.Ext(nameOrPath)), nameOrPath, src)
}

func parse(name, file string, src []byte) (*Scenario, error) {
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		return nil, locate(file, err)
	}
	if len(tree.Docs) != 1 || tree.Docs[0].Body == nil {
		return nil, fmt.Errorf("%s:1:1: want one YAML document", file)
	}
	sc := &Scenario{Name: name}
	if err := yaml.NodeToValue(tree.Docs[0].Body, sc, yaml.Strict()); err != nil {
		return nil, locate(file, err)
	}
	c := checker{file: file, tree: tree}
	c.scenario(sc)
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return sc, nil
}

// locate turns an error of the YAML library into file:line:col: what.
func locate(file string, err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		p := y.GetToken().Position
		return fmt.Errorf("%s:%d:%d: %s", file, p.Line, p.Column, y.GetMessage())
	}
	return fmt.Errorf("%s: %w", file, err)
}

// ParseUnit splits listener/id.
func ParseUnit(s string) (listener string, id uint8, err error) {
	listener, num, ok := strings.Cut(s, "/")
	n, err := strconv.ParseUint(num, 10, 8)
	if !ok || err != nil {
		return "", 0, fmt.Errorf("unit %q: want listener/id", s)
	}
	return listener, uint8(n), nil
}

// position finds the line and column of a path such as $.steps[2].unit, or of
// the nearest enclosing thing that is in the file.
func position(tree *ast.File, at string) (line, col int) {
	for at != "" && at != "$" {
		if p, err := yaml.PathString(at); err == nil {
			if node, err := p.FilterFile(tree); err == nil && node != nil {
				pos := node.GetToken().Position
				return pos.Line, pos.Column
			}
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	return 1, 1
}
