package schema

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
)

// readComments returns what the source files in folders say of their types
// (profiles.Point) and fields (profiles.Point.Space).
func readComments(folders []string) (map[string]string, error) {
	comments := make(map[string]string)
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("schema: no source files in %s", folder)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, fmt.Errorf("schema: %w", err)
			}
			collect(f, comments)
		}
	}
	return comments, nil
}

func collect(f *ast.File, comments map[string]string) {
	for _, decl := range f.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			t, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			name := f.Name.Name + "." + t.Name.Name
			comments[name] = text(gen.Doc, t.Doc)
			s, ok := t.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range s.Fields.List {
				for _, n := range field.Names {
					comments[name+"."+n.Name] = text(field.Doc, field.Comment)
				}
			}
		}
	}
}

// text joins comments into one line.
func text(groups ...*ast.CommentGroup) string {
	var words []string
	for _, g := range groups {
		words = append(words, strings.Fields(g.Text())...)
	}
	return strings.Join(words, " ")
}
