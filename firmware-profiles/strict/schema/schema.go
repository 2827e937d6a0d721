// Package schema writes a JSON Schema (draft 2020-12) of a file that package
// strict decodes, for editors, and holds documents against one. Tests use it;
// no binary links it.
//
// It guarantees: the schema knows every key that strict takes and no other,
// each with the comment of its field; what it cannot describe is an error. What
// a schema accepts can still be wrong: meaning is checked when a file is loaded.
package schema

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
)

// Draft names the dialect.
const Draft = "https://json-schema.org/draft/2020-12/schema"

// Patterns of what stands as text.
const (
	durationPattern = `^[+-]?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$` // time.ParseDuration
	codePattern     = `^(0[xX][0-9A-Fa-f]+|0[bB][01]+|[0-9]+)$`
)

// Node is one schema.
type Node struct {
	Schema               string           `json:"$schema,omitempty"`
	Title                string           `json:"title,omitempty"`
	Description          string           `json:"description,omitempty"`
	Ref                  string           `json:"$ref,omitempty"`
	Type                 any              `json:"type,omitempty"` // a name, or several
	Enum                 []any            `json:"enum,omitempty"`
	Pattern              string           `json:"pattern,omitempty"`
	Minimum              *float64         `json:"minimum,omitempty"`
	Maximum              *float64         `json:"maximum,omitempty"`
	Required             []string         `json:"required,omitempty"`
	Properties           map[string]*Node `json:"properties,omitempty"`
	PatternProperties    map[string]*Node `json:"patternProperties,omitempty"`
	AdditionalProperties any              `json:"additionalProperties,omitempty"` // false, or a schema
	Items                *Node            `json:"items,omitempty"`
	Defs                 map[string]*Node `json:"$defs,omitempty"`
}

// Options say what the types do not. A type is named as in its package
// (profiles.Point), a field by its key in the file (profiles.Point.space).
type Options struct {
	Title    string
	Folders  []string            // of the source files whose comments describe the fields
	Enums    map[string][]any    // closed lists, of a type or a field
	Patterns map[string]string   // of types that read their own text
	Required map[string][]string // keys of a type without which nothing loads
}

// Generate returns the schema of the files that decode into a struct.
func Generate(of reflect.Type, o Options) ([]byte, error) {
	comments, err := readComments(o.Folders)
	if err != nil {
		return nil, err
	}
	g := generator{Options: o, comments: comments, defs: make(map[string]*Node), used: make(map[string]bool)}
	g.node(of)
	for _, list := range []map[string]bool{keysOf(o.Enums), keysOf(o.Patterns), keysOf(o.Required)} {
		for name := range list {
			if !g.used[name] {
				g.errs = append(g.errs, fmt.Errorf("schema: nothing is called %s", name))
			}
		}
	}
	if err := errors.Join(g.errs...); err != nil {
		return nil, err
	}
	root := *g.defs[of.String()]
	delete(g.defs, of.String())
	root.Schema, root.Title, root.Defs = Draft, o.Title, g.defs
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return out.Bytes(), nil
}

func keysOf[T any](m map[string]T) map[string]bool {
	keys := make(map[string]bool, len(m))
	for k := range m {
		keys[k] = true
	}
	return keys
}

type generator struct {
	Options
	comments map[string]string
	defs     map[string]*Node
	used     map[string]bool // options that found what they describe
	errs     []error
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// node describes a value of a type, as strict decodes it.
func (g *generator) node(t reflect.Type) *Node {
	name := t.String()
	switch {
	case t == durationType:
		return &Node{Type: "string", Pattern: durationPattern}
	case reflect.PointerTo(t).Implements(textType):
		g.used[name] = true
		return &Node{Type: []string{"string", "integer"}, Pattern: g.Patterns[name]}
	case t.Kind() == reflect.Pointer:
		return g.node(t.Elem())
	case t.Kind() == reflect.Struct:
		g.define(t)
		return &Node{Ref: "#/$defs/" + name}
	case t.Kind() == reflect.Slice:
		return &Node{Type: "array", Items: g.node(t.Elem())}
	case t.Kind() == reflect.Map:
		return g.mapping(t)
	}
	n := g.scalar(t)
	if list, ok := g.Enums[name]; ok {
		g.used[name] = true
		n.Enum = list
	}
	return n
}

func (g *generator) mapping(t reflect.Type) *Node {
	value := g.node(t.Elem())
	if t.Key().Kind() == reflect.String {
		return &Node{Type: "object", AdditionalProperties: value}
	}
	return &Node{Type: "object", PatternProperties: map[string]*Node{codePattern: value}, AdditionalProperties: false}
}

func (g *generator) scalar(t reflect.Type) *Node {
	zero := 0.0
	switch t.Kind() {
	case reflect.String:
		return &Node{Type: "string"}
	case reflect.Bool:
		return &Node{Type: "boolean"}
	case reflect.Int, reflect.Int64:
		return &Node{Type: "integer"}
	case reflect.Uint64:
		return &Node{Type: "integer", Minimum: &zero}
	case reflect.Uint16, reflect.Uint32:
		most := math.Exp2(float64(t.Bits())) - 1
		return &Node{Type: "integer", Minimum: &zero, Maximum: &most}
	case reflect.Float64:
		return &Node{Type: "number"}
	}
	g.errs = append(g.errs, fmt.Errorf("schema: no description for a %s", t))
	return &Node{}
}

// define describes a struct, once.
func (g *generator) define(t reflect.Type) {
	name := t.String()
	if g.defs[name] != nil {
		return
	}
	n := &Node{
		Description: g.comments[name], Type: "object",
		Required: g.Required[name], Properties: make(map[string]*Node), AdditionalProperties: false,
	}
	g.used[name] = true
	g.defs[name] = n
	for i := range t.NumField() {
		field := t.Field(i)
		key := field.Tag.Get("yaml")
		if key == "" {
			g.errs = append(g.errs, fmt.Errorf("schema: %s.%s has no key", name, field.Name))
			continue
		}
		p := g.node(field.Type)
		p.Description = g.comments[name+"."+field.Name]
		if list, ok := g.Enums[name+"."+key]; ok {
			g.used[name+"."+key] = true
			p.Enum = list
		}
		n.Properties[key] = p
	}
	for _, key := range n.Required {
		if n.Properties[key] == nil {
			g.errs = append(g.errs, fmt.Errorf("schema: %s has no key %s to require", name, key))
		}
	}
}
