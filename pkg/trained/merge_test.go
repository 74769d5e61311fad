package trained

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// A model whose adapters are merged answers as the one with them, and its
// configuration has none.
func TestMerge(t *testing.T) {
	c := models.Config{Kind: models.ViT, ImageSize: 16, PatchSize: 8, Channels: 3, DModel: 16, NHeads: 2, NLayers: 2, ActionDim: 3, PadToken: -1,
		LoRA: models.LoRA{Rank: 3, Alpha: 5, Match: []string{"*attention*", "*feed_forward*"}}}
	with, err := models.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer with.Close()
	merged, err := models.New(c.WithoutLoRA(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer merged.Close()
	r := rand.New(rand.NewPCG(1, 2))
	var names []string
	values := map[string][]float32{}
	for _, p := range with.Params().List() {
		for i := range p.Value {
			p.Value[i] = float32(r.NormFloat64()) / 4
		}
		names = append(names, p.Name)
		values[p.Name] = append([]float32(nil), p.Value...)
	}
	m := mergingOf(with.Options(), names)
	if len(m.of) < 6 || len(m.parts) != 2*len(m.of) || len(names)-len(m.parts) != len(merged.Params().List()) {
		t.Fatalf("%d weights are merged of %d adapters' parts, %d of %d parameters stay", len(m.of), len(m.parts), len(names)-len(m.parts), len(merged.Params().List()))
	}
	for _, p := range merged.Params().List() {
		x := values[p.Name]
		if of, ok := m.of[p.Name]; ok {
			if err := m.merge(x, values[of[0]], values[of[1]], p.Shape[0], p.Shape[1]); err != nil {
				t.Fatal(err)
			}
		}
		copy(p.Value, x)
	}
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	spec := with.Spec(0)
	b := models.NewBatch(2, spec)
	for k, f := range spec {
		for i := range b.Values[k].Floats {
			if f.Role == models.Input {
				b.Values[k].Floats[i] = float32(r.NormFloat64())
			}
		}
	}
	answer := func(m *models.Model) []float32 {
		t.Helper()
		p, err := m.Program(rt, 2, spec, models.ProgramOptions{Forward: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Load(b); err != nil {
			t.Fatal(err)
		}
		p.Forward()
		return append([]float32(nil), p.Output().Data...)
	}
	got, want := answer(merged), answer(with)
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 2e-5*(1+math.Abs(float64(want[i]))) {
			t.Errorf("answer %d is %v, with adapters %v", i, got[i], want[i])
		}
	}
	if err := m.merge(make([]float32, 12), make([]float32, 8), make([]float32, 9), 3, 4); err == nil || !strings.Contains(err.Error(), "adapter of 8 and 9 values") {
		t.Errorf("parts of different ranks: %v", err)
	}
}
