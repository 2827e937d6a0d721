package strict

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Decode reads data into the struct that into points to, field by field after
// its yaml tags. What could not be decoded keeps its zero value and is among
// the Doc's problems.
func Decode(file string, data []byte, into any) *Doc {
	d := &Doc{File: file, places: make(map[string]place), doubtful: make(map[string]bool)}
	body, at, err := parse(data)
	switch {
	case err != nil:
		d.refuse("", at, "correct this place first; the rest of the file is checked after it", "%v", err)
	case body == nil:
		d.refuse("", place{1, 1}, "begin with an example file", "the file is empty")
	default:
		d.decode("", body, reflect.ValueOf(into).Elem())
	}
	return d
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *Doc) decode(key string, n ast.Node, v reflect.Value) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.refuse(key, d.locate(key), "write the value out", "anchors, aliases and tags are not accepted")
		return
	case *ast.NullNode:
		d.refuse(key, d.locate(key), "give it one or remove the key", "has no value")
		return
	}
	switch {
	case v.Type() == durationType:
		d.decodeDuration(key, n, v)
	case reflect.PointerTo(v.Type()).Implements(textType):
		d.decodeText(key, n, v)
	default:
		d.decodeKind(key, n, v)
	}
}

func (d *Doc) decodeKind(key string, n ast.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.decode(key, n, p.Elem())
		v.Set(p)
	case reflect.Struct:
		d.decodeStruct(key, n, v)
	case reflect.Map:
		d.decodeMap(key, n, v)
	case reflect.Slice:
		d.decodeSlice(key, n, v)
	case reflect.String:
		d.decodeString(key, n, v)
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
		d.wrongType(key, n, "true or false")
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.decodeInteger(key, n, v)
	case reflect.Float64:
		d.decodeFloat(key, n, v)
	default:
		panic(fmt.Sprintf("strict: %s: no decoder for a %s", key, v.Type())) // a mistake in the schema, not in the file
	}
}

func (d *Doc) wrongType(key string, n ast.Node, want string) {
	d.refuse(key, d.locate(key), "write "+want, "is %s", describe(n))
}

func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a block of keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.LiteralNode:
		return "a text of several lines"
	case *ast.StringNode:
		return fmt.Sprintf("the text %q", n.Value)
	case *ast.BoolNode:
		return "the truth value " + n.GetToken().Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	}
	return "something else"
}

func (d *Doc) decodeString(key string, n ast.Node, v reflect.Value) {
	switch n := n.(type) {
	case *ast.StringNode:
		v.SetString(n.Value)
	case *ast.LiteralNode:
		v.SetString(n.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		d.refuse(key, d.locate(key), fmt.Sprintf("put it in quotes: %q", n.GetToken().Value), "is %s where text belongs", describe(n))
	default:
		d.wrongType(key, n, "text")
	}
}

func (d *Doc) decodeDuration(key string, n ast.Node, v reflect.Value) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		d.wrongType(key, n, "a duration with its unit: 500ms, 10s, 5m")
		return
	}
	t, err := time.ParseDuration(s.Value)
	if err != nil {
		d.wrongType(key, n, "a duration with its unit: 500ms, 10s, 5m")
		return
	}
	v.SetInt(int64(t))
}

func (d *Doc) decodeText(key string, n ast.Node, v reflect.Value) {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode:
	default:
		d.wrongType(key, n, "one value")
		return
	}
	// A type's own error says what it wants; a comma in it separates what from hint.
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.GetToken().Value)); err != nil {
		what, hint, _ := strings.Cut(err.Error(), ", ")
		d.refuse(key, d.locate(key), hint, "%s", what)
	}
}

func (d *Doc) decodeInteger(key string, n ast.Node, v reflect.Value) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		d.wrongType(key, n, "a whole number")
		return
	}
	fits := false
	switch x := i.Value.(type) {
	case int64:
		if v.CanInt() && !v.OverflowInt(x) {
			v.SetInt(x)
			fits = true
		}
	case uint64:
		switch {
		case v.CanUint() && !v.OverflowUint(x):
			v.SetUint(x)
			fits = true
		case v.CanInt() && x <= math.MaxInt64 && !v.OverflowInt(int64(x)):
			v.SetInt(int64(x))
			fits = true
		}
	}
	if !fits {
		d.refuse(key, d.locate(key), "write a number that can stand here", "the number %s is out of range", i.Token.Value)
	}
}

