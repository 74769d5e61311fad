package models

import (
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// vlaKind is the kind of VLATransformer.
func vlaKind() family {
	return family{
		name:    VLA,
		about:   "images and instructions to actions",
		answers: Actions,
		useful: "vocab_size image_size patch_size channels d_model n_heads n_layers d_ff action_dim max_len vision vision_tokens " +
			"exits exit_weights attention dropout pad_token",
		options: Config{ImageSize: 224, PatchSize: 16, Channels: 3, DModel: 512, NHeads: 8, NLayers: 6, ActionDim: 7, MaxLen: 5000,
			Vision: VisionViT, VisionTokens: TokensCLS, Dropout: 0.1, PadToken: -1},
		wants: func(c Config) Spec {
			return Spec{c.image(), c.tokens(Instruction), Known(Actions, c.ActionDim)}
		},
		check: func(c Config, k *job.Checker) {
			c.checkImages(k)
			k.OneOf("model.vision_tokens", c.VisionTokens, []string{TokensCLS, TokensPatch})
			c.checkTokens(k)
			c.checkActions(k)
			c.checkBlocks(k, 2) // halved between its encoders and the fusion
		},
		network: func(b *Builder, c Config) (Network, error) { return NewVLATransformer(b, "", c) },
	}
}

// crossModalKind is the kind of CrossModalTransformer alone.
func crossModalKind() family {
	return family{
		name:    CrossModal,
		about:   "given vision and language features to actions",
		answers: Actions,
		useful:  "d_model n_heads n_layers d_ff action_dim vision_dim language_dim exits exit_weights attention dropout",
		options: Config{DModel: 512, NHeads: 8, NLayers: 6, ActionDim: 7, VisionDim: 768, LanguageDim: 512, Dropout: 0.1, PadToken: -1},
		wants: func(c Config) Spec {
			return Spec{Known(VisionFeatures, 0, c.VisionDim), Known(LanguageFeatures, 0, c.LanguageDim), Known(Actions, c.ActionDim)}
		},
		check: func(c Config, k *job.Checker) {
			k.Within("model.vision_dim", c.VisionDim, 1, maxDim)
			k.Within("model.language_dim", c.LanguageDim, 1, maxDim)
			c.checkActions(k)
			c.checkBlocks(k, 1)
		},
		network: func(b *Builder, c Config) (Network, error) { return NewCrossModalTransformer(b, "", c), nil },
	}
}

// CrossModalTransformer joins vision and language features and predicts
// actions from their mean.
type CrossModalTransformer struct {
	c                    Config
	visionW, visionB     *tensor.Param // vision_proj [D, Dv], [D]
	languageW, languageB *tensor.Param // language_proj [D, Dl], [D]
	types                *tensor.Param // modal_type_embedding.weight [2, D]: vision, language
	blocks               []*TransformerBlock
	exits                exits[actionHead] // of the layers in Config.Exits
	head                 actionHead        // action_head.0 [256, D], [256]; action_head.2 [A, 256], [A]
}

// NewCrossModalTransformer adds a cross-modal transformer of c.NLayers blocks
// for features of widths c.VisionDim and c.LanguageDim.
func NewCrossModalTransformer(b *Builder, prefix string, c Config) *CrossModalTransformer {
	c = c.withDefaults()
	m := &CrossModalTransformer{c: c}
	m.visionW, m.visionB = b.Linear(prefix+"vision_proj", c.DModel, c.VisionDim)
	m.languageW, m.languageB = b.Linear(prefix+"language_proj", c.DModel, c.LanguageDim)
	m.types = b.Normal(prefix+"modal_type_embedding.weight", 2, c.DModel)
	m.blocks, m.exits = newStack(b, prefix, c, c.NLayers, func(at string) actionHead { return newActionHead(b, at, c) })
	m.head = newActionHead(b, prefix, c)
	return m
}

// Forward records the transformer: vision [B, P, Dv], language [B, T, Dl] →
// actions [B, A]. visible [B, T] marks the language tokens that count, nil
// all; hidden ones are neither attended to nor part of the mean.
func (m *CrossModalTransformer) Forward(p *Pass, vision, language *tensor.Var, visible *tensor.Bytes) *tensor.Var {
	actions, _ := m.forward(p, vision, language, visible)
	return actions
}

// forward is Forward, and the mean [B, D] that the head sees.
func (m *CrossModalTransformer) forward(p *Pass, vision, language *tensor.Var, visible *tensor.Bytes) (actions, mean *tensor.Var) {
	t := p.Tape
	v := t.AddRow(t.Linear(vision, m.visionW, m.visionB, tensor.None), m.types, 0)
	l := t.AddRow(t.Linear(language, m.languageW, m.languageB, tensor.None), m.types, 1)
	x := t.ConcatTokens(v, l) // [B, P+T, D]
	var keys *tensor.Bytes
	if visible != nil {
		keys = t.ConcatBytes(t.AllVisible(vision.Shape[0], vision.Shape[1]), visible)
	}
	x = forwardStack(p, m.blocks, m.exits, x, tensor.Mask{Keys: keys}, func(h actionHead, x *tensor.Var) *tensor.Var {
		_, actions := h.Forward(p, x, keys)
		return actions
	})
	mean, actions = m.head.Forward(p, x, keys)
	return actions, mean
}

// Record is Network's, for given features.
func (m *CrossModalTransformer) Record(p *Pass, in Inputs) Outputs {
	actions, mean := m.forward(p, in.Floats(VisionFeatures), in.Floats(LanguageFeatures), nil)
	return Outputs{Answer: actions, Features: mean, Layers: m.c.Stack()}
}

// Cost is Network's.
func (m *CrossModalTransformer) Cost(spec Spec) Cost {
	var n Tally
	tv, tl, dv, dl, d := int64(spec.Len(VisionFeatures, 0)), int64(spec.Len(LanguageFeatures, 0)), int64(m.c.VisionDim), int64(m.c.LanguageDim), int64(m.c.DModel)
	n.First += tv*dv*d + tl*dl*d
	m.c.fuse(&n, m.c.NLayers, tv, tl, dv, dl, 0)
	return n.Cost()
}

// VLATransformer is the whole model; the package comment draws it.
type VLATransformer struct {
	c        Config
	Vision   VisionEncoder
	patches  bool // the fusion sees the whole sequence of the image, not its vector alone
	Language *TransformerEncoder
	Fusion   *CrossModalTransformer
}

// NewVLATransformer adds vision_encoder.*, language_encoder.* and
// cross_modal_fusion.*, each of c.NLayers/2 blocks.
func NewVLATransformer(b *Builder, prefix string, c Config) (*VLATransformer, error) {
	whole := c.withDefaults()
	c.NLayers /= 2
	c.VisionDim, c.LanguageDim = c.DModel, c.DModel
	patches := c.VisionTokens == TokensPatch
	v := newVision(b, prefix+"vision_encoder.", c, patches)
	l, err := NewTransformerEncoder(b, prefix+"language_encoder.", c)
	if err != nil {
		return nil, err
	}
	c.Attention.lead = 1 // the image
	return &VLATransformer{whole, v, patches, l, NewCrossModalTransformer(b, prefix+"cross_modal_fusion.", c)}, nil
}

// Forward records the model: images [B, C, S, S], tokens [B, T] → actions
// [B, A]. visible [B, T] marks the tokens that are not padding, nil all.
func (m *VLATransformer) Forward(p *Pass, images *tensor.Var, tokens *tensor.Ints, visible *tensor.Bytes) *tensor.Var {
	return m.forward(p, images, tokens, visible).Answer
}

// Record is Network's.
func (m *VLATransformer) Record(p *Pass, in Inputs) Outputs {
	return m.forward(p, in.Floats(Images), in.Ints(Instruction), in.Visible())
}

func (m *VLATransformer) forward(p *Pass, images *tensor.Var, tokens *tensor.Ints, visible *tensor.Bytes) Outputs {
	var vision *tensor.Var // [B, 1, D], or [B, 1+N, D]
	if m.patches {
		vision = m.Vision.Sequence(p, images)
	} else {
		cls := m.Vision.Forward(p, images)
		vision = p.Tape.Reshape(cls, cls.Shape[0], 1, cls.Shape[1])
	}
	language := m.Language.Forward(p, tokens, tensor.Mask{Keys: visible})
	actions, mean := m.Fusion.forward(p, vision, language, visible)
	return Outputs{Answer: actions, Features: mean, Layers: m.c.Stack()}
}

// Cost is Network's.
func (m *VLATransformer) Cost(spec Spec) Cost {
	var n Tally
	c, part, d, t := m.c, m.c.NLayers/2, int64(m.c.DModel), int64(spec.Len(Instruction, 0))
	tv := c.vision(&n, part)
	if !m.patches {
		tv = 1
	}
	n.Floats += 2 * t * d
	c.stack(&n, part, t, 0)
	c.fuse(&n, part, tv, t, d, d, 1)
	for range c.Exits {
		c.act(&n)
	}
	return n.Cost()
}
