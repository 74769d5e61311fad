package internal

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each thing that docs/security.md says cannot be done names the test that shows
// it, and the package that has it: they are there.
func TestSecurityTable(t *testing.T) {
	b, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	test := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	pkg := regexp.MustCompile(`(pkg|internal|test)/[a-z0-9/]+`)
	rows, checked := 0, 0
	for n, line := range strings.Split(string(b), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.Contains(line, "---") || strings.TrimSpace(cells[2]) == "test" {
			continue
		}
		rows++
		names := test.FindAllStringSubmatchIndex(cells[2], -1)
		if len(names) == 0 {
			t.Errorf("docs/security.md:%d names no test: %s", n+1, cells[1])
		}
		for _, at := range names {
			name, rest := cells[2][at[2]:at[3]], cells[2][at[1]:]
			dir := pkg.FindString(rest)
			if dir == "" {
				t.Errorf("docs/security.md:%d: no package stands behind %s", n+1, name)
				continue
			}
			files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				found = found || strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)")
			}
			if checked++; !found {
				t.Errorf("docs/security.md:%d: %s has no %s", n+1, dir, name)
			}
		}
	}
	if rows < 20 || checked < rows {
		t.Errorf("%d rows with %d tests were found: the page has changed its form", rows, checked)
	}
}
