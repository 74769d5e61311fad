package models

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/job"
)

// The kinds of model.
const (
	VLA        = "vla"         // images and instructions to actions
	ViT        = "vit"         // images to actions
	CrossModal = "cross_modal" // given vision and language features to actions
	Encoder    = "encoder"     // tokens to tokens, the copy task
	LSTM       = "lstm"        // the same by recurrence
)

// actionHidden is the width inside the reference's action head.
const actionHidden = 256

// Bounds on sizes: far above what anyone trains, low enough that no product of
// them overflows.
const (
	maxDim    = 1 << 16
	maxLayers = 1 << 10
	maxVocab  = limits.Vocabulary
)

// Config is the options of the kinds of model that are made of this package's
// layers: the keys of a job file's model section. Fields that a kind has no use
// for are ignored.
type Config struct {
	Kind        string `json:"kind"`
	VocabSize   int    `json:"vocab_size,omitempty" yaml:"vocab_size,omitempty"`     // V; of a job, 0: as many as the data's vocabulary has
	ImageSize   int    `json:"image_size,omitempty" yaml:"image_size,omitempty"`     // S
	PatchSize   int    `json:"patch_size,omitempty" yaml:"patch_size,omitempty"`     // P, divides S
	Channels    int    `json:"channels,omitempty" yaml:"channels,omitempty"`         // C
	DModel      int    `json:"d_model" yaml:"d_model"`                               // D, even
	NHeads      int    `json:"n_heads" yaml:"n_heads,omitempty"`                     // H, divides D
	NLayers     int    `json:"n_layers" yaml:"n_layers"`                             // blocks; a vla has half of them in each of its three parts
	DFF         int    `json:"d_ff,omitempty" yaml:"d_ff,omitempty"`                 // F; 0: 4·D
	ActionDim   int    `json:"action_dim,omitempty" yaml:"action_dim,omitempty"`     // A
	MaxLen      int    `json:"max_len,omitempty" yaml:"max_len,omitempty"`           // most tokens: rows of the positional table; 0: 5000, the reference's
	VisionDim   int    `json:"vision_dim,omitempty" yaml:"vision_dim,omitempty"`     // of given vision features
	LanguageDim int    `json:"language_dim,omitempty" yaml:"language_dim,omitempty"` // of given language features

	Vision       Tower     `json:"vision,omitzero" yaml:"vision,omitempty"`                // what looks at images: vit, the default, cnn, or a pretrained encoder
	Language     Tower     `json:"language,omitzero" yaml:"language,omitempty"`            // what reads the instruction of a vla: empty, an encoder that learns the data's words, or a pretrained one
	VisionTokens string    `json:"vision_tokens,omitempty" yaml:"vision_tokens,omitempty"` // what of it a vla's fusion sees: cls, the default, or patches, the whole sequence, with cross the default
	Fusion       string    `json:"fusion,omitempty" yaml:"fusion,omitempty"`               // how a vla joins what it sees: empty or concat, one sequence; cross, a decoder of actions that looks at it
	Exits        []int     `json:"exits,omitempty" yaml:"exits,omitempty"`                 // layers below the last with an output of their own, ascending; a vla's are the fusion's
	ExitWeights  []float64 `json:"-" yaml:"exit_weights,omitempty"`                        // of their losses, which concern training alone; nil: 1 each
	Attention    Attention `json:"attention,omitzero" yaml:"attention,omitempty"`          // what tokens see of each other; zero: all
	LoRA         LoRA      `json:"lora,omitzero" yaml:"lora,omitempty"`                    // adapters that are trained instead of weights; zero: none
	Dropout      float32   `json:"dropout" yaml:"dropout"`                                 // 0 ≤ p < 1, in every place where the reference has one
	PadToken     int       `json:"pad_token" yaml:"pad_token"`                             // id that marks padding; negative: none
	PadEnds      bool      `json:"pad_ends,omitempty" yaml:"pad_ends,omitempty"`           // pad_token ends every instruction, too: the first of a row is no padding
	HintDim      int       `json:"hint_dim,omitempty"`                                     // width of a teacher's features that distillation compares with; 0: none

	Sees     Observation `json:"sees,omitzero"`       // what the data shows, and how many actions are wanted
	StateDim int         `json:"state_dim,omitempty"` // of the robot's state: the data's
}

// withDefaults fills what follows from other fields and what may be left out.
func (c Config) withDefaults() Config {
	if c.DFF == 0 {
		c.DFF = 4 * c.DModel
	}
	if c.MaxLen == 0 {
		c.MaxLen = 5000
	}
	f := familyOf(c.Kind)
	if c.Vision == (Tower{}) {
		c.Vision = f.options.Vision
	}
	if c.VisionTokens == "" {
		c.VisionTokens = f.options.VisionTokens
		if c.Fusion == fusionCross {
			c.VisionTokens = TokensPatch
		}
	}
	if c.ExitWeights == nil {
		c.ExitWeights = ones(len(c.Exits))
	}
	return c
}

