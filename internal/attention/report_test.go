package attention

import (
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
)

// Of words that are one sentence the fusion has one position, also where it is as long
// as the instruction; the encoder of words still has all of them.
func TestStackOfSentence(t *testing.T) {
	words := &models.Backbone{Family: "bert", Width: 8, Layers: 1, Heads: 1, Groups: 1, Head: 8, Hidden: 8, Norm: models.NormLayer, Post: true, Eps: 1e-12, Activation: "gelu", Bias: true, NormIn: true, Vocab: 9, Positions: 4, Types: 2}
	m, err := models.New(models.Config{Kind: models.VLA, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 1, NLayers: 2, ActionDim: 1, Language: models.Tower{From: "b", Backbone: words, Pool: models.PoolMean}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, want := range []struct {
		name   string
		n      int
		labels []string
	}{
		{"cross_modal_fusion", 2, []string{"image", "sentence"}},
		{"cross_modal_fusion", 6, []string{"cls", "0,0", "0,1", "1,0", "1,1", "sentence"}},
		{"vision_encoder", 5, []string{"cls", "0,0", "0,1", "1,0", "1,1"}},
		{"language_encoder", 2, []string{"5", "pad"}},
	} {
		if got := newStack(want.name, want.n, &Subject{Model: m}, []int32{5, 0}, m.Spec(2)).labels; !slices.Equal(got, want.labels) {
			t.Errorf("%s of %d: %q, want %q", want.name, want.n, got, want.labels)
		}
	}
}

// Two views are two stacks: what one is made of is no part of the other.
func TestStacksOfViews(t *testing.T) {
	for name, want := range map[string]string{
		"vision_encoder.transformer_blocks.1":          "vision_encoder",
		"vision_encoder.transformer_blocks.1@images_1": "vision_encoder@images_1",
		"transformer_blocks.0":                         "transformer_blocks",
	} {
		if got := stackOf(name); got != want {
			t.Errorf("%s is of %s, want %s", name, got, want)
		}
	}
}
