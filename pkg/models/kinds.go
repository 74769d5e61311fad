package models

import (
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
)

// Kinds lists the kinds of model for a job file; the first is that of one that
// names none.
func Kinds() (kinds []job.Kind) {
	for _, f := range families() {
		k := job.Kind{Name: f.name, About: f.about, Options: f.config(), Keys: f.keys()}
		for _, s := range Presets() {
			if s.fits(f) {
				k.Presets = append(k.Presets, job.Preset{Name: s.Name, Use: s.Use, Options: s.of(f)})
			}
		}
		kinds = append(kinds, k)
	}
	return kinds
}

// family is a kind of model whose options are a Config.
type family struct {
	name, about string
	useful      string // the keys of a Config that it has a use for
	options     Config // its defaults
	wants       func(c Config) Spec
	answers     string
	observes    bool // takes every Observation
	check       func(c Config, k *job.Checker)
	network     func(b *Builder, c Config) (Network, error)
}

func families() []family {
	return []family{vlaKind(), vitKind(), crossModalKind(), encoderKind(), lstmKind()}
}

// familyOf returns the family of that name; a zero one where there is none.
func familyOf(name string) family {
	all := families()
	if i := slices.IndexFunc(all, func(f family) bool { return f.name == name }); i >= 0 {
		return all[i]
	}
	return family{}
}

func kindNames() (names []string) {
	for _, f := range families() {
		names = append(names, f.name)
	}
	return names
}

func (f family) keys() []string { return strings.Fields(f.useful) }

func (f family) uses(key string) bool { return slices.Contains(f.keys(), key) }

// config is the defaults of f with its name.
func (f family) config() Config {
	c := f.options
	c.Kind = f.name
	return c
}

// What a model answers with for a sample: Actions, [A] or [L, A] values, or
const Tokens = "tokens" // a word for each of T tokens

// Wants is the features of the samples that a model of c takes, with what is
// open in them and their limits.
func (c Config) Wants() Spec {
	f := familyOf(c.Kind)
	if f.wants == nil { // no kind, which Check says
		return nil
	}
	return f.wants(c)
}
