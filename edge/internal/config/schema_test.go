package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	profiles "gatehouse/firmware-profiles"
	"gatehouse/firmware-profiles/strict/schema"
)

// schemaFile describes gateway.yaml to editors.
var schemaFile = filepath.Join(configsDir, "gateway.schema.json")

func TestGatewaySchemaIsCurrent(t *testing.T) {
	words := func(list ...any) []any { return list }
	enums := map[string][]any{
		"drivers.Framing":            words("rtu", "tcp"),
		"config.Serial.parity":       words("none", "even", "odd"),
		"config.Serial.stop":         words(1, 2),
		"config.DevicePoint.contact": words("no", "nc"),
		"config.Notifier.kind":       words("webhook"),
		"rule.Def.priority":          words("P1", "P2", "P3", "P4"),
	}
	for name, list := range profiles.Lists() {
		if strings.HasPrefix(name, "point.") || strings.HasPrefix(name, "profiles.Register.") || strings.HasPrefix(name, "profiles.State.") {
			enums[name] = list
		}
	}
	got, err := schema.Generate(reflect.TypeFor[Config](), schema.Options{
		Title:   "Gatehouse gateway.yaml",
		Folders: []string{".", "../rule", "../../../firmware-profiles"},
		Enums:   enums,
		Patterns: map[string]string{
			"config.Bytes": `^[0-9]+( *(KiB|MiB|GiB|TiB))?$`,
		},
		Required: map[string][]string{
			"config.Config":       {"gateway"},
			"config.Gateway":      {"id", "division"},
			"config.Bus":          {"id", "link"},
			"config.Device":       {"id", "place", "bus", "profile"},
			"config.Serial":       {"baud"},
			"config.Confirmation": {"by", "on", "source"},
			"profiles.State":      profiles.Keys()["profiles.State"],
			"rule.Def":            {"id", "when", "priority", "title"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("GOLDEN") == "update" {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(schemaFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say (%v): run GOLDEN=update go test ./edge/internal/config -run Schema", schemaFile, err)
	}
}

func TestExamplesFitTheGatewaySchema(t *testing.T) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(configsDir, "gateway*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	documents := map[string][]byte{"contract": []byte(contract), "small": []byte(small)}
	for _, file := range files {
		if documents[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range documents {
		if wrong, err := schema.Check(text, data); err != nil || len(wrong) > 0 {
			t.Errorf("%s: %v, %s", name, err, strings.Join(wrong, "; "))
		}
	}
	// A schema that takes everything would pass all that.
	wrong, err := schema.Check(text, []byte("devices: [{id: a, place: b, bus: c, adress: 7, profile: d, poll: 5, points: {di1: {role: gas_alram}}}]"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		": gateway is missing", ".devices[0].adress: unknown key", ".devices[0].poll: is uint64, want string",
		".devices[0].points.di1.role: gas_alram is not on the list",
	} {
		if !strings.Contains(strings.Join(wrong, "\n"), want) {
			t.Errorf("%q is not among\n%s", want, strings.Join(wrong, "\n"))
		}
	}
}
