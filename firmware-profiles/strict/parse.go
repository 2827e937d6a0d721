package strict

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file. No honest one comes near; a hostile one must not cost
// memory or stack.
const (
	MaxSize    = 1 << 20
	maxNesting = 32
)

// parse returns the only document in data, or where and why there is none. The
// parser is foreign code that sees outside bytes: a panic in it is a finding
// about the file.
func parse(data []byte) (body ast.Node, at place, err error) {
	at = place{1, 1}
	if len(data) > MaxSize {
		return nil, at, fmt.Errorf("the file has %d bytes, more than %d", len(data), MaxSize)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors begin UTF-8 with a byte order mark
	if !utf8.Valid(data) {
		return nil, firstInvalid(data), errors.New("not UTF-8 (written as GBK?)")
	}
	// One kind of line end: within quotes the scanner counts "\r\n" twice.
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	defer func() {
		if r := recover(); r != nil {
			body, err = nil, fmt.Errorf("not readable as YAML (%v)", r)
		}
	}()
	tokens := lexer.Tokenize(text)
	if t := tooDeep(tokens); t != nil {
		return nil, placeOf(t), fmt.Errorf("nested more than %d deep", maxNesting)
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if e := yaml.Error(nil); errors.As(err, &e) && e.GetToken() != nil {
			return nil, placeOf(e.GetToken()), fmt.Errorf("not YAML: %s", e.GetMessage())
		}
		return nil, at, fmt.Errorf("not YAML: %w", err)
	}
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			return nil, placeOf(doc.Body.GetToken()), errors.New("a second document begins")
		default:
			body = doc.Body
		}
	}
	return body, at, nil
}

// firstInvalid is the place of the first byte that is not UTF-8.
func firstInvalid(data []byte) place {
	at := place{1, 1}
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return at
		case r == '\n':
			at = place{at.line + 1, 1}
		default:
			at.col++
		}
		data = data[size:]
	}
	return at
}

// tooDeep returns the bracket that opens one level too many, or nil. The
// parser recurses per level.
func tooDeep(tokens token.Tokens) *token.Token {
	depth, line, dashes := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, dashes = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			dashes++
		}
		if depth > maxNesting || dashes > maxNesting {
			return t
		}
	}
	return nil
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// begin is where a node begins for a reader: a mapping at its first key.
func begin(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return placeOf(n.Values[0].Key.GetToken())
		}
	case *ast.MappingValueNode:
		return placeOf(n.Key.GetToken())
	}
	return placeOf(n.GetToken())
}
