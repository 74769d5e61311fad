package job

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Kinds is what the sections of a job file may name: the kinds of model, data,
// loss, optimizer and road that this program has. It is a value that is handed in, so
// that a test or another program adds one of its own by appending to a list,
// and nothing depends on which packages happen to be linked:
//
//	kinds := train.Kinds()
//	kinds.Models = append(kinds.Models, job.Kind{Name: "mine", Options: mine{Width: 64}})
//	j, err := kinds.Load("job.yaml", nil)
//
// The first model, optimizer and road are those of a job file that names none.
// A job file lists kinds in this order.
type Kinds struct {
	Models     []Kind // their Options are ModelOptions
	Data       []Kind // DataOptions
	Losses     []Kind // LossOptions
	Optimizers []Kind
	Roads      []Kind // of cluster.road; they bring no keys
}

// Kind is one kind of a section: a name and the keys that come with it. Package
// job reads them, with their line and column, and knows nothing else of it.
type Kind struct {
	Name    string
	About   string   // what it is, in one line
	Options Options  // with its defaults
	Keys    []string // the keys of Options that it has a use for, where kinds share a type; nil: all
	Presets []Preset // model.preset: other defaults, by name
}

// Preset is a set of defaults with a name.
type Preset struct {
	Name    string
	Use     string // what it is for, in one line
	Options Options
}

// Options are the keys that a kind adds to its section: a struct, kept by value,
// whose fields have yaml tags as those of Job do. Package job fills it from the
// defaults, the preset, the file and --set; it names unknown keys, nearest ones,
// wrong types and keys of other kinds by itself. What is left to the kind:
type Options interface {
	// Resolve returns the options with what is not given, by its dotted key,
	// filled from what is. j is the job with everything that was given; its
	// other sections are not resolved yet.
	Resolve(j *Job, given func(key string) bool) Options
	// Check reports every mistake to c, each under its dotted key. It sees the
	// whole job as c.Job, and is the only place where the options are checked.
	Check(c *Checker)
}

// ModelOptions are the options of a kind of model.
type ModelOptions interface {
	Options
	Takes() []string // features that it wants of a sample, the most telling first
	Answers() string // what it gives for a sample, which its loss judges
}

// DataOptions are the options of a kind of data.
type DataOptions interface {
	Options
	Gives() []string // features that its samples can have, or Any
	Padding() int    // the token that is padding in its instructions; -1: none
}

// Simulated are the options of a kind of data whose world is here, to be acted in:
// train.rollout_every rolls checkpoints out in it.
type Simulated interface {
	DataOptions
	Simulated()
}

// Any stands for every feature, of data that is looked up by name.
const Any = "*"

// LossOptions are the options of a kind of loss.
type LossOptions interface {
	Options
	Judges() string    // what it is a loss of: what a model Answers
	Metrics() []Metric // measured on held-out data, beside the loss
}

// Metric is a number that says how good a model is.
type Metric struct {
	Name           string // as in checkpoint.best.metric, without heldout_, and in eval.jsonl
	Label          string // for people; empty: the name
	Share          bool   // it is shown in per cent
	HigherIsBetter bool
}

// Text is a value of m for people.
func (m Metric) Text(value float64) string {
	label := m.Label
	if label == "" {
		label = m.Name
	}
	if m.Share {
		return fmt.Sprintf("%s %.2f %%", label, 100*value)
	}
	return fmt.Sprintf("%s %.5f", label, value)
}

// Kinds is what the job was read with: what else belongs to its run is read with
// the same.
func (j *Job) Kinds() Kinds { return j.kinds }

// Road returns the options of the job's road.
func (j *Job) Road() Options { return find(j.kinds.Roads, j.Cluster.Road).Options }

// names lists the kinds' names.
func names(kinds []Kind) (out []string) {
	for _, k := range kinds {
		out = append(out, k.Name)
	}
	return out
}

// find returns the kind of that name; a Kind without name where there is none.
func find(kinds []Kind, name string) Kind {
	if i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name }); i >= 0 {
		return kinds[i]
	}
	return Kind{}
}

// fitting returns the kinds of loss that judge what a model answers, the one
// of a job file that names none first.
func (k Kinds) fitting(answers string) (out []Kind) {
	for _, l := range k.Losses {
		if l.Options.(LossOptions).Judges() == answers {
			out = append(out, l)
		}
	}
	return out
}

// giving returns the names of the kinds of data that have all of these features,
// those that have little else first.
func (k Kinds) giving(features []string) (out []string) {
	var able []Kind
	for _, d := range k.Data {
		if lacking(d.Options.(DataOptions), features) == "" {
			able = append(able, d)
		}
	}
	size := func(d Kind) int {
		gives := d.Options.(DataOptions).Gives()
		if slices.Contains(gives, Any) {
			return math.MaxInt
		}
		return len(gives)
	}
	slices.SortStableFunc(able, func(a, b Kind) int { return cmp.Compare(size(a), size(b)) })
	return names(able)
}

// lacking returns the first of the features that data has not; "": none.
func lacking(d DataOptions, features []string) string {
	gives := d.Gives()
	for _, f := range features {
		if !slices.Contains(gives, f) && !slices.Contains(gives, Any) {
			return f
		}
	}
	return ""
}

// presets returns the preset of that name, and the names of all.
func (k Kind) preset(name string) (p Preset, all []string) {
	for _, x := range k.Presets {
		all = append(all, x.Name)
		if x.Name == name {
			p = x
		}
	}
	return p, all
}

// Held begins the name of a metric that is measured on the held-out split, and with
// Averaged after it that of one that is measured with the averaged weights.
const (
	Held     = "heldout_"
	Averaged = "ema_"
)

// Metrics lists what checkpoints can be kept by, by the names of
// checkpoint.best.metric: the loss in training and on the held-out split, what
// the kinds of loss measure there, and all that with the averaged weights; and the
// success of rollouts.
func (k Kinds) Metrics() []Metric {
	all := []Metric{{Name: "loss"}, {Name: Held + "loss"}}
	for _, l := range k.Losses {
		for _, m := range l.Options.(LossOptions).Metrics() {
			m.Name = Held + m.Name
			if !slices.ContainsFunc(all, func(x Metric) bool { return x.Name == m.Name }) {
				all = append(all, m)
			}
		}
	}
	for _, m := range all[1:] {
		m.Name = Held + Averaged + strings.TrimPrefix(m.Name, Held)
		all = append(all, m)
	}
	for _, name := range []string{Success, Averaged + Success} {
		all = append(all, Metric{Name: name, Share: true, HigherIsBetter: true})
	}
	return all
}

// Metric returns the one of Metrics of that name.
func (k Kinds) Metric(name string) (Metric, bool) {
	for _, m := range k.Metrics() {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// Best returns the metric by which the job's checkpoints are kept; a zero one
// where they are not.
func (j *Job) Best() Metric {
	m, _ := j.kinds.Metric(j.Checkpoint.Best.Metric)
	return m
}

// measured says whether a job with that loss measures a metric of Metrics.
func (k Kinds) measured(metric, loss string) bool {
	own, held := strings.CutPrefix(metric, Held)
	own = strings.TrimPrefix(own, Averaged)
	return !held || own == "loss" || slices.ContainsFunc(find(k.Losses, loss).Options.(LossOptions).Metrics(), func(m Metric) bool { return m.Name == own })
}
