package trained

import (
	"encoding/json"
	"fmt"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
)

// An export has no adapters (model.lora): each weight W [O, I] is what it and its
// adapter are together, W + alpha/rank · B·A. Products and sums are in float64, in the
// order of the rank, rounded once.

// merging is what an export merges; of a model without adapters it changes nothing.
type merging struct {
	scale float64
	parts map[string]bool      // names of adapters
	of    map[string][2]string // of a weight's adapter, A and B
}

// mergingOf is that of a model; names are those of its parameters.
func mergingOf(o models.Options, names []string) (m merging) {
	c, ok := o.(models.Config)
	if !ok || c.LoRA.Rank == 0 {
		return m
	}
	m = merging{scale: float64(c.LoRA.Scale()), parts: map[string]bool{}, of: map[string][2]string{}}
	there := map[string]bool{}
	for _, n := range names {
		there[n] = true
	}
	for _, n := range names {
		if a, b := models.LoraNames(n); there[a] && there[b] {
			m.of[n], m.parts[a], m.parts[b] = [2]string{a, b}, true, true
		}
	}
	return m
}

// read returns parameter name of f, with what its adapter adds.
func (m merging) read(f *safetensors.File, name string) ([]float32, error) {
	w, err := f.Float32(name)
	of, ok := m.of[name]
	if err != nil || !ok {
		return w, err
	}
	info, _ := f.Tensor(name)
	a, err := f.Float32(of[0])
	if err != nil {
		return nil, err
	}
	b, err := f.Float32(of[1])
	if err != nil {
		return nil, err
	}
	if err := m.merge(w, a, b, info.Shape[0], info.Shape[1]); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return w, nil
}

// merge adds to a weight [O, I] what its adapter of a [r, I] and b [O, r] adds.
func (m merging) merge(w, a, b []float32, out, in int) error {
	r := len(a) / in
	if len(w) != out*in || len(a) != r*in || len(b) != out*r {
		return fmt.Errorf("an adapter of %d and %d values for a weight [%d, %d]", len(a), len(b), out, in)
	}
	for o := range out {
		for i := range in {
			sum := 0.0
			for k := range r {
				sum += float64(float64(b[o*r+k]) * float64(a[k*in+i]))
			}
			w[o*in+i] = float32(float64(w[o*in+i]) + float64(m.scale*sum))
		}
	}
	return nil
}

// mergedModel is the model's configuration without its adapters.
func (e *exporter) mergedModel(kept json.RawMessage) (json.RawMessage, error) {
	if c, ok := train.ModelConfig(e.of.Job, e.of.Meta).(models.Config); ok && c.LoRA.Rank > 0 {
		return json.Marshal(c.WithoutLoRA())
	}
	if kept == nil { // a checkpoint that a worker rescued
		return json.Marshal(train.ModelConfig(e.of.Job, e.of.Meta))
	}
	return kept, nil
}
