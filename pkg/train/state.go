package train

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Snapshot is a copy of a trainer's committed state, as the two files of a
// checkpoint. It shares no memory with the trainer, so training goes on while
// it is sent.
type Snapshot struct {
	Step      uint64
	Model     *safetensors.View // model.safetensors
	Optimizer *safetensors.View // optimizer.safetensors
}

// Snapshot copies the state after the committed step.
func (t *Trainer) Snapshot() (*Snapshot, error) {
	w := append([]float32(nil), t.params.Values()...)
	m := append([]float32(nil), t.m...)
	v := append([]float32(nil), t.v...)
	var model, opt []safetensors.Tensor
	for _, p := range t.params.List() {
		at := func(slab []float32) []float32 { return slab[p.Offset : p.Offset+p.Size()] }
		model = append(model, safetensors.Tensor{Name: p.Name, Shape: p.Shape, Data: at(w)})
		opt = append(opt, safetensors.Tensor{Name: checkpoint.FirstMoment + p.Name, Shape: p.Shape, Data: at(m)},
			safetensors.Tensor{Name: checkpoint.SecondMoment + p.Name, Shape: p.Shape, Data: at(v)})
	}
	s := &Snapshot{Step: t.step}
	var err error
	if s.Model, err = safetensors.NewView(model, nil); err != nil {
		return nil, err
	}
	s.Optimizer, err = safetensors.NewView(opt, nil)
	return s, err
}

// Restore sets weights, moments and step to those of a checkpoint's files.
func (t *Trainer) Restore(step uint64, model, optimizer *safetensors.File) error {
	if err := LoadWeights(t.params, model); err != nil {
		return err
	}
	var want []checkpoint.Want
	for _, p := range t.params.List() {
		want = append(want, checkpoint.Want{Name: checkpoint.FirstMoment + p.Name, Shape: p.Shape},
			checkpoint.Want{Name: checkpoint.SecondMoment + p.Name, Shape: p.Shape})
	}
	if err := checkpoint.Match(optimizer, want); err != nil {
		return err
	}
	for _, p := range t.params.List() {
		for _, x := range []struct {
			prefix string
			slab   []float32
		}{{checkpoint.FirstMoment, t.m}, {checkpoint.SecondMoment, t.v}} {
			if err := optimizer.Float32Into(x.prefix+p.Name, x.slab[p.Offset:p.Offset+p.Size()]); err != nil {
				return fmt.Errorf("restoring step %d: %w", step, err)
			}
		}
	}
	t.step = step
	return nil
}

// LoadWeights sets every parameter from f. Missing, extra and misshapen
// tensors are all listed in the one error, and then nothing is changed.
func LoadWeights(ps *tensor.Params, f *safetensors.File) error {
	var want []checkpoint.Want
	for _, p := range ps.List() {
		want = append(want, checkpoint.Want{Name: p.Name, Shape: p.Shape})
	}
	if err := checkpoint.Match(f, want); err != nil {
		return err
	}
	for _, p := range ps.List() {
		if err := f.Float32Into(p.Name, p.Value); err != nil {
			return err
		}
	}
	return nil
}