// The values of Vision, VisionTokens and Fusion.
const (
	VisionViT    = "vit"
	VisionCNN    = "cnn"
	TokensCLS    = "cls"
	TokensPatch  = "patches"
	fusionConcat = "concat"
	fusionCross  = "cross"
)

func sprintf(format string, a ...any) string { return fmt.Sprintf(format, a...) }

// Stack is the number of blocks that exits may stand in: a vla's are the fusion's.
func (c Config) Stack() int {
	if c.Kind == VLA {
		return c.NLayers / 2
	}
	return c.NLayers
}

var _ Teachable = Config{}

// Name is Options'.
func (c Config) Name() string { return c.Kind }

// Padding is Options'.
func (c Config) Padding() int { return c.PadToken }

// Sized is Options'.
func (c Config) Sized(vocabulary int, spec Spec) Options {
	if b := c.Language.Backbone; b != nil { // the data's words are among them
		c.VocabSize = b.Vocab
	}
	if c.VocabSize == 0 {
		c.VocabSize = vocabulary
	}
	if o := observationOf(spec); c.Sees.plain() && familyOf(c.Kind).observes {
		c.Sees = o
	}
	if c.ActionDim == 0 {
		c.ActionDim = spec.Width(Actions)
	}
	if c.StateDim == 0 {
		c.StateDim = spec.Width(State)
	}
	return c
}

// Complete is Options'.
func (c Config) Complete() Options { return c.withDefaults() }

// Network is Options'.
func (c Config) Network(b *Builder) (Network, error) { return familyOf(c.Kind).network(b, c) }

// Decoding is the size of the decoder, of a model with one; see decodingOf.
func (c Config) Decoding() Decoding {
	if c.Fusion != fusionCross || !familyOf(c.Kind).uses("fusion") {
		return Decoding{}
	}
	return Decoding{Steps: c.Sees.chunk(), Actions: c.ActionDim, Width: c.DModel}
}

// FeatureDim is Teachable's.
func (c Config) FeatureDim() int {
	if c.Kind == ViT {
		return c.visionWidth()
	}
	return c.DModel
}

// Hint is Teachable's.
func (c Config) Hint() int { return c.HintDim }

// WithHint is Teachable's.
func (c Config) WithHint(dim int) Options {
	c.HintDim = dim
	return c
}

// Check is job.Options'. A vocabulary of 0 is the data's.
func (c Config) Check(k *job.Checker) {
	f := familyOf(c.Kind)
	if f.check == nil {
		k.OneOf("model.kind", c.Kind, kindNames())
		return
	}
	if c.HintDim < 0 {
		k.Bad("model.hint_dim", "%d is below 0", c.HintDim)
	}
	c.checkObservation(k)
	f.check(c, k)
}

// Resolve is job.Options'.
func (c Config) Resolve(j *job.Job, given func(key string) bool) job.Options {
	f := familyOf(c.Kind)
	if !given("model.d_ff") && f.uses("d_ff") {
		c.DFF = 4 * c.DModel
	}
	if c.Fusion == fusionCross && !given("model.vision_tokens") {
		c.VisionTokens = TokensPatch
	}
	c.Vision.own("model.vision", given)
	c.Language.own("model.language", given)
	if len(c.Exits) > 0 && !given("model.exit_weights") {
		c.ExitWeights = ones(len(c.Exits))
	}
	if d, ok := j.Data.Options.(observing); ok && f.answers == Actions {
		c.Sees = d.Observation()
		if !c.Sees.plain() && !given("model.action_dim") {
			c.ActionDim = 0 // the data's
		}
	}
	if d, ok := j.Data.Options.(job.DataOptions); ok && f.uses("pad_token") && !given("model.pad_token") {
		c.PadToken = d.Padding()
	}
	return c
}

func ones(n int) (w []float64) {
	for range n {
		w = append(w, 1)
	}
	return w
}

// Takes is job.ModelOptions'.
func (c Config) Takes() []string { return c.Wants().Names() }

// Answers is job.ModelOptions'.
func (c Config) Answers() string { return familyOf(c.Kind).answers }

// The checks of what kinds share.

func (c Config) checkImages(k *job.Checker) {
	s, p := k.Within("model.image_size", c.ImageSize, 1, maxDim), k.Within("model.patch_size", c.PatchSize, 1, maxDim)
	unread := c.Vision.Pretrained() && c.Vision.Backbone == nil // its patches are not known yet
	switch b := c.Vision.Backbone; {
	case !s || !p || unread || c.ImageSize%c.PatchSize == 0:
	case b != nil && b.Patch == c.PatchSize:
		k.Bad("model.image_size", "%d is no multiple of the %d pixels of a patch of %s; want one such as %d", c.ImageSize, b.Patch, c.Vision.From, max(1, c.ImageSize/b.Patch)*b.Patch)
	default:
		k.Bad("model.patch_size model.image_size", "%d does not divide model.image_size %d; want one of %s", c.PatchSize, c.ImageSize, job.Divisors(c.ImageSize))
	}
	k.Within("model.channels", c.Channels, 1, maxDim)
	c.Vision.check(k, "model.vision", []string{VisionViT, VisionCNN}, true)
	if b := c.Vision.Backbone; b != nil && (b.Patch != c.PatchSize || b.Channels != c.Channels) {
		k.Bad("model.patch_size model.channels model.vision", "patches of %d pixels and %d channels; those of %s have %d and %d: leave model.patch_size and model.channels out", c.PatchSize, c.Channels, c.Vision.From, b.Patch, b.Channels)
	}
	if c.Vision.Kind == VisionCNN && (c.PatchSize < 2 || c.PatchSize&(c.PatchSize-1) != 0) {
		k.Bad("model.patch_size model.vision", "%d is no power of 2; a cnn halves the picture until a pixel stands for patch_size of them", c.PatchSize)
	}
}

