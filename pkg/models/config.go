package models

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of model.
const (
	VLA        = "vla"         // images and instructions to actions
	ViT        = "vit"         // images to actions
	CrossModal = "cross_modal" // given vision and language features to actions
	Encoder    = "encoder"     // tokens to tokens, the copy task
	LSTM       = "lstm"        // the same by recurrence
)

// Kinds lists the kinds of model.
func Kinds() []string { return []string{VLA, ViT, CrossModal, Encoder, LSTM} }

// actionHidden is the width inside the reference's action head.
const actionHidden = 256

// Config is the shape of a model. Fields that a kind has no use for are
// ignored; names in messages are those of the job file.
type Config struct {
	Kind        string  `json:"kind"`
	VocabSize   int     `json:"vocab_size,omitempty"`   // V; vla, encoder
	ImageSize   int     `json:"image_size,omitempty"`   // S; vla, vit
	PatchSize   int     `json:"patch_size,omitempty"`   // P, divides S
	Channels    int     `json:"channels,omitempty"`     // C
	DModel      int     `json:"d_model"`                // D, even
	NHeads      int     `json:"n_heads"`                // H, divides D
	NLayers     int     `json:"n_layers"`               // blocks; a vla has half of them in each of its three parts
	DFF         int     `json:"d_ff,omitempty"`         // F; 0: 4·D
	ActionDim   int     `json:"action_dim,omitempty"`   // A; not encoder
	MaxLen      int     `json:"max_len,omitempty"`      // most tokens; 0: 5000, the reference's
	VisionDim   int     `json:"vision_dim,omitempty"`   // cross_modal
	LanguageDim int     `json:"language_dim,omitempty"` // cross_modal
	Dropout     float32 `json:"dropout"`                // 0 ≤ p < 1, in every place where the reference has one
	PadToken    int     `json:"pad_token"`              // id that marks padding; negative: none

	Vision       string    `json:"vision,omitempty"`        // vit, the default, or cnn: what looks at images
	VisionTokens string    `json:"vision_tokens,omitempty"` // vla: cls, the default, or patches, the whole sequence
	Exits        []int     `json:"exits,omitempty"`         // layers below the last with an output of their own, ascending; a vla's are the fusion's
	Attention    Attention `json:"attention,omitzero"`      // what tokens see of each other; zero: all
	HintDim      int       `json:"hint_dim,omitempty"`      // width of a teacher's features that distillation compares with; 0: none
}

// ConfigError is one thing that is wrong with a Config.
type ConfigError struct {
	Field string // as in the job file's model section
	Text  string // what is wrong and what is wanted
}

func (e *ConfigError) Error() string { return "model." + e.Field + ": " + e.Text }

func sprintf(format string, a ...any) string { return fmt.Sprintf(format, a...) }

func oddWidth(d int) error {
	if d < 1 {
		return &ConfigError{"d_model", sprintf("%d is too small; want an even number, at least 2", d)}
	}
	return &ConfigError{"d_model", sprintf("%d is odd; the positional table pairs sines with cosines, so want an even number such as %d", d, d+1)}
}

// withDefaults fills the sizes that follow from others.
func (c Config) withDefaults() Config {
	if c.DFF == 0 {
		c.DFF = 4 * c.DModel
	}
	if c.MaxLen == 0 {
		c.MaxLen = 5000
	}
	return c
}

// The values of Vision and VisionTokens.
const (
	VisionViT    = "vit"
	VisionCNN    = "cnn"
	TokensCLS    = "cls"
	TokensPatch  = "patches"
	visionHint   = "want vit or cnn"
	patchesHint  = "want cls or patches"
	exitsOfStack = "want layers from 1 to %d, ascending"
)

// Stack is the number of blocks that exits may stand in: a vla's are the fusion's.
func (c Config) Stack() int {
	if c.Kind == VLA {
		return c.NLayers / 2
	}
	return c.NLayers
}

func (c Config) namesTokens() bool { return c.Kind == Encoder || c.Kind == LSTM }

func (c Config) hasImages() bool { return c.Kind == VLA || c.Kind == ViT }
func (c Config) hasTokens() bool { return c.Kind == VLA || c.namesTokens() }

