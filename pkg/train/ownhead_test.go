package train_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// near is a kind of loss: a weighted squared error, and the share of values that
// come near enough.
type near struct {
	Weight float64 `yaml:"weight"`
	Within float64 `yaml:"within"`
}

func ownHeads() job.Kinds {
	k := train.Kinds()
	k.Losses = append(k.Losses, job.Kind{Name: "near", About: "a weighted squared error of actions", Options: near{Weight: 2, Within: 0.5}})
	return k
}

func (n near) Name() string   { return "near" }
func (n near) Judges() string { return models.Actions }
func (n near) Metrics() []job.Metric {
	return []job.Metric{{Name: "within", Share: true, HigherIsBetter: true}, {Name: "worst"}}
}
func (n near) Resolve(*job.Job, func(string) bool) job.Options { return n }
func (n near) Check(c *job.Checker) {
	if !(n.Weight > 0) {
		c.Bad("loss.weight", "%v is not above 0", n.Weight)
	}
	if !(n.Within > 0) {
		c.Bad("loss.within", "%v is not above 0", n.Within)
	}
}

func (n near) Loss(t *tensor.Tape, answer *tensor.Var, of models.Expected) *tensor.Loss {
	return t.WeightedSum([]*tensor.Loss{t.MSE(answer, of.Actions)}, []float64{n.Weight})
}

func (n near) Soft(t *tensor.Tape, answer, teacher *tensor.Var, _ models.Expected, _ float64) *tensor.Loss {
	return t.WeightedSum([]*tensor.Loss{t.MSE(answer, teacher)}, []float64{n.Weight})
}

func (n near) Score(answer []float32, of models.Truth, add func(int, float64, int)) {
	add(0, of.Loss, of.Count)
	for i, x := range answer {
		if !of.Learned[i%len(of.Learned)] {
			continue
		}
		e, hit := math.Abs(float64(x)-float64(of.Actions[i])), 0.0
		if e <= n.Within {
			hit = 1
		}
		add(1, hit, 1)
		add(2, e, 1)
	}
}

