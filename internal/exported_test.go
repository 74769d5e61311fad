package internal

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var shrink = flag.Bool("shrink", false, "take names that are used by now off the list of exported names")

// exportedList are the exported names that no other package names, and that are
// kept: a line each, and who should look at it knows why from the comment above.
const exportedList = "testdata/exported.txt"

// declared is a package's own view of one exported name.
type declared struct {
	file     string
	mentions []string // exported names of the package in its signature, fields or type
	typ      string   // of a constant: the package's type, where it has one
	used     bool     // by the program: another package, outside tests
	tested   bool     // by another package's tests
}

// TestExportedNamesAreUsed guards that a package exports what others use: functions,
// types, variables and constants that a program of another package names, or that
// stand in the declaration of one that is (the type of a field, a parameter, the
// values of an enumeration). Methods and fields are not looked at. What is used by
// nobody else is made unexported, or deleted; the few that are kept on purpose, and
// those that only tests of others use, stand in testdata/exported.txt with their reasons, which only
// shrinks: go test ./internal -run Exported -shrink.
func TestExportedNamesAreUsed(t *testing.T) {
	packages := map[string]map[string]*declared{} // by folder, by name
	type use struct{ dir, name string }
	uses, testUses := map[use]bool{}, map[use]bool{}
	fset := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != ".." && (name == "testdata" || name[0] == '.' || name[0] == '_' || name == "runs") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", filepath.Dir(path))
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(rel)
		test := strings.HasSuffix(name, "_test.go")
		if !test && f.Name.Name != "main" && !strings.HasPrefix(dir, "cmd/") {
			if packages[dir] == nil {
				packages[dir] = map[string]*declared{}
			}
			declare(packages[dir], f, path)
		}
		imports := map[string]string{} // name in the file → folder
		for _, i := range f.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			in, ok := strings.CutPrefix(p, module)
			if !ok {
				continue
			}
			local := in[strings.LastIndexByte(in, '/')+1:]
			if i.Name != nil {
				local = i.Name.Name
			}
			imports[local] = in
		}
		if strings.HasSuffix(dir, "test") { // a suite or a twin for tests
			test = true
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && imports[x.Name] != "" {
				u := use{imports[x.Name], s.Sel.Name}
				switch {
				case u.dir == dir: // a package's own outer tests
				case test:
					testUses[u] = true
				default:
					uses[u] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for u := range uses {
		reach(packages[u.dir], u.name, func(d *declared) *bool { return &d.used })
	}
	for u := range testUses {
		reach(packages[u.dir], u.name, func(d *declared) *bool { return &d.tested })
	}

	list, err := os.ReadFile(exportedList)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		if name := strings.TrimSpace(line); name != "" && name[0] != '#' {
			if kept[name] {
				t.Errorf("%s: %s stands twice", exportedList, name)
			}
			kept[name] = true
		}
	}
	unused := map[string]bool{}
	for dir, names := range packages {
		for name, d := range names {
			if d.used || d.tested && strings.HasSuffix(dir, "test") || d.file == "" {
				continue
			}
			full := dir + "." + name
			unused[full] = true
			by := "nobody else"
			if d.tested {
				by = "tests of other packages alone"
			}
			if !kept[full] {
				t.Errorf("%s: %s is exported and used by %s: make it unexported, move it to the tests, or delete it (or say in internal/%s why it is kept)", d.file, full, by, exportedList)
			}
		}
	}
	for name := range kept {
		if !unused[name] && !*shrink {
			t.Errorf("internal/%s: %s is used by now, or gone: take it off the list (go test ./internal -run Exported -shrink)", exportedList, name)
		}
	}
	if *shrink {
		var out bytes.Buffer
		for line := range strings.Lines(string(list)) {
			if name := strings.TrimSpace(line); name == "" || name[0] == '#' || unused[name] {
				out.WriteString(line)
			}
		}
		if err := os.WriteFile(exportedList, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// reach marks a name and what stands in its declaration.
func reach(names map[string]*declared, name string, mark func(*declared) *bool) {
	d := names[name]
	if d == nil || *mark(d) {
		return
	}
	*mark(d) = true
	for _, m := range d.mentions {
		reach(names, m, mark)
	}
	for n, c := range names { // the values of an enumeration
		if c.typ == name {
			reach(names, n, mark)
		}
	}
}

// declare adds the exported names of a file. Methods belong to their type's declaration.
func declare(names map[string]*declared, f *ast.File, path string) {
	get := func(name string) *declared {
		if names[name] == nil {
			names[name] = &declared{}
		}
		return names[name]
	}
	add := func(name string, nodes ...ast.Node) *declared {
		d := get(name)
		d.file = path
		for _, n := range nodes {
			d.mentions = append(d.mentions, mentioned(n)...)
		}
		return d
	}
	for _, decl := range f.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if !decl.Name.IsExported() {
				continue
			}
			if decl.Recv == nil {
				add(decl.Name.Name, decl.Type)
				continue
			}
			if r := receiver(decl.Recv.List[0].Type); ast.IsExported(r) {
				d := get(r)
				d.mentions = append(d.mentions, mentioned(decl.Type)...)
			}
		case *ast.GenDecl:
			typ := ""
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						add(spec.Name.Name, spec.Type)
					}
				case *ast.ValueSpec:
					if spec.Type != nil {
						typ = fmt.Sprint(spec.Type)
					} else if len(spec.Values) > 0 {
						typ = ""
					}
					for _, n := range spec.Names {
						if n.IsExported() {
							d := add(n.Name)
							if decl.Tok == token.CONST {
								d.typ = typ
							} else if spec.Type != nil {
								d.mentions = append(d.mentions, mentioned(spec.Type)...)
							}
						}
					}
				}
			}
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// mentioned are the exported names of the same package that a declaration shows:
// those of types of parameters, results, exported fields and methods.
func mentioned(n ast.Node) (names []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			for _, f := range n.Fields.List {
				if len(f.Names) == 0 || slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
					names = append(names, mentioned(f.Type)...)
				}
			}
			return false
		case *ast.Field:
			names = append(names, mentioned(n.Type)...)
			return false
		case *ast.SelectorExpr:
			return false // of another package
		case *ast.Ident:
			if n.IsExported() {
				names = append(names, n.Name)
			}
		}
		return true
	})
	return names
}