// Validate returns nil, or every mistake found, each a *ConfigError, joined.
func (c Config) Validate() error {
	var found []error
	bad := func(field, format string, a ...any) {
		found = append(found, &ConfigError{field, sprintf(format, a...)})
	}
	positive := func(field string, v int) bool {
		if v < 1 {
			bad(field, "%d is too small; want at least 1", v)
		}
		return v > 0
	}
	known := false
	for _, k := range Kinds() {
		known = known || c.Kind == k
	}
	if !known {
		hint := "want one of " + strings.Join(Kinds(), ", ")
		if n := nearest(c.Kind, Kinds()); n != "" {
			hint = "did you mean " + n + "?"
		}
		return &ConfigError{"kind", sprintf("%q is unknown; %s", c.Kind, hint)}
	}
	d := c.DModel > 0 && c.DModel%2 == 0
	if !d {
		found = append(found, oddWidth(c.DModel))
	}
	if c.Kind != LSTM && positive("n_heads", c.NHeads) && d && c.DModel%c.NHeads != 0 {
		bad("n_heads", "%d does not divide d_model %d; want one of %s", c.NHeads, c.DModel, divisors(c.DModel))
	}
	if positive("n_layers", c.NLayers) && c.Kind == VLA && c.NLayers < 2 {
		bad("n_layers", "%d is too small; a vla has n_layers/2 blocks in each encoder and in the fusion, so want at least 2", c.NLayers)
	}
	if c.DFF < 0 {
		bad("d_ff", "%d is too small; want at least 1, or 0 for 4·d_model", c.DFF)
	}
	if c.hasImages() {
		s, p := positive("image_size", c.ImageSize), positive("patch_size", c.PatchSize)
		if s && p && c.ImageSize%c.PatchSize != 0 {
			bad("patch_size", "%d does not divide image_size %d; want one of %s", c.PatchSize, c.ImageSize, divisors(c.ImageSize))
		}
		positive("channels", c.Channels)
	}
	if c.hasTokens() {
		if positive("vocab_size", c.VocabSize) && c.PadToken >= c.VocabSize {
			bad("pad_token", "%d is outside the vocabulary of %d; want 0 to %d, or -1 for no padding", c.PadToken, c.VocabSize, c.VocabSize-1)
		}
		if c.MaxLen < 0 {
			bad("max_len", "%d is too small; want at least 1, or 0 for 5000", c.MaxLen)
		}
	}
	if c.Kind == CrossModal {
		positive("vision_dim", c.VisionDim)
		positive("language_dim", c.LanguageDim)
	}
	if !c.namesTokens() {
		positive("action_dim", c.ActionDim)
	}
	c.validateVariants(bad)
	c.Attention.validate(bad)
	if !(c.Dropout >= 0 && c.Dropout < 1) { // not a NaN either
		bad("dropout", "%v is outside 0 ≤ dropout < 1", c.Dropout)
	}
	return errors.Join(found...)
}

// validateVariants checks the choices within a kind.
func (c Config) validateVariants(bad func(field, format string, a ...any)) {
	if v := c.Vision; v != "" && v != VisionViT && v != VisionCNN {
		bad("vision", "%q is unknown; "+visionHint, v)
	}
	if c.hasImages() && c.Vision == VisionCNN && (c.PatchSize < 2 || c.PatchSize&(c.PatchSize-1) != 0) {
		bad("patch_size", "%d is no power of 2; a cnn halves the picture until a pixel stands for patch_size of them", c.PatchSize)
	}
	if v := c.VisionTokens; v != "" && v != TokensCLS && v != TokensPatch {
		bad("vision_tokens", "%q is unknown; "+patchesHint, v)
	}
	if len(c.Exits) > 0 && (c.Kind == LSTM || c.Kind == ViT && c.Vision == VisionCNN) {
		bad("exits", "stand behind transformer layers, and this model has none")
		return
	}
	for i, e := range c.Exits {
		if e < 1 || e >= c.Stack() || i > 0 && e <= c.Exits[i-1] {
			bad("exits", "%v; "+exitsOfStack, c.Exits, c.Stack()-1)
			return
		}
	}
	if c.HintDim < 0 {
		bad("hint_dim", "%d is below 0", c.HintDim)
	}
}

// divisors lists those of n.
func divisors(n int) string {
	var d []string
	for i := 1; i <= n; i++ {
		if n%i == 0 {
			d = append(d, fmt.Sprint(i))
		}
	}
	return strings.Join(d, ", ")
}

// nearest returns the word with the fewest insertions, deletions and
// substitutions from s, or "" where none is near enough to have been meant.
func nearest(s string, words []string) string {
	best, least := "", 1+max(2, len(s)/3)
	for _, w := range words {
		row := make([]int, len(w)+1)
		for j := range row {
			row[j] = j
		}
		for i := range len(s) {
			diagonal := row[0]
			row[0] = i + 1
			for j := range len(w) {
				d := diagonal
				if s[i] != w[j] {
					d = 1 + min(diagonal, row[j], row[j+1])
				}
				diagonal, row[j+1] = row[j+1], d
			}
		}
		if d := row[len(w)]; d < least && d < max(len(s), len(w)) {
			best, least = w, d
		}
	}
	return best
}