func TestOwnHead(t *testing.T) {
	const text = ownJob + "loss: {kind: near, within: 0.75}\ncheckpoint: {every: 10, best: {metric: heldout_within}}\n"
	o := trainOwn(t, ownHeads(), strings.Replace(text, "steps: 150", "steps: 150, eval_every: 10", 1))
	plain := trainOwn(t, train.Kinds(), ownJob)
	if o.losses[0] != 2*plain.losses[0] {
		t.Errorf("the first loss is %v, want twice %v", o.losses[0], plain.losses[0])
	}
	r := o.report
	if len(r.Metrics) != 2 || r.Metrics[0].Name != "within" || !(r.Metrics[0].Value > 0.5 && r.Metrics[0].Value <= 1) || r.Others["within"] != r.Metrics[0].Value || r.Others["worst"] != r.Actions.L1 {
		t.Errorf("metrics %+v, others %v, L1 %v", r.Metrics, r.Others, r.Actions.L1)
	}
	if math.Abs(r.Loss-2*r.Actions.MSE) > 1e-6 {
		t.Errorf("the loss is %v, the error %v", r.Loss, r.Actions.MSE)
	}
	if !strings.Contains(r.Text(), "\nwithin ") {
		t.Errorf("no line of its metrics in\n%s", r.Text())
	}
	if best := o.job.Best(); best.Name != "heldout_within" || !best.HigherIsBetter {
		t.Errorf("checkpoints are kept by %+v", best)
	}
	if got, want := refused(t, ownHeads(), ownJob+"loss: {kind: near, within: 0}\n"), "own.yaml:9:28: loss.within: 0 is not above 0"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// deep is a kind of loss with layers of its own: a hidden one behind the decoder,
// a key for its width, and a draw of its own in training.
type deep struct {
	Hidden int     `yaml:"hidden"`
	Jitter float64 `yaml:"jitter"` // of the targets
}

func layeredHeads() job.Kinds {
	k := train.Kinds()
	k.Losses = append(k.Losses, job.Kind{Name: "deep", About: "the error of actions behind a hidden layer", Options: deep{Hidden: 12}})
	return k
}

func (d deep) Name() string                                    { return "deep" }
func (d deep) Judges() string                                  { return models.Actions }
func (d deep) Metrics() []job.Metric                           { return []job.Metric{{Name: "worst"}} }
func (d deep) Resolve(*job.Job, func(string) bool) job.Options { return d }
func (d deep) Check(c *job.Checker) {
	c.Within("loss.hidden", d.Hidden, 1, 1000)
	models.CheckDecoder(c, "deep")
}
func (d deep) Score(answer []float32, of models.Truth, add func(int, float64, int)) {
	add(0, of.Loss, of.Count)
	for i, x := range answer {
		if of.Counts(i) {
			add(1, math.Abs(float64(x)-float64(of.Actions[i])), 1)
		}
	}
}

type deepLayers struct {
	deep
	of     models.Decoding
	w1, b1 *tensor.Param
	w2, b2 *tensor.Param
}

func (d deep) Layers(b *models.Builder, prefix string, of models.Decoding) models.Layers {
	l := deepLayers{deep: d, of: of}
	l.w1, l.b1 = b.Linear(prefix+"hidden", d.Hidden, of.Width)
	l.w2, l.b2 = b.Linear(prefix+"out", of.Actions, d.Hidden)
	return l
}

func (l deepLayers) Record(p *models.Pass, d *models.Decoder) models.Answered {
	t := p.Tape
	x := d.Decode(p, nil)
	y := t.Linear(t.Linear(x, l.w1, l.b1, tensor.ReLU), l.w2, l.b2, tensor.None) // [B, L, A]
	return models.Answered{Actions: y, Features: x, Loss: func(of models.Expected) *tensor.Loss {
		want := t.Input(y.Shape...)
		p.Fill(func(draw models.Draw) {
			copy(want.Data, of.Actions.Data)
			for s := range d.Batch() {
				if draw.Train {
					want.Data[s*len(want.Data)/d.Batch()] += float32(l.Jitter * draw.Uniform(0, s))
				}
			}
		})
		return t.ChunkMSE(y, want, of.Valid)
	}}
}

func (l deepLayers) Cost(n *models.Tally) {
	n.Linear(int64(l.of.Steps), int64(l.of.Width), int64(l.Hidden))
	n.Linear(int64(l.of.Steps), int64(l.Hidden), int64(l.of.Actions))
}

const crossJob = `
name: own
seed: 3
model: {kind: vla, fusion: cross, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, max_len: 32, dropout: 0}
data: {kind: tabletop, episodes: 5}
batch: {global: 8, micro: 4}
optimizer: {lr: 0.01, weight_decay: 0, clip_norm: 0}
train: {steps: 60}
`

func TestOwnHeadWithLayers(t *testing.T) {
	o := trainOwn(t, layeredHeads(), crossJob+"loss: {kind: deep, jitter: 0.001}\n")
	for name, shape := range map[string][]int{"action_head.hidden.weight": {12, 16}, "action_head.out.bias": {7}} {
		if p := o.model.Params().ByName(name); p == nil || !slices.Equal(p.Shape, shape) {
			t.Errorf("%s is %+v, want %v", name, p, shape)
		}
	}
	if r := o.report; r.Others["worst"] != r.Actions.L1 || math.Abs(r.Loss-r.Actions.MSE) > 1e-6 {
		t.Errorf("loss %v, metrics %v, actions %+v", r.Loss, r.Others, r.Actions)
	}
	still := trainOwn(t, layeredHeads(), crossJob+"loss: deep\n", "train.steps=60")
	if still.losses[0] == o.losses[0] || math.Abs(still.losses[0]-o.losses[0]) > 1e-2 {
		t.Errorf("the first loss is %v, without the jitter %v", o.losses[0], still.losses[0])
	}
	if got, want := refused(t, layeredHeads(), ownJob+"loss: deep\n"), "own.yaml:9:7: loss: deep has layers of its own behind a decoder, and this model has none; want model.kind vla with model.fusion cross"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
