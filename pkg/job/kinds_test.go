package job_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// A loss that the file names by a word, and an option by its kind, is the option's in
// full: the job that is written reads again as the same.
func TestLossByOption(t *testing.T) {
	for _, c := range []struct {
		file string
		set  []string
		want string
	}{{"flow", []string{"loss.kind=l1"}, "l1"}, {"l1", []string{"loss.kind=flow", "loss.steps=7"}, "flow"}, {"mse", []string{"loss.kind=bins"}, "bins"},
		{"{kind: flow, steps: 7}", []string{"loss.kind=flow"}, "flow"}} {
		j, err := kinds.Parse("j.yaml", []byte("name: a\nmodel: {fusion: cross}\ndata: {kind: tabletop, normalize: quantile}\nloss: "+c.file+"\n"), c.set)
		if err != nil {
			t.Errorf("%s, %v: %v", c.file, c.set, err)
			continue
		}
		if j.Loss.Kind != c.want {
			t.Errorf("%s, %v: kind %s", c.file, c.set, j.Loss.Kind)
		}
		again, err := kinds.Parse("again.yaml", j.YAML(), nil)
		if err != nil {
			t.Errorf("%s, %v: %+v is written so that it does not read: %v", c.file, c.set, j.Loss, err)
		} else if !reflect.DeepEqual(again.Loss, j.Loss) {
			t.Errorf("%s, %v: %+v is written so that it reads %+v", c.file, c.set, j.Loss, again.Loss)
		}
	}
}

// A kind of a test's own: its keys, defaults, rules and checks are all here.

type mlp struct {
	Width int   `yaml:"width"`
	Depth int   `yaml:"depth,omitempty"`
	Parts parts `yaml:"parts,omitempty"`
}

type parts struct {
	Left  string `yaml:"left,omitempty"`
	Right string `yaml:"right,omitempty"`
}

func (m mlp) Takes() []string { return []string{"images"} }
func (m mlp) Wants() models.Spec {
	return models.Spec{models.Known(models.Images, 3, 8, 8), models.Known(models.Actions, 0)}
}
func (m mlp) Answers() string { return "actions" }
func (m mlp) Resolve(_ *job.Job, given func(string) bool) job.Options {
	if !given("model.depth") {
		m.Depth = m.Width / 16
	}
	return m
}
func (m mlp) Check(c *job.Checker) {
	if c.Within("model.width", m.Width, 1, 4096) && m.Depth > m.Width {
		c.Bad("model.depth model.width", "%d is more than model.width %d", m.Depth, m.Width)
	}
}

type quantile struct {
	At float64 `yaml:"at"`
}

func (quantile) Judges() string                                    { return "actions" }
func (quantile) Metrics() []job.Metric                             { return []job.Metric{{Name: "coverage", HigherIsBetter: true}} }
func (q quantile) Resolve(*job.Job, func(string) bool) job.Options { return q }
func (q quantile) Check(c *job.Checker) {
	if !(q.At > 0 && q.At < 1) {
		c.Bad("loss.at", "%v is outside 0 < at < 1", q.At)
	}
}

type sgd struct {
	Momentum float64 `yaml:"momentum"`
}

func (o sgd) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (o sgd) Check(c *job.Checker) {
	if !(o.Momentum >= 0 && o.Momentum < 1) {
		c.Bad("optimizer.momentum", "%v is outside 0 ≤ momentum < 1", o.Momentum)
	}
}

// mine are the product's kinds and the test's; the product's stay as they are.
func mine() job.Kinds {
	k := kinds
	k.Models = append(slices.Clone(k.Models), job.Kind{Name: "mlp", Options: mlp{Width: 64},
		Presets: []job.Preset{{Name: "wide", Options: mlp{Width: 512}}}})
	k.Losses = append(slices.Clone(k.Losses), job.Kind{Name: "quantile", Options: quantile{At: 0.5}})
	k.Optimizers = append(slices.Clone(k.Optimizers), job.Kind{Name: "sgd", Options: sgd{Momentum: 0.9}})
	return k
}

