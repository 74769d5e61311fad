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
// held out, holds for the set where it says nothing else: key by key, also of those
// in a section, such as normalize.clip.
func (j *Job) ResolveSet(s Set, key string, all Options, given func(key string) bool) Set {
	if s.Options == nil { // of an unknown kind
		return s
	}
	shared := map[string]bool{}
	for _, f := range keysWithValues(all) {
		if f.v.Type() == reflect.TypeFor[[]Set]() {
			continue
		}
		own, ok := named(keysWithValues(s.Options), f.key)
		if !ok || own.v.Type() != f.v.Type() {
			continue
		}
		changed := false
		for _, p := range parts(f.v, own.v) {
			if p.says(given, "data."+f.key, p.all) && !p.says(given, join(key, f.key), p.own) {
				p.own.Set(p.all)
				changed, shared[join(f.key, p.key)] = true, true
			}
		}
		if changed {
			s.Options, shared[f.key] = set(s.Options, own), true
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

// set returns the options with the value of a key that they have.
func set(o Options, f field) Options {
	c := copyOf(o)
	list, _ := fields(c)
	own, _ := named(list, f.key)
	own.v.Set(f.v)
	return c.Interface().(Options)
}

// part is a value that the data section and a set both have: of a key, or of one in
// its section.
type part struct {
	key      string // in the section; empty: the whole
	bare     bool   // a bare word in the section's place means it
	all, own reflect.Value
}

// parts are those of a key. A section is one whole where its own word, true, may stand
// in its place, and else the keys in it.
func parts(all, own reflect.Value) (out []part) {
	_, whole := all.Interface().(standard)
	if all.Kind() != reflect.Struct || whole {
		return []part{{all: all, own: own}}
	}
	inner, _ := fields(all)
	ours, _ := fields(own)
	bare := bareOf(all.Type())
	for i, f := range inner {
		out = append(out, part{f.key, bare >= 0 && f.key == bareKey(all.Type()), f.v, ours[i].v})
	}
	return out
}

// says reports whether the section or the key at key gives the part, whose value there
// is v.
func (p part) says(given func(string) bool, key string, v reflect.Value) bool {
	switch {
	case p.key == "" && v.Kind() == reflect.Struct: // given as true, or by a key in it
		inner, _ := fields(v)
		return given(key) || slices.ContainsFunc(inner, func(f field) bool { return given(join(key, f.key)) })
	case p.key == "":
		return given(key)
	}
	return given(join(key, p.key))
}

// unreached says of a key of the data section, which somebody gave as an option, why no
// set has it; empty where one has, or where it is no key of sets.
func (j *Job) unreached(key string, given func(string) bool) string {
	name, inner, _ := strings.Cut(strings.TrimPrefix(key, "data."), ".")
	f, ok := named(keysWithValues(j.Data.Options), name)
	if !ok || f.v.Type() == reflect.TypeFor[[]Set]() {
		return ""
	}
	var sets []Set
	for _, x := range keysWithValues(j.Data.Options) {
		if l, ok := x.v.Interface().([]Set); ok {
			sets = l
		}
	}
	if sets == nil {
		return ""
	}
	var has, instead []string
	for i, s := range sets {
		if s.Options == nil {
			return ""
		}
		own, ok := named(keysWithValues(s.Options), name)
		if !ok || own.v.Type() != f.v.Type() {
			continue
		}
		at := fmt.Sprintf("data.sets[%d].%s", i, name)
		for _, p := range parts(f.v, own.v) {
			if inner != "" && p.key != "" && p.key != inner || inner == "" && p.key != "" && !p.bare {
				continue
			}
			if has = append(has, s.Name); !p.says(given, at, p.own) {
				return ""
			}
			if inner != "" {
				at = join(at, inner)
			}
			instead = append(instead, "--set "+at+"=…")
		}
	}
	switch {
	case len(has) > 0:
		return "does not reach a set: each has its own; want " + Or(instead)
	case slices.ContainsFunc(j.kinds.Data, func(k Kind) bool {
		_, other := named(k.options(), name)
		return other && k.Name != j.Data.Kind
	}):
		return "reaches no set: none is of a kind that has such a key"
	}
	return ""
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

// sets writes sets of a data section, whose keys are all. A reader finds what is said
// there, and a set's kind says, where the set says nothing.
func (k Kinds) sets(sets []Set, all []field) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for _, s := range sets {
		d := k.Default("", s.Kind).Data
		base := Set{Kind: s.Kind, Holdout: d.Holdout, Options: d.Options}
		for _, f := range all {
			if own, ok := named(keysWithValues(base.Options), f.key); ok && own.v.Type() == f.v.Type() {
				for _, p := range parts(f.v, own.v) {
					if !empty(p.all) {
						p.own.Set(p.all)
					}
				}
				base.Options = set(base.Options, own)
			}
		}
		n.Content = append(n.Content, k.section(reflect.ValueOf(s), reflect.ValueOf(base)))
	}
	return n
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
