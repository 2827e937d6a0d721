package schema

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample has a field of each kind that strict decodes.
type sample struct {
	Name  string            `yaml:"name"` // what people call it
	Every time.Duration     `yaml:"every"`
	Port  uint16            `yaml:"port"`
	Count int               `yaml:"count"`
	Ratio *float64          `yaml:"ratio"`
	On    bool              `yaml:"on"`
	Codes map[uint64]string `yaml:"codes"`
	Words map[string]bool   `yaml:"words"`
	Inner []inner           `yaml:"inner"`
}

type inner struct {
	Kind string `yaml:"kind"`
}

func generated(t *testing.T) []byte {
	t.Helper()
	text, err := Generate(reflect.TypeFor[sample](), Options{
		Title: "Sample", Folders: []string{"."},
		Enums: map[string][]any{"schema.inner.kind": {"a", "b"}}, Required: map[string][]string{"schema.sample": {"name"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestADocumentIsHeldAgainstItsSchema(t *testing.T) {
	text := generated(t)
	for document, want := range map[string][]string{
		"{name: a, every: 1m30s, port: 65535, count: -1, ratio: 2, on: true, codes: {0x0C: x, 12: y}, words: {z: true}, inner: [{kind: a}]}": nil,
		"{nmae: a}":                                 {".nmae: unknown key", ": name is missing"},
		"{name: 1}":                                 {".name: is uint64, want string"},
		"{name: a, every: 5}":                       {".every: is uint64, want string"},
		"{name: a, every: 5 minutes}":               {`.every: "5 minutes" does not fit ` + durationPattern},
		"{name: a, port: 65536}":                    {".port: 65536 is out of range"},
		"{name: a, port: -1}":                       {".port: -1 is out of range"},
		"{name: a, count: 1.5}":                     {".count: is float64, want integer"},
		"{name: a, ratio: x}":                       {".ratio: is string, want number"},
		"{name: a, on: 1}":                          {".on: is uint64, want boolean"},
		"{name: a, codes: {x: y}}":                  {".codes.x: unknown key"},
		"{name: a, words: {z: 1}}":                  {".words.z: is uint64, want boolean"},
		"{name: a, inner: {}}":                      {".inner: is map[string]interface {}, want array"},
		"{name: a, inner: [{kind: c}, {other: a}]}": {".inner[0].kind: c is not on the list", ".inner[1].other: unknown key"},
	} {
		if wrong, err := Check(text, []byte(document)); err != nil || !slices.Equal(wrong, want) {
			t.Errorf("%s: %v, %q, want %q", document, err, wrong, want)
		}
	}
	if _, err := Check([]byte(`{"$schema": "`+Draft+`", "oneOf": []}`), []byte("{}")); err == nil {
		t.Error("a keyword that is not checked was taken")
	}
	if _, err := Check([]byte(`{}`), []byte("{}")); err == nil {
		t.Error("a schema of another draft was taken")
	}
}

func TestOptionsThatDescribeNothingAreRefused(t *testing.T) {
	type odd struct {
		A int
		B float32 `yaml:"b"`
	}
	_, err := Generate(reflect.TypeFor[odd](), Options{
		Folders: []string{"."}, Enums: map[string][]any{"schema.gone": {1}}, Required: map[string][]string{"schema.odd": {"c"}},
	})
	for _, want := range []string{"schema.odd.A has no key", "no description for a float32", "nothing is called schema.gone", "no key c to require"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := Generate(reflect.TypeFor[inner](), Options{Folders: []string{"nowhere"}}); err == nil {
		t.Error("comments were read from a folder that is not there")
	}
}
