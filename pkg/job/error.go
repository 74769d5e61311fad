package job

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxShown is how many problems an Error prints; it holds all of them.
const maxShown = 10

// Error is everything found wrong with a job, in the order of the file.
type Error struct {
	Problems []Problem
	Err      error // the cause, where the file could not be read
}

// Problem is one mistake and where it is.
type Problem struct {
	Source    string // the file, or the --set option; empty: a Job that was never a file
	Line, Col int    // from 1; 0: the mistake has no place, such as a missing key
	Key       string // dotted, e.g. model.d_model; empty: the file as a whole
	Text      string
}

// String is the problem on one line: file:line:col: key: text.
func (p Problem) String() string {
	s := p.Source
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
		if p.Col > 0 {
			s += fmt.Sprintf(":%d", p.Col)
		}
	}
	if s != "" {
		s += ": "
	}
	if p.Key != "" {
		s += p.Key + ": "
	}
	return s + p.Text
}

// Error is the problems, one a line, ten at most.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems in the job:", len(e.Problems))
	for i, p := range e.Problems {
		if i == maxShown {
			fmt.Fprintf(&b, "\n  … and %d more", len(e.Problems)-maxShown)
			break
		}
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.Err }

// sorted orders problems by place: the file from top to bottom, then what has
// no place, then the --set options as given.
func sorted(problems []Problem, file string) []Problem {
	rank := func(p Problem) int {
		switch {
		case p.Source != file:
			return 2
		case p.Line == 0:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return problems
}
