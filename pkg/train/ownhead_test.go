package train_test

import (
	"math"
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
