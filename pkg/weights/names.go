package weights

import (
	"fmt"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// match says whether a pattern, in which each * is any text, is all of name,
// and what each * stands for: the shortest texts, from the left.
func match(pattern, name string) (stars []string, ok bool) {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return nil, pattern == name
	}
	name, ok = strings.CutPrefix(name, head)
	if !ok {
		return nil, false
	}
	for i := 0; i <= len(name); i++ {
		if stars, ok := match(rest, name[i:]); ok {
			return append([]string{name[:i]}, stars...), true
		}
	}
	return nil, false
}

// Match says whether a pattern, in which each * is any text, is all of name.
func Match(pattern, name string) bool {
	_, ok := match(pattern, name)
	return ok
}

// rename translates a name by the first rule that matches; without one it
// stays. dropped says that the rule wants it gone.
func rename(rules job.Renames, name string) (to string, dropped bool) {
	for _, r := range rules {
		stars, ok := match(r.From, name)
		if !ok {
			continue
		}
		if r.To == "" {
			return "", true
		}
		for i, part := range strings.Split(r.To, "*") {
			if i > 0 {
				to += stars[i-1]
			}
			to += part
		}
		return to, false
	}
	return name, false
}

// Matching returns the parameters that a pattern names, and an error that says
// what there is where it names none.
func Matching(ps *tensor.Params, key, pattern string) (list []*tensor.Param, err error) {
	var parts []string
	seen := map[string]bool{}
	for _, p := range ps.List() {
		if _, ok := match(pattern, p.Name); ok {
			list = append(list, p)
		}
		if first, _, _ := strings.Cut(p.Name, "."); !seen[first] {
			seen[first] = true
			parts = append(parts, first)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no parameter matches %q; names begin with %s, and * is any text",
			key, pattern, strings.Join(parts, ", "))
	}
	return list, nil
}
