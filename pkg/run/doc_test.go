package run

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The functions, types and files that the package comment walks through are there.
func TestPackageCommentNamesWhatIsThere(t *testing.T) {
	there := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	doc := ""
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		there[path] = true
		if path == "doc.go" {
			doc = f.Doc.Text()
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				there[d.Name.Name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						there[s.Name.Name] = true
					}
				}
			}
		}
	}
	walk, _, _ := strings.Cut(doc, "# Who waits")
	names := regexp.MustCompile(`(?m)^[ \t│]*[├└] (\w+)`).FindAllStringSubmatch(walk, -1)
	_, parts, _ := strings.Cut(doc, "# The parts")
	parts, _, _ = strings.Cut(parts, "# Words")
	names = append(names, regexp.MustCompile(`(?m)^\t(\w+) `).FindAllStringSubmatch(parts, -1)...)
	names = append(names, regexp.MustCompile(`(\w+\.go)`).FindAllStringSubmatch(parts, -1)...)
	names = append(names, regexp.MustCompile(`\((\w+)[,)]`).FindAllStringSubmatch(walk, -1)...)
	if len(names) < 40 {
		t.Fatalf("%d names were found in the package comment", len(names))
	}
	for _, n := range names {
		if !there[n[1]] {
			t.Errorf("the package comment names %s, and there is none", n[1])
		}
	}
}
