package train_test

import (
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// sgd is a kind of optimizer: torch.optim.SGD with momentum, which keeps one slot.
type sgd struct {
	Momentum float64 `yaml:"momentum"`
}

func ownOptimizers() job.Kinds {
	k := train.Kinds()
	k.Optimizers = append(k.Optimizers, job.Kind{Name: "sgd", About: "gradient descent with momentum", Options: sgd{Momentum: 0.9}})
	return k
}

func (o sgd) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (o sgd) Check(c *job.Checker) {
	if !(o.Momentum >= 0 && o.Momentum < 1) {
		c.Bad("optimizer.momentum", "%v is outside 0 ≤ momentum < 1", o.Momentum)
	}
}

func (o sgd) Slots() []train.Slot { return []train.Slot{{Name: "momentum_buffer"}} }

func (o sgd) Step(_ *tensor.Runtime, u train.Update) {
	lr, decay, mu := float32(u.LR), float32(u.WeightDecay), float32(o.Momentum)
	for i, w := range u.Weights {
		g := float32(u.Grad[i]*u.Scale) + float32(decay*w)
		m := float32(mu*u.Slots[0][i]) + g
		u.Slots[0][i] = m
		u.Weights[i] = w - float32(lr*m)
	}
}

func TestOwnOptimizer(t *testing.T) {
	const text = "name: own\nseed: 3\nmodel: {kind: vit, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 1, dropout: 0}\ndata: {kind: tabletop, episodes: 5}\nbatch: {global: 8, micro: 4}\noptimizer: {kind: sgd, lr: 0.02, weight_decay: 0, clip_norm: 0}\ntrain: {steps: 150}\n"
	o := trainOwn(t, ownOptimizers(), text)
	_, optimizer := o.files(t)
	if n := len(optimizer.Names()); n != len(o.model.Params().List()) || !strings.HasPrefix(names(optimizer), "momentum_buffer.") {
		t.Errorf("the file of the optimizer has %s", names(optimizer))
	}
	need, err := train.NeedOf(o.job, o.meta)
	if err != nil || need.Worker < 3*need.Weights || need.Worker >= 4*need.Weights+int64(o.job.Batch.Micro)*o.model.Cost(o.meta.Spec).ActivationBytes {
		t.Errorf("a worker needs %+v (%v)", need, err)
	}
	if got, want := refused(t, ownOptimizers(), text, "optimizer.momentum=1"), "--set optimizer.momentum=1: optimizer.momentum: 1 is outside 0 ≤ momentum < 1"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got, want := refused(t, ownOptimizers(), strings.Replace(text, "kind: sgd,", "kind: sgd, betas: [0.9, 0.99],", 1)), "own.yaml:6:31: optimizer.betas: has no meaning for optimizer.kind sgd; leave it out"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
