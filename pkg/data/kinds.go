package data

import (
	"fmt"
	"reflect"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Kinds lists the kinds of data for a job file. A kind is one file and its place
// in this list; a kind of another package stands in a list that begins with this
// one.
func Kinds() []job.Kind {
	return []job.Kind{tabletopKind(), copyKind(), tensorsKind(), rldsKind(), lerobotKind(), folderKind(), recallKind(), mixtureKind()}
}

// Options are the options of a kind of data: its keys in the job's data section,
// and how data is opened by them.
type Options interface {
	job.DataOptions
	// Open opens the data of o. It settles what the model leaves open in
	// o.Wants, all of whose names are among Gives, and returns samples whose
	// values stand in the order of o.Wants. The options have passed Check.
	Open(o *Opening) (*Set, error)
}

// Defaults are the options of a kind that a job file says nothing of; nil where
// there is no such kind.
func Defaults(kind string) job.Options {
	all := Kinds()
	if i := slices.IndexFunc(all, func(k job.Kind) bool { return k.Name == kind }); i >= 0 {
		return all[i].Options
	}
	return nil
}

func kindNames() (names []string) {
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// sequenceFeatures are those of sequences that a model is to name the tokens of.
func sequenceFeatures() []string { return []string{models.Instruction, models.Labels} }

// Keys that several kinds have: a kind embeds those that it has a use for, with
// the tag yaml:",inline".

// TextKeys are the keys of instructions that are token numbers.
type TextKeys struct {
	MaxTokens int `yaml:"max_tokens,omitempty"` // tokens after padding or cutting; 0: the longest of the training split
}

func (w TextKeys) words() WordKeys { return WordKeys{MaxTokens: w.MaxTokens} }

func (w TextKeys) check(c *job.Checker) { w.words().check(c) }

// WordKeys are the keys of instructions in words.
type WordKeys struct {
	MaxTokens int    `yaml:"max_tokens,omitempty"` // as TextKeys'
	Tokenizer string `yaml:"tokenizer,omitempty"`  // tokenizer.json, vocab.txt, or their folder; empty: a vocabulary of the training split's words
	Wordings  string `yaml:"wordings,omitempty"`   // a file of other wordings of the instructions, for training; empty: none
}

func (w WordKeys) words() WordKeys { return w }

func (w WordKeys) tokenizer() string { return w.Tokenizer }

// TokenizerOf is data.tokenizer of a kind's options; of a mixture's, that of its sets,
// and empty where one of them has none. has is false where instructions are given as
// numbers, or there are none.
func TokenizerOf(o job.Options) (path string, has bool) {
	if m, ok := o.(Mixture); ok {
		for _, set := range m.own() {
			p, words := TokenizerOf(set)
			if words && p == "" {
				return m.Tokenizer, true
			}
			if words {
				path, has = p, true
			}
		}
		return path, has
	}
	if k, ok := o.(interface{ tokenizer() string }); ok {
		return k.tokenizer(), true
	}
	return "", false
}

func (w WordKeys) check(c *job.Checker) {
	c.Within("data.max_tokens", w.MaxTokens, 0, limits.Vocabulary)
	if !WantsOf(c.Job.Model.Options).Has(models.Instruction) {
		c.Unused("data.tokenizer", w.Tokenizer == "", "model.kind "+c.Job.Model.Kind)
		c.Unused("data.wordings", w.Wordings == "", "model.kind "+c.Job.Model.Kind)
	}
}

// FileKeys are the keys of data that lies at data.path.
type FileKeys struct {
	Skip []int `yaml:"skip,omitempty"` // samples that are left out, by their number in the whole data set, from 0
}

func (f FileKeys) files() FileKeys { return f }

func (f FileKeys) check(c *job.Checker) {
	if d := c.Job.Data; d.Path == "" {
		c.Bad("data.path", "is missing; data.kind %s reads files", d.Kind)
	}
	for i, s := range f.Skip {
		c.Within(fmt.Sprintf("data.skip[%d]", i), s, 0, 1<<31-1)
	}
}

// ActionKeys are the keys of actions.
type ActionKeys struct {
	Normalize      Scaling   `yaml:"normalize,omitempty"`
	StateNormalize Scaling   `yaml:"state_normalize,omitempty"` // of the state, and of other inputs that are normalised; empty: as the actions, without their mask
	Relative       job.Names `yaml:"relative,omitempty"`        // dimensions of the action that are predicted relative to the state, by name or number, or all
	ActionNames    []string  `yaml:"action_names,omitempty"`    // of the action's dimensions; nil: the data's own, else a0, a1, …
	ActionUnits    []string  `yaml:"action_units,omitempty"`    // of the same, "" for none
}

func (s ActionKeys) scaling() ActionKeys { return s }

// maxActionName bounds the name or unit of an action's dimension: it heads a
// line of every table.
const maxActionName = 40

// check checks how actions are scaled and what the job calls their dimensions.
func (s ActionKeys) check(c *job.Checker) {
	s.Normalize.check(c, "data.normalize")
	wants := WantsOf(c.Job.Model.Options)
	if s.StateNormalize.Mode != "" {
		c.OneOf("data.state_normalize", s.StateNormalize.Mode, Modes())
	}
	if x, key := s.scale(models.State); !reflect.ValueOf(s.StateNormalize).IsZero() {
		x.checkRest(c, key)
		c.Unused(key, slices.ContainsFunc(wants, func(f models.Feature) bool { return f.Normalise && f.Name != models.Actions }), "a model that takes no state")
	}
	if len(s.Relative) > 0 && !wants.Has(models.State) {
		c.Bad("data.relative", "is of the state, which the model does not see: name its features with data.state")
	}
	f := wants.Find(models.Actions)
	if f == nil {
		kind := "model.kind " + c.Job.Model.Kind
		c.Unused("data.action_names", len(s.ActionNames) == 0, kind)
		c.Unused("data.action_units", len(s.ActionUnits) == 0, kind)
		return
	}
	for _, l := range []struct {
		key, what string
		v         []string
	}{{"data.action_names", "names", s.ActionNames}, {"data.action_units", "units", s.ActionUnits}} {
		if k, n := len(l.v), f.Shape[len(f.Shape)-1]; k > 0 && n > 0 && k != n {
			c.Bad(l.key+" model.action_dim", "%d %s for actions of model.action_dim %d; want one for each dimension, in order", k, l.what, n)
		}
		seen := map[string]int{}
		for i, s := range l.v {
			key := fmt.Sprintf("%s[%d] %s", l.key, i, l.key)
			first, again := seen[s]
			seen[s] = i
			switch {
			case s == "" && l.what == "names":
				c.Bad(key, "is empty; want a name such as x or joint_1")
			case utf8.RuneCountInString(s) > maxActionName:
				c.Bad(key, "has %d characters; want at most %d", utf8.RuneCountInString(s), maxActionName)
			case !printable(s):
				c.Bad(key, "%q has characters that cannot be printed", s)
			case again && l.what == "names":
				c.Bad(key, "%q is the name of dimension %d already", s, first)
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

// FrameKeys are the keys of what a sample shows of its episode. The zero value
// is one picture of now, and one action.
type FrameKeys struct {
	Cameras []string `yaml:"cameras,omitempty,flow"` // what the data calls its cameras, in the model's order
	State   []string `yaml:"state,omitempty,flow"`   // the features that the robot's state is made of, in order; nil: it is not looked at
	History int      `yaml:"history,omitempty"`      // times that are seen, the last of which is the sample's; 0: that alone
	Chunk   int      `yaml:"chunk,omitempty"`        // actions to predict, the first of which is the sample's; 0: that alone
}

// The most of each: a sample has as many pictures as cameras times history.
const (
	maxCameras = 16
	maxHistory = 64
	maxChunk   = 1024
)

func (f FrameKeys) frames() FrameKeys { return f }

// Observation is what samples show; models.Config takes it when a job is resolved.
func (f FrameKeys) Observation() models.Observation {
	return models.Observation{Cameras: len(f.Cameras), History: f.History, Chunk: f.Chunk, State: len(f.State) > 0}
}

// gives are the features of robot data that shows so much.
func (f FrameKeys) gives() []string { return f.Observation().Names() }

// check checks the keys; camera is data.camera of a kind that has it.
func (f FrameKeys) check(c *job.Checker, camera string) {
	if camera != "" && len(f.Cameras) > 0 {
		c.Bad("data.cameras data.camera", "is given beside data.camera %s; want one of both", camera)
	}
	if n := len(f.Cameras); n > maxCameras {
		c.Bad("data.cameras", "has %d cameras; want at most %d", n, maxCameras)
	}
	for _, l := range []struct {
		key   string
		names []string
	}{{"data.cameras", f.Cameras}, {"data.state", f.State}} {
		for i, n := range l.names {
			key := fmt.Sprintf("%s[%d] %s", l.key, i, l.key)
			if n == "" {
				c.Bad(key, "is empty; want a name that the data has")
			} else if slices.Index(l.names, n) < i {
				c.Bad(key, "%q is given twice", n)
			}
		}
	}
	c.Within("data.history", f.History, 0, maxHistory)
	c.Within("data.chunk", f.Chunk, 0, maxChunk)
}

// view is a camera by what the job calls it: name, of the key.
type view struct{ key, name string }

// views are the cameras that a job names: those of data.cameras, or data.camera,
// of which an empty one is the only one that there is.
func views(camera string, cameras []string) (list []view) {
	for i, n := range cameras {
		list = append(list, view{fmt.Sprintf("data.cameras[%d]", i), n})
	}
	if list == nil {
		list = []view{{"data.camera", camera}}
	}
	return list
}

// holdout is the share of the episodes that is held out where nothing is said.
func holdout(j *job.Job, given func(string) bool, fraction float64) {
	if !given("data.holdout.fraction") {
		j.Data.Holdout.Fraction = fraction
	}
}

// checkMade refuses the keys of data that lies somewhere.
func checkMade(c *job.Checker) {
	d := c.Job.Data
	what := "data.kind " + d.Kind
	c.Unused("data.path", d.Path == "", what)
	c.Unused("data.holdout.path", d.Holdout.Path == "", what)
	checkNoSplits(c)
}

// checkNoSplits refuses a split of data that has none.
func checkNoSplits(c *job.Checker) {
	c.Unused("data.holdout.split", c.Job.Data.Holdout.Split == "", "data.kind "+c.Job.Data.Kind)
}

// checkSequence checks a synthetic kind of sequences against the model's words.
func checkSequence(c *job.Checker, episodes, length, least int, why string) {
	w := WantsOf(c.Job.Model.Options)
	c.Within("data.episodes", episodes, 1, maxEpisodes)
	c.Within("data.seq_len", length, 1, limits.Samples)
	f := w.Find(models.Instruction)
	if f != nil && w.Has(models.Labels) && f.Vocab >= 0 && f.Vocab < least {
		c.Bad("model.vocab_size data.kind", "%d is too small; %s", f.Vocab, why)
	}
	if f != nil && f.Max > 0 && length > f.Max {
		c.Bad("data.seq_len model.max_len", "%d is longer than model.max_len %d", length, f.Max)
	}
}

// checkChannels refuses numbers of channels that RGB and grey do not give.
func checkChannels(c *job.Checker) {
	for _, f := range WantsOf(c.Job.Model.Options).Of(models.Image) {
		if n := f.Shape[0]; n != 1 && n != 3 && n > 0 {
			c.Bad("model.channels data.kind", "is %d, and data.kind %s gives pictures of 3 channels (RGB) or 1 (grey); data.kind tensors takes any number", n, c.Job.Data.Kind)
		}
	}
}

// wanting are the options of a model of which nothing but its wants is known.
type wanting models.Spec

func (w wanting) Wants() models.Spec                                  { return models.Spec(w) }
func (w wanting) Resolve(*job.Job, func(key string) bool) job.Options { return w }
func (w wanting) Check(*job.Checker)                                  {}

// check is the kind's check of a data section for a model of those wants: it
// stands once, for job files and for whoever calls Open without one.
func check(cfg job.Data, wants models.Spec) error {
	c := &job.Checker{Job: &job.Job{Data: cfg, Model: job.Model{Options: wanting(wants)}}}
	cfg.Options.Check(c)
	return c.Err()
}
