package attention

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
)

// A row of photoOf comes back through the collator to the same numbers.
func TestPhotoOf(t *testing.T) {
	meta := data.Meta{ImageMean: [3]float32{0.5, 0.5, 0.5}, ImageStd: [3]float32{0.5, 0.5, 0.5}}
	m := photoOf([]float32{-1, 1, 0, 7, -1, -1, 1, 1, 1, 1, 1, -1}, [3]int{3, 2, 2}, meta)
	for i, want := range [][3]uint32{{0, 0, 255}, {255, 0, 255}, {128, 255, 255}, {255, 255, 0}} {
		r, g, b, _ := m.At(i%2, i/2).RGBA()
		if [3]uint32{r >> 8, g >> 8, b >> 8} != want {
			t.Errorf("pixel %d is %d %d %d, want %v", i, r>>8, g>>8, b>>8, want)
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
