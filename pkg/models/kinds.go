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
			k.Presets = append(k.Presets, job.Preset{Name: s.Name, Use: s.Use, Options: s.of(f)})
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
	needs       func(c Config) Needs
	answers     string
	check       func(c Config, k *job.Checker)
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

// What a model answers with for a sample.
const (
	Actions = "actions" // [A] values
	Tokens  = "tokens"  // a word for each of T tokens
)

// Needs is what a model wants of its data. Fields that are zero though wanted
// (VocabSize, ActionDim, VisionDim, LanguageDim, MaxTokens) take what the data has.
type Needs struct {
	Image       [3]int // C, H, W; zero: the model takes no images
	Tokens      bool   // instruction tokens
	MaxTokens   int    // the most tokens a row may have; 0: no limit
	VocabSize   int    // tokens must be below this
	Labels      bool   // a target token for each token
	Actions     bool   // a regression target
	ActionDim   int    // its width
	Features    bool   // given vision and language features
	VisionDim   int
	LanguageDim int
}

// The features of a sample that a model can take and data can give.
const (
	FeatureImages  = "images"
	FeatureLabels  = "labels"
	FeatureGiven   = "given features"
	FeatureTokens  = "instruction tokens"
	FeatureActions = "actions"
)

// FeatureNames names what n wants, the most telling first.
func (n Needs) FeatureNames() (names []string) {
	for _, f := range []struct {
		name string
		want bool
	}{{FeatureImages, n.Image[0] > 0}, {FeatureLabels, n.Labels}, {FeatureGiven, n.Features}, {FeatureTokens, n.Tokens}, {FeatureActions, n.Actions}} {
		if f.want {
			names = append(names, f.name)
		}
	}
	return names
}

// Needs returns what a model of c wants of its data.
func (c Config) Needs() Needs { return familyOf(c.Kind).needs(c) }

// image is the shape of the pictures that c wants.
func (c Config) image() [3]int {
	if c.Channels == 0 {
		c.Channels = 3
	}
	return [3]int{c.Channels, c.ImageSize, c.ImageSize}
}

// Options are the options of a kind of model.
type Options interface {
	job.ModelOptions
	Needs() Needs // what a model of these options wants of its data
}

var _ Options = Config{}
