package job

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// maxActionName bounds the name or unit of an action's dimension: it heads a
// line of every table.
const maxActionName = 40

// checkActions checks what the job calls the dimensions of its actions.
func (j *Job) checkActions(c *checker) {
	d := j.Data
	if namesTokens(j.Model.Kind) || d.Kind == "tabletop" {
		kind := "model.kind " + j.Model.Kind
		if d.Kind == "tabletop" {
			kind = "data.kind tabletop, which has names and units of its own"
		}
		c.unused("data.action_names", len(d.ActionNames) == 0, kind)
		c.unused("data.action_units", len(d.ActionUnits) == 0, kind)
		return
	}
	for _, l := range []struct {
		key, what string
		v         []string
	}{{"data.action_names", "names", d.ActionNames}, {"data.action_units", "units", d.ActionUnits}} {
		if n := len(l.v); n > 0 && j.Model.ActionDim > 0 && n != j.Model.ActionDim {
			c.bad(l.key+" model.action_dim", "%d %s for actions of model.action_dim %d; want one for each dimension, in order", n, l.what, j.Model.ActionDim)
		}
		seen := map[string]int{}
		for i, s := range l.v {
			key := fmt.Sprintf("%s[%d] %s", l.key, i, l.key)
			first, again := seen[s]
			seen[s] = i
			switch {
			case s == "" && l.what == "names":
				c.bad(key, "is empty; want a name such as x or joint_1")
			case utf8.RuneCountInString(s) > maxActionName:
				c.bad(key, "has %d characters; want at most %d", utf8.RuneCountInString(s), maxActionName)
			case !printable(s):
				c.bad(key, "%q has characters that cannot be printed", s)
			case again && l.what == "names":
				c.bad(key, "%q is the name of dimension %d already", s, first)
			}
		}
	}
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
