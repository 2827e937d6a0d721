package profiles

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"gatehouse/firmware-profiles/strict/schema"
)

const schemaFile = "profile.schema.json"

func TestSchemaIsCurrent(t *testing.T) {
	lists := Lists()
	for name := range lists {
		if strings.HasPrefix(name, "profiles.Register.") {
			delete(lists, name) // of a gateway.yaml
		}
	}
	got, err := schema.Generate(reflect.TypeFor[Profile](), schema.Options{
		Title: "Gatehouse device profile", Folders: []string{"."},
		Enums: lists, Required: Keys(),
		Patterns: map[string]string{"profiles.Hex": `^([0-9A-Fa-f]{2}| )*$`},
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
		t.Errorf("%s is not what the types say (%v): run GOLDEN=update go test ./firmware-profiles -run Schema", schemaFile, err)
	}
}

func TestShippedProfilesFitTheSchema(t *testing.T) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		data, err := shipped.ReadFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		wrong, err := schema.Check(text, data)
		if err != nil || len(wrong) > 0 {
			t.Errorf("%s: %v, %s", name, err, strings.Join(wrong, "; "))
		}
	}
	// A schema that takes everything would pass all that.
	data, err := os.ReadFile("../testdata/profiles/wrong/wrong.yaml")
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := schema.Check(text, append(data, "mkaer: x\n"...))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".mkaer: unknown key", ": source is missing", ".driver: modbsu is not on the list", ".points[3].role: voltge is not on the list",
		".link.parity: nome is not on the list", ".names: en is missing",
	} {
		if !strings.Contains(strings.Join(wrong, "\n"), want) {
			t.Errorf("%q is not among\n%s", want, strings.Join(wrong, "\n"))
		}
	}
}
