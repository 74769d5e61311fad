package attention

import (
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
)

// Padding that ends an instruction (model.pad_ends) is seen once, as the model sees it.
func TestPaddingThatEnds(t *testing.T) {
	for ends, want := range map[bool][]string{false: {"3", "4", "pad", "pad"}, true: {"3", "4", "end", "pad"}} {
		o := models.Config{Kind: models.Encoder, VocabSize: 8, DModel: 4, NHeads: 1, NLayers: 1, MaxLen: 4, PadToken: 7, PadEnds: ends}
		m, err := models.New(o, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := newStack("encoder", 4, &Subject{Model: m}, []int32{3, 4, 7, 7}, models.Spec{})
		if !slices.Equal(s.labels, want) || !slices.Equal(s.visible, []bool{true, true, ends, false}) {
			t.Errorf("pad_ends %v: %v, visible %v", ends, s.labels, s.visible)
		}
	}
}

// The blocks of one encoder are one stack, of this program's and of a pretrained one.
func TestStackOf(t *testing.T) {
	for name, want := range map[string]string{
		"transformer_blocks.0": "transformer_blocks", "blocks.11": "transformer_blocks", "vision_encoder.transformer_blocks.1": "vision_encoder",
		"vision_encoder.blocks.3": "vision_encoder", "language_encoder.blocks.0": "language_encoder", "vision_encoder.blocks.3@wrist": "vision_encoder@wrist",
		"vision_encoder.transformer_blocks.3@wrist": "vision_encoder@wrist", "cross_modal_fusion.transformer_blocks.2": "cross_modal_fusion",
		"encoder.transformer_blocks.1": "encoder",
	} {
		if got := stackOf(name); got != want {
			t.Errorf("%s is of stack %s, want %s", name, got, want)
		}
	}
}

// Registers of a pretrained encoder stand before the patches, behind its class token. Of others two
// times the patches are two cameras', and no grid.
func TestRegisters(t *testing.T) {
	o := models.Config{Kind: models.ViT, ImageSize: 32, PatchSize: 16, Channels: 3, DModel: 4, NHeads: 1, NLayers: 1, ActionDim: 2}
	m, err := models.New(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := newStack("vision_encoder", 4+4, &Subject{Model: m}, nil, models.Spec{}); s.grid != 0 {
		t.Errorf("two cameras are a grid: %v", s.labels)
	}
	o.Vision.From = "x"
	o.Vision.Backbone = &models.Backbone{Family: "dinov2", Width: 4, Layers: 1, Heads: 1, Groups: 1, Head: 4, Hidden: 8, Norm: models.NormLayer, Eps: 1e-6, Activation: "gelu", Bias: true, NormOut: true,
		Patch: 16, Channels: 3, Grid: 2, PatchBias: true, Class: true, ClassPos: true, Registers: 2, Std: [3]float64{1, 1, 1}}
	if m, err = models.New(o, nil); err != nil {
		t.Fatal(err)
	}
	s := newStack("vision_encoder", 1+2+4, &Subject{Model: m}, nil, models.Spec{})
	if want := []string{"cls", "register 1", "register 2", "0,0", "0,1", "1,0", "1,1"}; !slices.Equal(s.labels, want) || s.first != 3 || s.grid != 2 {
		t.Errorf("%v, patches from %d on; want %v", s.labels, s.first, want)
	}
}
