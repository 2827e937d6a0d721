package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"gatehouse/configs"
	"gatehouse/edge/internal/rule"
	"gatehouse/firmware-profiles/strict"
)

const configsDir = "../../../configs"

// checks is how each kind of shipped file proves itself; the first pattern
// that matches decides. A nil check belongs to a test elsewhere.
var checks = []struct {
	pattern string
	check   func(t *testing.T, file string)
}{
	{"embed.go", nil}, // the compiler
	{"gateway*.yaml", checkGateway},
	{"gateway.schema.json", nil}, // TestGatewaySchemaIsCurrent
	{"rules/*.yaml", checkPack},
	{"*.service", checkUnit},
}

func TestEveryShippedFileLoads(t *testing.T) {
	err := fs.WalkDir(os.DirFS(configsDir), ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		for _, c := range checks {
			if ok, err := path.Match(c.pattern, file); err != nil {
				return err
			} else if ok {
				if c.check != nil {
					t.Run(file, func(t *testing.T) { c.check(t, filepath.Join(configsDir, file)) })
				}
				return nil
			}
		}
		t.Errorf("configs/%s: no test loads it: add its kind to checks", file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkGateway loads an example beside the secrets it names.
func checkGateway(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Load(writeSite(t, string(data), "gateway.secret", "cards.key"))
	if err != nil {
		t.Fatalf("\n%v", err)
	}
	if len(plan.Rules) == 0 || len(plan.Warnings) > 0 {
		t.Errorf("%d rules, warnings %v", len(plan.Rules), plan.Warnings)
	}
}

// The example is where people look a key up: it must show all that do anything.
func TestExampleShowsEveryKey(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(configsDir, "gateway-example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(reflect.TypeFor[Config](), []string{"web", "cameras", "residents", "notify"}) {
		if !strings.Contains(string(data), key+":") {
			t.Errorf("%s is not shown", key)
		}
	}
}

// keys lists the keys of a struct and of what it holds, but for those to skip.
func keys(of reflect.Type, skip []string) (list []string) {
	for of.Kind() == reflect.Slice || of.Kind() == reflect.Map || of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return nil
	}
	for i := range of.NumField() {
		if key := of.Field(i).Tag.Get("yaml"); !slices.Contains(skip, key) {
			list = append(append(list, key), keys(of.Field(i).Type, skip)...)
		}
	}
	return list
}

// checkPack binds a rule pack to a site that has a point for every rule.
func checkPack(t *testing.T, file string) {
	doc, defs, err := readPack(configs.FS, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Err(); err != nil {
		t.Errorf("\n%v", err)
	}
	if len(defs) == 0 {
		t.Error("holds no rules")
	}
	for i, def := range defs {
		if def.Title == "" || def.TitleEN == "" || def.Source == "" {
			t.Errorf("rule %s: a shipped rule has title, title_en and source", def.ID)
		}
		if slices.ContainsFunc(defs[:i], func(d rule.Def) bool { return d.ID == def.ID }) {
			t.Errorf("rule %s stands there twice", def.ID)
		}
	}
	text := fmt.Sprintf("%srules: {include: [%s]}\n", small, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	if _, err := Parse("g.yaml", []byte(text), fakeFiles); err != nil {
		t.Errorf("\n%v", err)
	}
}

// A broken pack is reported where it is broken, not where it is included.
func TestPackIsReportedUnderItsOwnName(t *testing.T) {
	bad := fstest.MapFS{"rules/bad.yaml": {Data: []byte("rules:\n  - {id: a, role: sos, when: active, priority: P1, title: x, titel: y}\n")}}
	doc, _, err := readPack(bad, "bad")
	if err != nil {
		t.Fatal(err)
	}
	var problems strict.Errors
	if !errors.As(doc.Err(), &problems) || problems[0].String() != `configs/rules/bad.yaml:2:62 rules[0].titel: unknown key, did you mean "title"?` {
		t.Errorf("got %v", doc.Err())
	}
	if _, _, err := readPack(bad, "../rules/bad"); !errors.Is(err, errNoPack) {
		t.Errorf("got %v", err)
	}
}

// directives are what systemd knows of what our units use; it ignores a
// misspelt one, so a test must not.
var directives = map[string]string{
	"Unit":    "Description After Wants StartLimitIntervalSec",
	"Install": "WantedBy",
	"Service": "Type ExecStart User Group SupplementaryGroups StateDirectory StateDirectoryMode RuntimeDirectory RuntimeDirectoryMode UMask " +
		"Restart RestartSec WatchdogSec TimeoutStartSec TimeoutStopSec MemoryMax OOMScoreAdjust Nice LimitNOFILE NoNewPrivileges " +
		"CapabilityBoundingSet AmbientCapabilities ProtectSystem ProtectHome ProtectProc ProtectKernelTunables ProtectKernelModules " +
		"ProtectKernelLogs ProtectControlGroups ProtectClock ProtectHostname PrivateTmp PrivateDevices DevicePolicy DeviceAllow " +
		"RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID RemoveIPC LockPersonality MemoryDenyWriteExecute " +
		"SystemCallArchitectures SystemCallFilter SystemCallErrorNumber",
}

// checkUnit parses a systemd unit and holds it to what we promise of it:
// supervised, restarted for ever, not root, without privileges.
func checkUnit(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	section, got := "", make(map[string]string)
	for i, line := range strings.Split(string(data), "\n") {
		key, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[' && line[len(line)-1] == ']':
			if section = line[1 : len(line)-1]; directives[section] == "" {
				t.Errorf("%d: unknown section %s", i+1, line)
			}
		case !ok || !slices.Contains(strings.Fields(directives[section]), key):
			t.Errorf("%d: %q is no directive of section %s", i+1, line, section)
		case key == "SystemCallFilter": // lines of it add up
			got[section+"."+key] += value + " "
		default:
			got[section+"."+key] = value
		}
	}
	for key, want := range map[string]string{
		"Service.Type": "notify", "Service.Restart": "always", "Service.NoNewPrivileges": "yes", "Service.ProtectSystem": "strict",
		"Service.CapabilityBoundingSet": "", "Unit.StartLimitIntervalSec": "0", "Install.WantedBy": "multi-user.target",
	} {
		if value, ok := got[key]; !ok || value != want {
			t.Errorf("%s=%s, want %s", key, value, want)
		}
	}
	if user := got["Service.User"]; user == "" || user == "root" {
		t.Errorf("runs as %q", user)
	}
	program := strings.TrimSuffix(filepath.Base(file), ".service")
	if !strings.HasPrefix(got["Service.ExecStart"], "/usr/local/bin/"+program+" run ") {
		t.Errorf("starts %q", got["Service.ExecStart"])
	}
	if program == "gatehouse" && got["Service.WatchdogSec"] != "10" {
		t.Errorf("WatchdogSec=%s, want 10", got["Service.WatchdogSec"])
	}
	if program == "gatehouse" {
		checkClockIsReadable(t, got)
	}
}

// checkClockIsReadable: the daemon asks adjtimex whether NTP keeps the clock;
// that it cannot set it is the empty bounding set's doing.
func checkClockIsReadable(t *testing.T, unit map[string]string) {
	if filter := strings.Fields(unit["Service.SystemCallFilter"]); !slices.Contains(filter, "adjtimex") || !slices.Contains(filter, "clock_adjtime") {
		t.Errorf("SystemCallFilter=%s: adjtimex is refused", filter)
	}
	if unit["Service.ProtectClock"] == "yes" {
		t.Error("ProtectClock=yes refuses adjtimex, even to read")
	}
}