func TestKindsOfATest(t *testing.T) {
	for _, c := range []struct {
		name, file string
		set        []string
		check      func(j *job.Job) bool
	}{
		{"defaults", ok + "model: {kind: mlp}", nil, func(j *job.Job) bool {
			return j.Model.Options == mlp{Width: 64, Depth: 4} && j.Loss.Kind == "mse" && j.Optimizer.Kind == "adamw"
		}},
		{"given", ok + "model: {kind: mlp, width: 32, parts: {left: x}}", []string{"model.depth=1", "model.parts.right=y"}, func(j *job.Job) bool {
			return j.Model.Options == mlp{32, 1, parts{"x", "y"}}
		}},
		{"preset, then the file", ok + "model: {kind: mlp, preset: wide, depth: 7}", nil, func(j *job.Job) bool { return j.Model.Options == mlp{Width: 512, Depth: 7} }},
		{"kind by option", ok + "model: {width: 8}", []string{"model.kind=mlp"}, func(j *job.Job) bool { return j.Model.Options == mlp{Width: 8} }},
		{"a loss by name", ok + "model: {kind: mlp}\nloss: quantile", nil, func(j *job.Job) bool { return j.Loss == job.Loss{Kind: "quantile", Options: quantile{0.5}} }},
		{"a loss with options", ok + "model: {kind: mlp}\nloss: {kind: quantile, at: 0.9}", nil, func(j *job.Job) bool { return j.Loss.Options == quantile{0.9} }},
		{"a loss by option", ok + "model: {kind: mlp}\nloss: mse", []string{"loss=quantile", "loss.at=0.1"}, func(j *job.Job) bool { return j.Loss.Options == quantile{0.1} }},
		{"an optimizer", ok + "optimizer: {kind: sgd, lr: 0.1, momentum: 0}", nil, func(j *job.Job) bool { return j.Optimizer.Options == sgd{0} && j.Optimizer.LR == 0.1 }},
		{"its metric", ok + "loss: quantile\ncheckpoint: {best: {metric: heldout_coverage}}\ntrain: {eval_every: 100}", nil, func(j *job.Job) bool { return j.Checkpoint.Best.Count == 1 }},
		{"a teacher of the kind", ok + "distill: {teacher: x, model: {kind: mlp, width: 3}}", nil, func(j *job.Job) bool { return j.Distill.Model.Options == mlp{Width: 3} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, err := mine().Parse("j.yaml", []byte(c.file), c.set)
			if err != nil {
				t.Fatal(err)
			}
			if !c.check(j) {
				t.Errorf("resolved to\n%s", j.YAML())
			}
			back, err := mine().Parse("resolved.yaml", j.YAML(), nil)
			if err != nil || !reflect.DeepEqual(j, back) {
				t.Errorf("the resolved job\n%s\nparses to %v\n%+v", j.YAML(), err, back)
			}
		})
	}
}

func TestMistakesInKindsOfATest(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"check", ok + "model: {kind: mlp, width: 0}", "j.yaml:3:27: model.width: 0 is too small; want at least 1"},
		{"check of two", ok + "model: {kind: mlp, width: 2, depth: 3}", "j.yaml:3:37: model.depth: 3 is more than model.width 2"},
		{"type", ok + "model: {kind: mlp, width: x}", `j.yaml:3:27: model.width: want a whole number, found the text "x"`},
		{"nearest", ok + "model: {kind: mlp, widht: 2}", "j.yaml:3:20: model.widht: unknown key; did you mean model.width?"},
		{"nearest below", ok + "model: {kind: mlp, parts: {lefd: 2}}", "j.yaml:3:28: model.parts.lefd: unknown key; did you mean model.parts.left?"},
		{"nothing near", ok + "model: {kind: mlp, xyzzy1234: 2}", "j.yaml:3:20: model.xyzzy1234: unknown key; model has preset, kind, width, depth, parts, recompute"},
		{"key of the product's kind", ok + "model: {kind: mlp, n_heads: 2}", "j.yaml:3:29: model.n_heads: has no meaning for model.kind mlp; leave it out"},
		{"section of the product's kind", ok + "model: {kind: mlp, attention: {kind: full}}", "j.yaml:3:31: model.attention: has no meaning for model.kind mlp; leave it out"},
		{"type of a key of the product's kind", ok + "model: {kind: mlp, n_heads: x}", `j.yaml:3:29: model.n_heads: want a whole number, found the text "x"`},
		{"its key on the product's kind", ok + "model: {kind: vit, width: 2}", "j.yaml:3:27: model.width: has no meaning for model.kind vit; leave it out"},
		{"key of another optimizer", ok + "optimizer: {kind: sgd, betas: [0.9, 0.9]}", "j.yaml:3:31: optimizer.betas: has no meaning for optimizer.kind sgd; leave it out"},
		{"optimizer", ok + "optimizer: {kind: sgd, momentum: 1}", "j.yaml:3:34: optimizer.momentum: 1 is outside 0 ≤ momentum < 1"},
		{"loss", ok + "loss: {kind: quantile, at: 3}", "j.yaml:3:28: loss.at: 3 is outside 0 < at < 1"},
		{"key of another loss", ok + "loss: {kind: mse, at: 0.4}", "j.yaml:3:23: loss.at: has no meaning for loss.kind mse; leave it out"},
		{"loss of another answer", "name: a\nmodel: {kind: lstm}\ndata: {kind: copy}\nloss: quantile", "j.yaml:4:7: loss: quantile does not fit model.kind lstm; want cross_entropy"},
		{"a loss that does not fit", ok + "loss: cross_entropy", "j.yaml:3:7: loss: cross_entropy does not fit model.kind vla; want mse, l1, flow, bins or quantile"},
		{"data", "name: a\nmodel: {kind: mlp}\ndata: {kind: copy}", "j.yaml:3:14: data.kind: copy has no images for model.kind mlp; want tabletop, rlds, lerobot, folder, tensors or mixture"},
		{"metric of another loss", ok + "checkpoint: {best: {metric: heldout_coverage}}\ntrain: {eval_every: 100}", "j.yaml:3:29: checkpoint.best.metric: has no meaning for model.kind vla; leave it out"},
		{"preset", ok + "model: {kind: mlp, preset: low}", `j.yaml:3:28: model.preset: "low" is unknown; want one of wide`},
		{"kind", ok + "model: {kind: mpl}", `j.yaml:3:15: model.kind: "mpl" is unknown; did you mean mlp?`},
	} {
		_, err := mine().Parse("j.yaml", []byte(c.file), nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n%v\nwant\n%s", c.name, err, c.want)
		}
	}
}
