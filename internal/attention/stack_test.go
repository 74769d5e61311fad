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
