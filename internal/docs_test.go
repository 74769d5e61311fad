package internal

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the documents name is there: the files that they link to, the packages and
// files of this module, and the tests that a go test command of theirs runs.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\(([^)#:]+)[)#]`)
	paths := regexp.MustCompile("`((?:cmd|docs|examples|internal|k8s|pkg|test|tools)/[\\w./-]+)`")
	commands := regexp.MustCompile(`go test [^` + "`" + `\n]*(\./[\w/]+)[^` + "`" + `\n]*`)
	chosen := regexp.MustCompile(`-(run|bench) '?([\w$^]+)`)
	found := map[string]int{}
	for _, doc := range append(docs, "../README.md", "../CHANGELOG.md") {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		there := func(kind, name, path string) {
			found[kind]++
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s names %s, and there is none", doc, name)
			}
		}
		for _, m := range links.FindAllStringSubmatch(string(b), -1) {
			there("link", m[1], filepath.Join(filepath.Dir(doc), m[1]))
		}
		for _, m := range paths.FindAllStringSubmatch(string(b), -1) {
			there("path", m[1], filepath.Join("..", m[1]))
		}
		for _, m := range commands.FindAllStringSubmatch(string(b), -1) {
			tests := testsOf(t, filepath.Join("..", m[1]))
			for _, c := range chosen.FindAllStringSubmatch(m[0], -1) {
				if c[2] == "^$" { // no test, but benchmarks
					continue
				}
				found[c[1]]++
				kind := map[string]string{"run": "Test", "bench": "Benchmark"}[c[1]]
				any, matches := false, regexp.MustCompile(c[2])
				for _, name := range tests {
					any = any || strings.HasPrefix(name, kind) && matches.MatchString(name)
				}
				if !any {
					t.Errorf("%s: %s runs nothing", doc, m[0])
				}
			}
		}
	}
	for kind, least := range map[string]int{"link": 50, "path": 50, "run": 4, "bench": 3} {
		if found[kind] < least {
			t.Errorf("%d of kind %s were looked at, want %d: does this test still see what it is to look at?", found[kind], kind, least)
		}
	}
}

// testsOf are the tests and benchmarks in a directory and below it.
func testsOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)`)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			names = append(names, m[1])
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return names
}

// The drawing of packages in docs/design.md is the table of house_test.go.
func TestDesignDrawsTheHouse(t *testing.T) {
	b, err := os.ReadFile("../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	short := func(pkg string) string { return strings.TrimPrefix(strings.TrimPrefix(pkg, "pkg/"), "internal/") }
	drawn := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:pkg|internal|test|tools)/[\\w/]+)` \\|.*\\| ([^|]+) \\|$").FindAllStringSubmatch(string(b), -1) {
		pkg := m[1]
		drawn[pkg] = true
		if strings.Contains(m[2], "all below") {
			continue
		}
		var want, got []string
		for _, p := range may[pkg] {
			want = append(want, short(p))
		}
		if m[2] != "–" {
			got = strings.Split(m[2], ", ")
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("docs/design.md: %s may import %v, and here %v", pkg, got, want)
		}
	}
	for pkg := range may {
		if pkg != "internal" && !strings.HasPrefix(pkg, "cmd/") && !drawn[pkg] {
			t.Errorf("docs/design.md does not draw %s", pkg)
		}
	}
}
