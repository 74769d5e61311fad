package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// onPurpose lists, for each package that is tidy, the exported names that no other
// package uses, and that are exported all the same. Another package's name that
// nobody uses is to be unexported.
var onPurpose = map[string][]string{
	// What a constructor returns has a name that its caller may write. An enumeration
	// is exported whole, and so are the messages, which are one vocabulary:
	// docs/formats.md documents them, and a Bus carries them.
	"pkg/cluster": {
		"Driver", "Node",
		"Assigned", "AtRest", "Listening", "Status", "Stepping",
		"Forming", "Paused", "Saving", "Settling",
		"AutoRoad", "DropStraggler", "ShedStraggler", "ResyncDivergence", "RewindDivergence", "Outcome",
		"StateSource", "FromItself", "FromPeers",
		"Message", "Decode", "Beat", "Control", "Fault", "Formed", "Go", "Introduce", "Lead", "Leave", "Ready", "Recall",
		"Restore", "Seat", "Snapshot", "Standing", "Stored",
	},
	// Results and their parts, errors that callers may tell apart, and what Step reads from.
	"pkg/train":     {"Batches", "Bend", "Held", "MomentsFile", "Need", "Optimizer", "Shape", "TooLargeError"},
	"pkg/eval":      {"ActionReport", "DoFReport", "NoTargetError", "Stager", "TokenReport"},
	"pkg/bulk":      {"Item"},
	"pkg/transport": {"Memory"},
	"pkg/weights":   {},
	"pkg/worker":    {"Description", "Worker"},
	// What a constructor or a reader returns.
	"pkg/run":     {"Run", "Origin", "Address", "HeldoutMetric", "Pruned"},
	"pkg/trained": {"File"},
}

// Names are exported for others, who use them, or on purpose.
func TestExportsAreUsed(t *testing.T) {
	exported, used := map[string][]string{}, map[string]bool{} // by package; package and name
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != ".." && (name == "testdata" || name[0] == '.' || name == "runs") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel("..", filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(dir)
		if _, tidy := onPurpose[pkg]; tidy && !strings.HasSuffix(name, "_test.go") {
			exported[pkg] = append(exported[pkg], exports(f)...)
		}
		for from, names := range uses(f) {
			if from == pkg {
				continue // its own outer tests
			}
			for _, n := range names {
				used[from+"."+n] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, purpose := range onPurpose {
		if len(exported[pkg]) == 0 {
			t.Errorf("%s exports nothing: the house has moved", pkg)
		}
		for _, n := range exported[pkg] {
			if !used[pkg+"."+n] && !slices.Contains(purpose, n) {
				t.Errorf("%s.%s is used by no other package: unexport it, or say here why not", pkg, n)
			}
		}
		for _, n := range purpose {
			if !slices.Contains(exported[pkg], n) {
				t.Errorf("%s.%s is listed, and is not there any more", pkg, n)
			} else if used[pkg+"."+n] {
				t.Errorf("%s.%s is listed as used by nobody, and is used", pkg, n)
			}
		}
	}
}

// exports are the names that a file's package exports by it: no methods, no fields.
func exports(f *ast.File) (names []string) {
	add := func(id *ast.Ident) {
		if id.IsExported() {
			names = append(names, id.Name)
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					add(s.Name)
				case *ast.ValueSpec:
					for _, id := range s.Names {
						add(id)
					}
				}
			}
		}
	}
	return names
}

// uses are the names that a file has of this module's packages, by package.
func uses(f *ast.File) map[string][]string {
	local := map[string]string{} // package by the name that the file has for it
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		if in, ok := strings.CutPrefix(p, module); ok {
			name := in[strings.LastIndex(in, "/")+1:]
			if i.Name != nil {
				name = i.Name.Name
			}
			local[name] = in
		}
	}
	out := map[string][]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && local[x.Name] != "" {
				out[local[x.Name]] = append(out[local[x.Name]], s.Sel.Name)
			}
		}
		return true
	})
	return out
}
