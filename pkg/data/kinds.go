package data

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Kinds lists the kinds of data for a job file.
func Kinds() []job.Kind {
	return []job.Kind{
		{Name: "tabletop", About: "synthetic robot episodes, made on the fly", Options: tabletopOptions{}},
		{Name: "copy", About: "sequences of tokens that are their own labels", Options: copyOptions{}},
		{Name: "tensors", About: "a safetensors file, or a folder of them", Options: tensorsOptions{}},
		{Name: "rlds", About: "a TFDS data set of robot episodes", Options: rldsOptions{}},
		{Name: "folder", About: "pictures and a manifest.jsonl", Options: folderOptions{}},
		{Name: "recall", About: "sequences of tokens with a key to remember", Options: recallOptions{}},
	}
}

func kindNames() (names []string) {
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// features of robot data, and of sequences.
var (
	robotFeatures    = []string{models.Images, models.Instruction, models.Actions}
	sequenceFeatures = []string{models.Instruction, models.Labels}
)

// normalisation lists the ways of data.normalize.
var normalisation = []string{None, MeanStd, MinMax, Quantile}

type tabletopOptions struct{}

func (tabletopOptions) Gives() []string { return robotFeatures }
func (tabletopOptions) Padding() int    { return 0 } // its vocabulary is built from words

func (o tabletopOptions) Resolve(j *job.Job, given func(string) bool) job.Options {
	def(given, "data.episodes", &j.Data.Episodes, 2000)
	def(given, "data.scene", &j.Data.Scene, "cluttered")
	def(given, "data.normalize", &j.Data.Normalize, MeanStd)
	holdout(j, given, 0.1)
	return o
}

func (tabletopOptions) Check(c *job.Checker) {
	d := keysOf(c, "episodes scene normalize")
	c.Within("data.episodes", d.Episodes, 1, limits.Vocabulary)
	c.OneOf("data.scene", d.Scene, []string{"cluttered", "simple"})
	c.OneOf("data.normalize", d.Normalize, normalisation)
	checkChannels(c)
}

type copyOptions struct{}

func (copyOptions) Gives() []string { return sequenceFeatures }
func (copyOptions) Padding() int    { return -1 }

func (o copyOptions) Resolve(j *job.Job, given func(string) bool) job.Options {
	def(given, "data.episodes", &j.Data.Episodes, 10000)
	def(given, "data.seq_len", &j.Data.SeqLen, 16)
	holdout(j, given, 0.1)
	return o
}

func (copyOptions) Check(c *job.Checker) {
	keysOf(c, "episodes seq_len")
	checkSequence(c, 2, "the copy task needs at least 2 words")
}

type recallOptions struct{}

func (recallOptions) Gives() []string { return sequenceFeatures }
func (recallOptions) Padding() int    { return -1 }

func (o recallOptions) Resolve(j *job.Job, given func(string) bool) job.Options {
	d := &j.Data
	def(given, "data.episodes", &d.Episodes, 10000)
	def(given, "data.seq_len", &d.SeqLen, 16)
	switch { // the key comes first, unless told otherwise
	case given("data.distance") && !given("data.seq_len"):
		d.SeqLen = d.Distance + 1
	case !given("data.distance"):
		d.Distance = d.SeqLen - 1
	}
	holdout(j, given, 0.1)
	return o
}

func (recallOptions) Check(c *job.Checker) {
	d := keysOf(c, "episodes seq_len distance")
	checkSequence(c, 6, "recall needs padding, a question, two keys and two others: at least 6")
	if d.Distance < 1 || d.Distance >= d.SeqLen {
		c.Bad("data.distance data.seq_len", "%d is not within the sequence; want 1 to data.seq_len-1 = %d", d.Distance, d.SeqLen-1)
	}
}

type tensorsOptions struct{}

func (tensorsOptions) Gives() []string {
	return append([]string{models.Labels, models.VisionFeatures, models.LanguageFeatures}, robotFeatures...)
}
func (tensorsOptions) Padding() int { return -1 }

func (o tensorsOptions) Resolve(j *job.Job, given func(string) bool) job.Options {
	def(given, "data.normalize", &j.Data.Normalize, None)
	holdout(j, given, 0)
	return o
}

func (tensorsOptions) Check(c *job.Checker) {
	d := keysOf(c, "path layout skip normalize")
	checkFiles(c)
	if d.Layout != "" {
		c.OneOf("data.layout", d.Layout, []string{"nchw", "nhwc"})
	}
}

type rldsOptions struct{}

func (rldsOptions) Gives() []string { return robotFeatures }
func (rldsOptions) Padding() int    { return 0 }

func (o rldsOptions) Resolve(j *job.Job, given func(string) bool) job.Options {
	def(given, "data.split", &j.Data.Split, "train")
	def(given, "data.normalize", &j.Data.Normalize, MeanStd)
	holdout(j, given, 0.1)
	return o
}

func (rldsOptions) Check(c *job.Checker) {
	keysOf(c, "path split camera action skip normalize holdout.split")
	checkFiles(c)
	checkChannels(c)
}

type folderOptions struct{}

func (folderOptions) Gives() []string { return robotFeatures }
func (folderOptions) Padding() int    { return 0 }

func (o folderOptions) Resolve(j *job.Job, given func(string) bool) job.Options {
	def(given, "data.normalize", &j.Data.Normalize, MeanStd)
	holdout(j, given, 0.1)
	return o
}

func (folderOptions) Check(c *job.Checker) {
	keysOf(c, "path skip normalize")
	checkFiles(c)
	checkChannels(c)
}

// def fills v where key is not given.
func def[T any](given func(string) bool, key string, v *T, to T) {
	if !given(key) {
		*v = to
	}
}

// holdout is the share of the episodes that is held out where nothing is said.
func holdout(j *job.Job, given func(string) bool, fraction float64) {
	def(given, "data.holdout.fraction", &j.Data.Holdout.Fraction, fraction)
}

// keysOf refuses the keys of the data section that are of other kinds, and checks
// those that all have.
func keysOf(c *job.Checker, own string) job.Data {
	d, is := c.Job.Data, map[string]bool{}
	for _, k := range strings.Fields(own) {
		is[k] = true
	}
	what := "data.kind " + d.Kind
	for _, k := range []struct {
		key  string
		zero bool
	}{
		{"path", d.Path == ""}, {"split", d.Split == ""}, {"camera", d.Camera == ""}, {"action", len(d.Action) == 0}, {"layout", d.Layout == ""},
		{"scene", d.Scene == ""}, {"episodes", d.Episodes == 0}, {"seq_len", d.SeqLen == 0}, {"distance", d.Distance == 0}, {"skip", len(d.Skip) == 0},
		{"normalize", d.Normalize == ""}, {"holdout.split", d.Holdout.Split == ""},
	} {
		if !is[k.key] {
			c.Unused("data."+k.key, k.zero, what)
		}
	}
	if !is["path"] {
		c.Unused("data.holdout.path", d.Holdout.Path == "", what)
	}
	c.Within("data.max_tokens", d.MaxTokens, 0, limits.Vocabulary)
	checkActions(c)
	return d
}

func checkFiles(c *job.Checker) {
	d := c.Job.Data
	if d.Path == "" {
		c.Bad("data.path", "is missing; data.kind %s reads files", d.Kind)
	}
	for i, s := range d.Skip {
		c.Within(fmt.Sprintf("data.skip[%d]", i), s, 0, 1<<31-1)
	}
	c.OneOf("data.normalize", d.Normalize, normalisation)
}

// checkSequence checks a synthetic kind of sequences against the model's words.
func checkSequence(c *job.Checker, least int, why string) {
	d, w := c.Job.Data, WantsOf(c.Job.Model.Options)
	c.Within("data.episodes", d.Episodes, 1, limits.Vocabulary)
	c.Within("data.seq_len", d.SeqLen, 1, limits.Samples)
	if f := w.Find(models.Labels); f != nil && f.Vocab >= 0 && f.Vocab < least {
		c.Bad("model.vocab_size data.kind", "%d is too small; %s", f.Vocab, why)
	}
	if f := w.Find(models.Instruction); f != nil && f.Max > 0 && d.SeqLen > f.Max {
		c.Bad("data.seq_len model.max_len", "%d is longer than model.max_len %d", d.SeqLen, f.Max)
	}
}

func checkChannels(c *job.Checker) {
	for _, f := range WantsOf(c.Job.Model.Options).Of(models.Image) {
		if n := f.Shape[0]; n != 1 && n != 3 && n > 0 {
			c.Bad("model.channels data.kind", "is %d, and data.kind %s gives pictures of 3 channels (RGB) or 1 (grey); data.kind tensors takes any number", n, c.Job.Data.Kind)
		}
	}
}

// maxActionName bounds the name or unit of an action's dimension: it heads a
// line of every table.
const maxActionName = 40

// checkActions checks what the job calls the dimensions of its actions.
func checkActions(c *job.Checker) {
	d, f := c.Job.Data, WantsOf(c.Job.Model.Options).Find(models.Actions)
	if f == nil || d.Kind == "tabletop" {
		kind := "model.kind " + c.Job.Model.Kind
		if d.Kind == "tabletop" {
			kind = "data.kind tabletop, which has names and units of its own"
		}
		c.Unused("data.action_names", len(d.ActionNames) == 0, kind)
		c.Unused("data.action_units", len(d.ActionUnits) == 0, kind)
		return
	}
	for _, l := range []struct {
		key, what string
		v         []string
	}{{"data.action_names", "names", d.ActionNames}, {"data.action_units", "units", d.ActionUnits}} {
		if k, n := len(l.v), f.Shape[0]; k > 0 && n > 0 && k != n {
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
