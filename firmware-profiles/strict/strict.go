// Package strict decodes a YAML file into typed structs and remembers where
// each key stands.
//
// It guarantees: every unknown key, duplicate key, missing value and wrong
// type in a file is found in one run (a file that is no YAML at all yields the
// first place where it is not); every Problem carries file, line, column and
// the full key; columns count characters, not bytes; it never panics on
// whatever bytes it is given. What the author of a file wrote twice is never
// chosen from silently: anchors, aliases, merge keys, tags and second
// documents are refused.
package strict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one finding in a file.
type Problem struct {
	File      string
	Line, Col int
	Key       string
	What      string
	Hint      string
}

// String returns "file:line:col key: what, and what to do".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
	}
	if p.Key != "" {
		b.WriteString(" " + p.Key)
	}
	b.WriteString(": " + p.What)
	if p.Hint != "" {
		b.WriteString(", " + p.Hint)
	}
	return b.String()
}

// Errors is every problem of a load, one line each.
type Errors []Problem

// Error prints one problem per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Sort orders problems by file, line, column, key and text, so that two runs
// print the same.
func (e Errors) Sort() {
	slices.SortFunc(e, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.What, b.What),
		)
	})
}

// place is where a key or its value begins.
type place struct{ line, col int }

// Doc is a decoded file with the place of every key and the problems so far.
type Doc struct {
	File     string
	places   map[string]place
	doubtful map[string]bool // keys whose value was refused: further findings there would be echoes
	problems Errors
}

// Fail records that something is wrong with a key, such as
// "devices[2].points.di1.role". Its place is the key's own, or that of the
// nearest enclosing key that the file has. A finding on a key that could not
// be decoded in the first place is dropped: it would only be its echo.
func (d *Doc) Fail(key, hint, what string, args ...any) {
	if d.refused(key) {
		return
	}
	d.problems = append(d.problems, d.Problem(key, hint, what, args...))
}

// Problem returns a finding about a key without recording it.
func (d *Doc) Problem(key, hint, what string, args ...any) Problem {
	at := d.locate(key)
	return Problem{File: d.File, Line: at.line, Col: at.col, Key: key, What: fmt.Sprintf(what, args...), Hint: hint}
}

// Has reports whether the file has the key.
func (d *Doc) Has(key string) bool {
	_, ok := d.places[key]
	return ok
}

// OK reports whether the key decoded, or is not there at all.
func (d *Doc) OK(key string) bool { return !d.refused(key) }

// Problems returns what was found so far, in order of place.
func (d *Doc) Problems() Errors {
	sorted := slices.Clone(d.problems)
	sorted.Sort()
	return sorted
}

// Err returns all problems as one error, or nil.
func (d *Doc) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	return d.Problems()
}

// refuse records a decoding failure at a place and marks its key.
func (d *Doc) refuse(key string, at place, hint, what string, args ...any) {
	d.doubtful[key] = true
	d.problems = append(d.problems, Problem{
		File: d.File, Line: at.line, Col: at.col, Key: key, What: fmt.Sprintf(what, args...), Hint: hint,
	})
}

func (d *Doc) refused(key string) bool {
	for {
		if d.doubtful[key] {
			return true
		}
		up, ok := parent(key)
		if !ok {
			return d.doubtful[""]
		}
		key = up
	}
}

func (d *Doc) locate(key string) place {
	for {
		if at, ok := d.places[key]; ok {
			return at
		}
		up, ok := parent(key)
		if !ok {
			return place{1, 1}
		}
		key = up
	}
}

// parent cuts the last step off a key; ok is false at the top.
func parent(key string) (string, bool) {
	if i := strings.LastIndexAny(key, ".["); i > 0 {
		return key[:i], true
	}
	return "", false
}
