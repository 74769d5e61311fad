package job

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Set is one of several data sets that a job's data is made of: a data section of
// its own, with a name and a weight. A kind of data has them as a key of type
// []Set; each is read, checked and written by its own kind.
type Set struct {
	Name    string  `yaml:"name"`
	Weight  float64 `yaml:"weight"`
	Kind    string  `yaml:"kind"`
	Path    string  `yaml:"path,omitempty"`
	Holdout Holdout `yaml:"holdout,omitempty"`
	Options Options `yaml:",inline"` // the kind's DataOptions
}

// Data is the set as the data section of a job that is d otherwise.
func (s Set) Data(d Data) Data {
	d.Kind, d.Path, d.Holdout, d.Options = s.Kind, s.Path, s.Holdout, s.Options
	return d
}

// with is the job of the set alone.
func (j *Job) with(s Set) *Job {
	c := *j
	c.Data = s.Data(j.Data)
	return &c
}

// ResolveSet is Options.Resolve for the set that stands at key, such as
// data.sets[0]. What the data section gives of the keys of all, and how much is
// held out, holds for the set where it says nothing else.
func (j *Job) ResolveSet(s Set, key string, all Options, given func(key string) bool) Set {
	if s.Options == nil { // of an unknown kind
		return s
	}
	shared := map[string]bool{}
	for _, f := range keysWithValues(all) {
		if f.v.Type() != reflect.TypeFor[[]Set]() && given("data."+f.key) && !given(join(key, f.key)) {
			if o, ok := set(s.Options, f); ok {
				s.Options, shared[f.key] = o, true
			}
		}
	}
	if !given(key + ".holdout") {
		s.Holdout.Fraction = j.Data.Holdout.Fraction
		shared["holdout.fraction"] = given("data.holdout.fraction")
	}
	own := func(k string) bool {
		if rest, ok := strings.CutPrefix(k, "data."); ok {
			return given(join(key, rest)) || shared[rest]
		}
		return given(k)
	}
	c := j.with(s)
	s.Options = s.Options.Resolve(c, own)
	s.Holdout = c.Data.Holdout
	if s.Holdout.apart() && !given(key+".holdout.fraction") {
		s.Holdout.Fraction = 0
	}
	if !given(key + ".weight") {
		s.Weight = 1
	}
	return s
}

// keysWithValues are the fields of options.
func keysWithValues(o Options) []field {
	list, _ := fields(copyOf(o))
	return list
}

// set returns the options with the value of a key that another kind has too; false
// where they have no such key.
func set(o Options, f field) (Options, bool) {
	c := copyOf(o)
	list, _ := fields(c)
	own, ok := named(list, f.key)
	if !ok || own.v.Type() != f.v.Type() {
		return o, false
	}
	own.v.Set(f.v)
	return c.Interface().(Options), true
}

// Set checks the set at key, such as data.sets[0], as its kind checks a data
// section: mistakes are shown at the set's own keys.
func (c *Checker) Set(key string, s Set) {
	sub := &Checker{Job: c.Job.with(s)}
	switch kinds := c.Job.kinds.Data; {
	case kinds == nil: // a job that was never a file
		s.Options.Check(sub)
	case sub.kind("data.kind", s.Kind, kinds, s.Options):
		sub.Job.checkHoldout(sub)
		if m, ok := c.Job.Model.Options.(ModelOptions); ok {
			if f := lacking(s.Options.(DataOptions), m.Takes()); f != "" {
				sub.Bad("data.kind model.kind", "%s has no %s for model.kind %s; want %s", s.Kind, f, c.Job.Model.Kind, Or(c.Job.kinds.giving(m.Takes())))
			}
		}
	}
	for _, f := range sub.found {
		for i, k := range f.keys {
			if rest, ok := strings.CutPrefix(k, "data."); ok {
				f.keys[i] = join(key, rest)
			}
		}
		c.found = append(c.found, f)
	}
}

// setNode writes a set; base is what a reader finds where nothing is said.
func (k Kinds) setNode(s reflect.Value) *yaml.Node {
	kind := s.FieldByName("Kind").String()
	d := k.Default("", kind).Data
	return k.section(s, reflect.ValueOf(Set{Kind: kind, Holdout: d.Holdout, Options: d.Options}))
}

// element is a key of an option that may name an element of a list: sets[0] is 0 of
// sets.
func element(key string) (name string, at int, ok bool) {
	name, rest, found := strings.Cut(key, "[")
	if _, err := fmt.Sscanf(rest, "%d]", &at); !found || err != nil || key != fmt.Sprintf("%s[%d]", name, at) {
		return key, 0, false
	}
	return name, at, true
}

// apart says that the held-out episodes are named, or are a set of their own.
func (h Holdout) apart() bool { return len(h.Episodes) > 0 || h.Split != "" || h.Path != "" }

// holdsOut says whether anything of the job's data is held out.
func (j *Job) holdsOut() bool {
	if h := j.Data.Holdout; h.apart() || h.Fraction != 0 {
		return true
	}
	return slices.ContainsFunc(setsOf(j.Data.Options), func(s Set) bool { return s.Holdout.apart() || s.Holdout.Fraction != 0 })
}

// setsOf are the sets of a kind of data that has some.
func setsOf(o Options) (sets []Set) {
	if o == nil {
		return nil
	}
	for _, f := range keysWithValues(o) {
		if l, ok := f.v.Interface().([]Set); ok {
			sets = append(sets, l...)
		}
	}
	return sets
}