func (c Config) checkTokens(k *job.Checker) {
	v := k.Within("model.vocab_size", c.VocabSize, 0, maxVocab)
	k.Within("model.max_len", c.MaxLen, 1, maxVocab)
	if k.Within("model.pad_token", c.PadToken, -1, maxVocab) && v && c.VocabSize > 0 && c.PadToken >= c.VocabSize {
		k.Bad("model.pad_token model.vocab_size", "%d is outside the vocabulary of %d; want 0 to %d, or -1 for no padding", c.PadToken, c.VocabSize, c.VocabSize-1)
	}
	if c.PadEnds && c.PadToken < 0 {
		k.Bad("model.pad_ends model.pad_token", "pad_ends says that padding ends an instruction, and there is none: leave it out, or say which token it is")
	}
}

// endsInPadding says that the first padding token of a row is its instruction's end.
func (c Config) endsInPadding() bool { return c.PadEnds }

func (c Config) checkActions(k *job.Checker) { k.Within("model.action_dim", c.ActionDim, 0, maxDim) }

// checkFusion checks how a vla joins what it sees.
func (c Config) checkFusion(k *job.Checker) {
	if c.Fusion != "" {
		k.OneOf("model.fusion", c.Fusion, []string{fusionConcat, fusionCross})
	}
	if c.Fusion == fusionCross && len(c.Exits) > 0 {
		k.Bad("model.exits model.fusion", "stand behind blocks of model.fusion %s, and a decoder has none; leave them out", fusionConcat)
	}
}

// checkLayers checks a stack of at least so many layers of any make.
func (c Config) checkLayers(k *job.Checker, least int) {
	if k.Within("model.d_model", c.DModel, 1, maxDim) && c.DModel%2 != 0 {
		k.Bad("model.d_model", "%s", oddWidth(c.DModel))
	}
	k.Within("model.n_layers", c.NLayers, least, maxLayers)
	if !(c.Dropout >= 0 && c.Dropout < 1) { // not a NaN either
		k.Bad("model.dropout", "%v is outside 0 ≤ dropout < 1", c.Dropout)
	}
}

func oddWidth(d int) string {
	return sprintf("%d is odd; the positional table pairs sines with cosines, so want an even number such as %d", d, d+1)
}

// checkBlocks checks a stack of transformer blocks.
func (c Config) checkBlocks(k *job.Checker, least int) {
	c.LoRA.check(k)
	c.checkLayers(k, least)
	h := k.Within("model.n_heads", c.NHeads, 1, maxDim)
	k.Within("model.d_ff model.d_model", c.DFF, 1, 8*maxDim)
	if h && c.DModel > 0 && c.DModel <= maxDim && c.DModel%c.NHeads != 0 {
		k.Bad("model.n_heads model.d_model", "%d does not divide model.d_model %d; want one of %s", c.NHeads, c.DModel, job.Divisors(c.DModel))
	}
	c.Attention.check(k)
	c.checkExits(k)
}

func (c Config) checkExits(k *job.Checker) {
	if len(c.Exits) == 0 {
		k.Unused("model.exit_weights", len(c.ExitWeights) == 0, "a model without exits")
		return
	}
	for i, e := range c.Exits {
		key := fmt.Sprintf("model.exits[%d] model.exits model.n_layers", i)
		switch {
		case e < 1 || e >= c.Stack():
			k.Bad(key, "%d is not a layer below the last; want 1 to %d (a vla counts the fusion's n_layers/2)", e, c.Stack()-1)
		case i > 0 && e <= c.Exits[i-1]:
			k.Bad(key, "%d does not come after %d; list the exits from the first layer on", e, c.Exits[i-1])
		}
	}
	if len(c.ExitWeights) != len(c.Exits) {
		k.Bad("model.exit_weights model.exits", "%d weights for %d exits", len(c.ExitWeights), len(c.Exits))
	}
	for i, w := range c.ExitWeights {
		if !(w >= 0) {
			k.Bad(fmt.Sprintf("model.exit_weights[%d] model.exit_weights", i), "%v is below 0", w)
		}
	}
}

// noExits refuses exits of a model that has no transformer blocks for them.
func (c Config) noExits(k *job.Checker) {
	if len(c.Exits) > 0 {
		k.Bad("model.exits", "stand behind transformer layers, and this model has none; leave them out")
		return
	}
	c.checkExits(k)
}