func (d *Doc) decodeFloat(key string, n ast.Node, v reflect.Value) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		switch x := n.Value.(type) {
		case int64:
			v.SetFloat(float64(x))
		case uint64:
			v.SetFloat(float64(x))
		}
	case *ast.FloatNode:
		if math.IsInf(n.Value, 0) {
			d.wrongType(key, n, "a finite number")
			return
		}
		v.SetFloat(n.Value)
	default:
		d.wrongType(key, n, "a number")
	}
}

func (d *Doc) decodeSlice(key string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrongType(key, n, "a list: [a, b], or one \"- \" line each")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		itemKey := key + "[" + strconv.Itoa(i) + "]"
		d.places[itemKey] = begin(item)
		d.decode(itemKey, item, list.Index(i))
	}
	v.Set(list)
}

// entries returns the entries of a mapping, in order, without those that
// cannot be told apart: merge keys, complex keys, repetitions.
func (d *Doc) entries(key string, n ast.Node) (entries []entry, ok bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.wrongType(key, n, "a block of keys")
		return nil, false
	}
	seen := make(map[string]bool, len(values))
	for _, value := range values {
		at := placeOf(value.Key.GetToken())
		var name string
		switch k := value.Key.(type) {
		case *ast.StringNode:
			name = k.Value
		case *ast.IntegerNode:
			name = k.Token.Value
		default:
			d.refuse(key, at, "use plain names as keys", "%q is no key", value.Key.GetToken().Value)
			continue
		}
		path := join(key, name)
		if seen[name] {
			d.refuse(path, at, "keep one of them", "stands here twice")
			continue
		}
		seen[name] = true
		d.places[path] = at
		entries = append(entries, entry{name: name, path: path, value: value.Value})
	}
	return entries, true
}

type entry struct {
	name, path string
	value      ast.Node
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func (d *Doc) decodeStruct(key string, n ast.Node, v reflect.Value) {
	entries, ok := d.entries(key, n)
	if !ok {
		return
	}
	fields := make(map[string]int, v.NumField())
	names := make([]string, v.NumField())
	for i := range v.NumField() {
		names[i] = v.Type().Field(i).Tag.Get("yaml")
		fields[names[i]] = i
	}
	for _, e := range entries {
		i, known := fields[e.name]
		if !known {
			d.unknownKey(key, e, names)
			continue
		}
		d.decode(e.path, e.value, v.Field(i))
	}
}

func (d *Doc) unknownKey(key string, e entry, names []string) {
	hint := "one of: " + strings.Join(names, ", ")
	if near, ok := Nearest(e.name, names); ok {
		hint = fmt.Sprintf("did you mean %q?", near)
		d.doubtful[join(key, near)] = true // that it is missing would be an echo
	}
	d.refuse(e.path, d.places[e.path], hint, "unknown key")
}

func (d *Doc) decodeMap(key string, n ast.Node, v reflect.Value) {
	entries, ok := d.entries(key, n)
	if !ok {
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(entries))
	for _, e := range entries {
		k := reflect.New(v.Type().Key()).Elem()
		if k.CanUint() {
			code, err := strconv.ParseUint(e.name, 0, 64)
			if err != nil {
				d.refuse(e.path, d.places[e.path], "write a whole number such as 12 or 0x0C", "%q is no code", e.name)
				continue
			}
			k.SetUint(code)
			at := d.places[e.path]
			e.path = join(key, strconv.FormatUint(code, 10)) // 12, 0xC and 0b1100 are one key
			d.places[e.path] = at
		} else {
			k.SetString(e.name)
		}
		if m.MapIndex(k).IsValid() {
			d.refuse(e.path, d.places[e.path], "keep one of them", "stands here twice")
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.decode(e.path, e.value, item)
		m.SetMapIndex(k, item)
	}
	v.Set(m)
}
