package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Check holds a YAML document against a schema and returns what is wrong with
// it, by path. It knows the keywords of Node; another one is an error.
func Check(schema, document []byte) (wrong []string, err error) {
	var root Node
	d := json.NewDecoder(bytes.NewReader(schema))
	d.DisallowUnknownFields()
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if root.Schema != Draft {
		return nil, fmt.Errorf("schema: written in %q, not %s", root.Schema, Draft)
	}
	var v any
	if err := yaml.Unmarshal(document, &v); err != nil {
		return nil, fmt.Errorf("schema: document: %w", err)
	}
	c := checker{defs: root.Defs}
	c.check(&root, "", v)
	slices.Sort(c.wrong)
	return c.wrong, nil
}

type checker struct {
	defs  map[string]*Node
	wrong []string
}

func (c *checker) fail(path, format string, args ...any) {
	c.wrong = append(c.wrong, path+": "+fmt.Sprintf(format, args...))
}

func (c *checker) check(n *Node, path string, v any) {
	if n.Ref != "" {
		def := c.defs[strings.TrimPrefix(n.Ref, "#/$defs/")]
		if def == nil {
			c.fail(path, "%s is not defined", n.Ref)
			return
		}
		c.check(def, path, v)
	}
	if n.Type != nil && !allows(n.Type, v) {
		c.fail(path, "is %T, want %v", v, n.Type)
		return
	}
	if n.Enum != nil && !slices.ContainsFunc(n.Enum, func(one any) bool { return fmt.Sprint(one) == fmt.Sprint(v) }) {
		c.fail(path, "%v is not on the list", v)
	}
	switch v := v.(type) {
	case string:
		if n.Pattern != "" && !regexp.MustCompile(n.Pattern).MatchString(v) {
			c.fail(path, "%q does not fit %s", v, n.Pattern)
		}
	case []any:
		for i, item := range v {
			if n.Items != nil {
				c.check(n.Items, fmt.Sprintf("%s[%d]", path, i), item)
			}
		}
	case map[string]any:
		c.object(n, path, v)
	default:
		if f, ok := number(v); ok && (n.Minimum != nil && f < *n.Minimum || n.Maximum != nil && f > *n.Maximum) {
			c.fail(path, "%v is out of range", v)
		}
	}
}

func (c *checker) object(n *Node, path string, v map[string]any) {
	for _, key := range n.Required {
		if _, ok := v[key]; !ok {
			c.fail(path, "%s is missing", key)
		}
	}
	for key, value := range v {
		at := path + "." + key
		known := n.Properties[key]
		for pattern, p := range n.PatternProperties {
			if known == nil && regexp.MustCompile(pattern).MatchString(key) {
				known = p
			}
		}
		switch more := n.AdditionalProperties.(type) {
		case bool:
			if known == nil && !more {
				c.fail(at, "unknown key")
			}
		case map[string]any: // a schema, decoded without its type
			if known == nil {
				known = asNode(more)
			}
		}
		if known != nil {
			c.check(known, at, value)
		}
	}
}

func asNode(v map[string]any) *Node {
	var n Node
	if text, err := json.Marshal(v); err == nil && json.Unmarshal(text, &n) == nil {
		return &n
	}
	return &Node{Enum: []any{}} // nothing fits what cannot be read
}

func allows(types, v any) bool {
	switch t := types.(type) {
	case string:
		return isA(t, v)
	case []any:
		return slices.ContainsFunc(t, func(one any) bool { name, _ := one.(string); return isA(name, v) })
	}
	return false
}

func isA(name string, v any) bool {
	f, isNumber := number(v)
	switch name {
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "array":
		_, ok := v.([]any)
		return ok
	case "object":
		_, ok := v.(map[string]any)
		return ok
	case "number":
		return isNumber
	case "integer":
		return isNumber && f == math.Trunc(f)
	}
	return false
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
