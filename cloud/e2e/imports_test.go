package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "gatehouse/"

// pkg is what `go list` says of one package.
type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// layers says what the packages below a folder may import of this module, in
// the direction that data flows. The first matching folder rules.
var layers = []struct {
	folder string
	may    []string
	why    string
}{
	{"protocol/point", nil, "the vocabulary knows nobody"},
	{"protocol/wire/wirepb", nil, "generated"},
	{"protocol/wire", []string{"protocol/point", "protocol/wire/wirepb"}, "the contract is about points and nothing else"},
	{"protocol", []string{"protocol/point"}, "codecs are pure"},
	{"drivers/sim", []string{"drivers/sim"}, "the simulator is an independent peer: what drivers or profiles get wrong it must not get wrong with them"},
	{"drivers", []string{"protocol", "drivers"}, "drivers never import profiles: a profile is compiled into a Spec"},
	{"firmware-profiles", []string{"protocol/point"}, "profiles are data"},
	{"configs", nil, "files to embed"},
	{"edge/internal/rule", []string{"protocol/point"}, "rules are pure"},
	{"edge/internal/table", []string{"protocol/point"}, "the table knows readings only"},
	{"edge/internal/alarm", []string{"protocol", "edge/internal/rule"}, "the alarm package declares its journal, it does not import the store"},
	{"edge/internal/store", []string{"protocol/wire"}, "the store holds opaque bytes, not alarms"},
	{"edge/internal/uplink", []string{"protocol/wire"}, "the uplink carries records, not alarms"},
	{"edge/internal/bus", []string{"protocol/point", "drivers"}, "the bus does not know config, table or rules"},
	{"edge", []string{"protocol", "drivers", "firmware-profiles", "configs", "edge"}, "edge and cloud meet only in protocol/wire and cloud/e2e"},
	{"cloud/e2e", []string{"protocol", "drivers", "firmware-profiles", "configs", "edge", "cloud"}, "the whole in one test"},
	{"cloud", []string{"protocol/point", "protocol/wire", "cloud"}, "edge and cloud meet only in protocol/wire and cloud/e2e"},
}

// owners are dependencies that one package alone may import.
var owners = []struct {
	dependency string
	owner      []string
	why        string
}{
	{"go.etcd.io/bbolt", []string{"edge/internal/store"}, "one place decides what is durable"},
	{"github.com/nats-io/nats.go/jetstream", []string{"cloud/internal/eventlog", "cloud/internal/fleet", "cloud/internal/broker"}, "streams have one owner, key-value state another"},
	{"github.com/goburrow/modbus", []string{"drivers/modbus", "cloud/e2e/bench"}, "its client has no context and no lock; only its packagers are used"},
	{"go.bug.st/serial", []string{"edge/internal/bus", "drivers/drivertest"}, "one goroutine owns one port"},
	{"github.com/eclipse/paho.mqtt.golang", []string{"edge/internal/uplink", "cloud/e2e"}, "one way up"},
}

// links are the heavy dependencies that must not end up in a program.
var links = []struct {
	program string
	never   []string
	why     string
}{
	{"edge/cmd/gatehouse", []string{"github.com/nats-io/nats-server", "github.com/nats-io/nats.go", "github.com/simonvetter/modbus"},
		"the box is small: no server of the cloud and no simulator on it"},
	{"cloud/cmd/gatehouse-cloud", []string{"go.etcd.io/bbolt", "go.bug.st/serial", "github.com/deepch/vdk", "github.com/goburrow/modbus"},
		"the cloud talks to no device and has one storage engine"},
	{"drivers/sim/cmd/compound-sim", []string{"github.com/goburrow/modbus", "go.etcd.io/bbolt", "github.com/nats-io"},
		"the simulator is an independent peer"},
}

func below(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func belowAny(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return below(path, f) })
}

func TestImportsRunOneWay(t *testing.T) {
	for _, p := range list(t, "./...") {
		folder := strings.TrimPrefix(p.ImportPath, module)
		i := layerOf(folder)
		if i < 0 {
			t.Errorf("%s is in no layer: add it where the rules are", folder)
			continue
		}
		l := layers[i]
		for _, imp := range p.Imports {
			target, ours := strings.CutPrefix(imp, module)
			if ours && !below(target, l.folder) && !belowAny(target, l.may) {
				t.Errorf("%s imports %s: %s", folder, target, l.why)
			}
		}
	}
}

// layerOf returns the first layer that a folder is in, or -1.
func layerOf(folder string) int {
	for i, layer := range layers {
		if below(folder, layer.folder) {
			return i
		}
	}
	return -1
}

func TestDependenciesHaveOneOwner(t *testing.T) {
	for _, p := range list(t, "./...") {
		folder := strings.TrimPrefix(p.ImportPath, module)
		for _, rule := range owners {
			for _, imp := range p.Imports {
				if below(imp, rule.dependency) && !belowAny(folder, rule.owner) {
					t.Errorf("%s imports %s: %s", folder, imp, rule.why)
				}
			}
		}
	}
}

func TestProgramsLinkOnlyWhatTheyNeed(t *testing.T) {
	for _, l := range links {
		for _, p := range list(t, "-deps", "./"+l.program) {
			if belowAny(p.ImportPath, l.never) {
				t.Errorf("%s links %s: %s", l.program, p.ImportPath, l.why)
			}
		}
	}
}
