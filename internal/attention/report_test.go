package attention

import "testing"

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
