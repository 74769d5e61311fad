package trained

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Predict runs the whole model, without dropout, on b: its outputs, as
// predict writes them.
func (c *Checkpoint) Predict(rt *tensor.Runtime, b *models.Batch) ([]safetensors.Tensor, error) {
	prog, err := c.Model.Program(rt, b.N, b.Spec, models.ProgramOptions{Forward: true})
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	if err := prog.Load(b); err != nil {
		return nil, err
	}
	prog.SetStep(c.Job.Seed, 0, false)
	prog.Forward()
	name := "actions"
	if c.Model.Options().Answers() == models.Tokens {
		name = "logits"
	}
	out := prog.Output()
	return []safetensors.Tensor{{Name: name, Shape: slices.Clone(out.Shape), Data: slices.Clone(out.Data)}}, nil // the program's memory goes
}

// PredictFile runs the model on the inputs of a file and writes its outputs to
// another: as deep as a.Depth wants, of which said then is a line.
func (c *Checkpoint) PredictFile(ctx context.Context, warn io.Writer, a Asking) (said string, err error) {
	if sameFile(a.In, a.Out) {
		return "", usage.Errorf("--out %s is the file of --inputs, which it would replace: give another", a.Out)
	}
	b, err := c.readInputs(ctx, warn, a.In)
	if err != nil {
		return "", err
	}
	rt := tensor.NewRuntime(max(a.Threads, 1))
	defer rt.Close()
	var tensors []safetensors.Tensor
	if a.Depth == (eval.Depth{}) {
		tensors, err = c.Predict(rt, b)
	} else if tensors, said, err = c.predictTo(rt, b, a.Depth); err == nil {
		said += "\n"
	}
	if err != nil {
		return "", err
	}
	return said, safetensors.WriteFile(a.Out, tensors, nil)
}

// sameFile says that both paths name one file that is there.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// predictTo runs the samples of b one at a time as deep as depth wants: the
// outputs, the layers that each took, and both in words.
func (c *Checkpoint) predictTo(rt *tensor.Runtime, b *models.Batch, depth eval.Depth) (outputs []safetensors.Tensor, said string, err error) {
	s, err := eval.NewStager(rt, c.Model, b.Spec)
	if err != nil {
		return nil, "", err
	}
	defer s.Close()
	values, layers, err := s.All(b, depth)
	if err != nil {
		return nil, "", err
	}
	name, shape := "actions", []int{b.N, len(values) / b.N}
	if n := b.Spec.Len(models.Labels, 0); c.Model.Options().Answers() == models.Tokens {
		name, shape = "logits", []int{b.N, n, len(values) / b.N / n}
	}
	mean := 0.0
	for _, l := range layers {
		mean += float64(l) / float64(b.N)
	}
	said = fmt.Sprintf("%d samples, %.2f layers on average of %d", b.N, mean, s.Layers()[len(s.Layers())-1])
	return []safetensors.Tensor{{Name: name, Shape: shape, Data: values}, {Name: "layers", Shape: []int{b.N}, Data: layers}}, said, nil
}

// Exits measures a checkpoint's exits on src: on all of it, or on its first
// samples where that is above 0.
func (c *Checkpoint) Exits(ctx context.Context, src data.Source, split string, threads, samples int) (eval.ExitReport, error) {
	rt := tensor.NewRuntime(max(threads, 1))
	defer rt.Close()
	m := eval.Subject{Runtime: rt, Model: c.Model, Meta: c.Meta, Seed: c.Job.Seed}
	return m.Exits(ctx, src, split, samples)
}
