package internal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// share of the lines that are not blank which comments must have, at least, in
// the two packages that a newcomer has to understand, in percent.
const commentShare = 18

// columns bounds the lines of packages that are tidy in this: what a person reads
// beside another window.
const columns = 140

func TestComments(t *testing.T) {
	for _, pkg := range []string{"pkg/cluster", "pkg/train"} {
		lines, comments := 0, 0
		for _, l := range linesOf(t, pkg) {
			if l = strings.TrimSpace(l); l != "" {
				lines++
			}
			if strings.HasPrefix(l, "//") {
				comments++
			}
		}
		if 100*comments < commentShare*lines {
			t.Errorf("%s has %d lines of comments of %d, want %d %%: say why, and in which units and order", pkg, comments, lines, commentShare)
		}
	}
	for _, pkg := range []string{"pkg/bulk", "pkg/train", "pkg/transport", "pkg/weights", "pkg/worker", "pkg/eval"} {
		for _, l := range linesOf(t, pkg) {
			if n := utf8.RuneCountInString(l); n > columns {
				t.Errorf("%s: a line of %d columns, want %d at most: %s", pkg, n, columns, strings.TrimSpace(l))
			}
		}
	}
}

// linesOf are those of a package's files, without its tests.
func linesOf(t *testing.T, pkg string) (lines []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(b), "\n")...)
	}
	if len(lines) < 100 {
		t.Fatalf("%s has %d lines: the house has moved", pkg, len(lines))
	}
	return lines
}
