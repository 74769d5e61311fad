package job

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// finding is a mistake in a value: the key to show, and the others that the
// check looked at.
type finding struct {
	keys []string
	text string
}

// Checker collects what is wrong with a job. Keys are dotted and in full, such as
// model.d_model; a mistake is shown at the place of its first key that the file
// gives, and not at all where another mistake has made it.
type Checker struct {
	Job   *Job // as it is; its Options are those of the kinds that it names
	found []finding
}

// Bad records a mistake; keys are separated by spaces, the one to show first,
// then those that the check looked at too.
func (c *Checker) Bad(keys, format string, args ...any) {
	c.found = append(c.found, finding{strings.Fields(keys), fmt.Sprintf(format, args...)})
}

// Within checks least ≤ v ≤ most and reports whether it holds.
func (c *Checker) Within(key string, v, least, most int) bool {
	switch {
	case v < least:
		c.Bad(key, "%d is too small; want at least %d", v, least)
	case v > most:
		c.Bad(key, "%d is too large; want at most %d", v, most)
	default:
		return true
	}
	return false
}

// OneOf checks v against the words of an enumeration.
func (c *Checker) OneOf(key, v string, words []string) bool {
	switch {
	case slices.Contains(words, v):
		return true
	case v == "":
		c.Bad(key, "is missing; want one of %s", strings.Join(words, ", "))
	default:
		c.Bad(key, "%q is unknown; %s", v, meant(v, words))
	}
	return false
}

// Unused refuses a value that what, such as model.kind vit, has no use for.
func (c *Checker) Unused(key string, zero bool, what string) {
	if !zero {
		c.Bad(key, "%s", hasNoMeaning(what))
	}
}

func hasNoMeaning(what string) string { return "has no meaning for " + what + "; leave it out" }

// kind checks that a section's kind is known, and has it check the section's
// Options; it reports the first.
func (c *Checker) kind(key, name string, kinds []Kind, o Options) bool {
	if !c.OneOf(key, name, names(kinds)) {
		return false
	}
	k := find(kinds, name)
	section := strings.TrimSuffix(key, ".kind")
	own, _ := fields(copyOf(o))
	defaults, _ := fields(copyOf(k.Options))
	for i, f := range own {
		if !k.uses(f.key) {
			c.Unused(join(section, f.key), empty(f.v) && empty(defaults[i].v) || reflect.DeepEqual(f.v.Interface(), defaults[i].v.Interface()), key+" "+name)
		}
	}
	o.Check(c)
	return true
}

// Err is an *Error of everything found, without places; nil: nothing.
func (c *Checker) Err() error {
	if len(c.found) == 0 {
		return nil
	}
	e := &Error{}
	for _, f := range c.found {
		e.Problems = append(e.Problems, Problem{Key: f.keys[0], Text: f.text})
	}
	return e
}

// Divisors lists n's, all of them if few, for people to choose from.
func Divisors(n int) string {
	var d []string
	for i := 1; i <= n; i++ {
		if n%i == 0 {
			d = append(d, fmt.Sprint(i))
		}
	}
	if len(d) > 12 {
		d = append(append(d[:6:6], "…"), d[len(d)-5:]...)
	}
	return strings.Join(d, ", ")
}
