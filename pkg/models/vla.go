package models

import (
	"slices"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// vlaKind is the kind of VLATransformer.
func vlaKind() family {
	return family{
		name:     VLA,
		about:    "images and instructions to actions",
		answers:  Actions,
		observes: true,
		useful: "vocab_size image_size patch_size channels d_model n_heads n_layers d_ff action_dim max_len vision vision_tokens language " +
			"fusion exits exit_weights attention lora dropout pad_token pad_ends",
		options: Config{ImageSize: 224, PatchSize: 16, Channels: 3, DModel: 512, NHeads: 8, NLayers: 6, ActionDim: 7, MaxLen: 5000,
			Vision: Tower{Kind: VisionViT}, VisionTokens: TokensCLS, Dropout: 0.1, PadToken: -1},
		wants: func(c Config) Spec {
			var s Spec
			for _, name := range c.Sees.Names() {
				switch name {
				case Instruction:
					s = append(s, c.tokens(name))
				case State:
					s = append(s, c.Sees.state(c.StateDim))
				case Actions:
					s = append(s, c.Sees.actions(c.ActionDim))
				case Past:
					s = append(s, Known(name, c.Sees.history()))
				case Valid:
					s = append(s, Known(name, c.Sees.chunk()))
				default:
					s = append(s, c.view(name))
				}
			}
			return s
		},
		check: func(c Config, k *job.Checker) {
			c.checkImages(k)
			k.OneOf("model.vision_tokens", c.VisionTokens, []string{TokensCLS, TokensPatch})
			c.Language.check(k, "model.language", []string{languageLearned}, false)
			c.checkTokens(k)
			c.checkActions(k)
			c.checkFusion(k)
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
		useful:  "d_model n_heads n_layers d_ff action_dim vision_dim language_dim exits exit_weights attention lora dropout",
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

// CrossModalTransformer joins vision and language features, and the robot's state
// where the data has it, and predicts actions from their mean.
type CrossModalTransformer struct {
	c                    Config
	visionW, visionB     *tensor.Param // vision_proj [D, Dv], [D]
	stateW, stateB       *tensor.Param // state_proj [D, S], [D]; nil: there is no state
	languageW, languageB *tensor.Param // language_proj [D, Dl], [D]
	types                *tensor.Param // modal_type_embedding.weight [2, D]: vision, language; [3, D] with state
	blocks               []*TransformerBlock
	exits                exits[actionHead] // of the layers in Config.Exits
	head                 actionHead        // action_head.0 [256, D], [256]; action_head.2 [L·A, 256], [L·A]
	decoder              *decoder          // instead of blocks, exits and head; nil: these
}

// NewCrossModalTransformer adds a cross-modal transformer of c.NLayers blocks
// for features of widths c.VisionDim and c.LanguageDim.
func NewCrossModalTransformer(b *Builder, prefix string, c Config) *CrossModalTransformer {
	c = c.withDefaults()
	m := &CrossModalTransformer{c: c}
	m.visionW, m.visionB = b.Linear(prefix+"vision_proj", c.DModel, c.VisionDim)
	kinds := 2
	if c.Sees.State {
		kinds = 3
		m.stateW, m.stateB = b.Linear(prefix+"state_proj", c.DModel, c.StateDim)
	}
	m.languageW, m.languageB = b.Linear(prefix+"language_proj", c.DModel, c.LanguageDim)
	m.types = b.Normal(prefix+"modal_type_embedding.weight", kinds, c.DModel)
	if c.Decoding().Width > 0 {
		m.decoder = newDecoder(b, prefix, c, c.NLayers)
		return m
	}
	m.blocks, m.exits = newStack(b, prefix, c, c.NLayers, func(at string) actionHead { return newActionHead(b, at, c) })
	m.head = newActionHead(b, prefix, c)
	return m
}

// seen is what a model is shown, as features.
type seen struct {
	vision   *tensor.Var   // [B, P, Dv]
	views    *tensor.Bytes // [B, P], those of times before the episode hidden; nil: all are visible
	state    *tensor.Var   // [B, h, S]; nil: there is none
	times    *tensor.Bytes // [B, h], the same of the state
	stamps   *tensor.Param // [h, D], added to the state's tokens: when it was; nil: there is one time
	language *tensor.Var   // [B, T, Dl]
	words    *tensor.Bytes // [B, T], padding hidden; nil: all are visible
}

// Forward records the transformer: vision [B, P, Dv], language [B, T, Dl] →
// actions [B, A], or [B, L, A]. visible [B, T] marks the language tokens that count,
// nil all; hidden ones are neither attended to nor part of the mean.
func (m *CrossModalTransformer) Forward(p *Pass, vision, language *tensor.Var, visible *tensor.Bytes) *tensor.Var {
	actions, _ := m.forward(p, seen{vision: vision, language: language, words: visible})
	return actions
}

// join records the tokens of what is seen, projected, side by side: vision, state,
// language. keys marks the visible ones; nil: all are.
func (m *CrossModalTransformer) join(p *Pass, s seen) (x *tensor.Var, keys *tensor.Bytes) {
	t := p.Tape
	type part struct {
		x    *tensor.Var
		keys *tensor.Bytes
	}
	parts := []part{
		{t.AddRow(t.Linear(s.vision, m.visionW, m.visionB, tensor.None), m.types, 0), s.views},
		{t.AddRow(t.Linear(s.language, m.languageW, m.languageB, tensor.None), m.types, 1), s.words},
	}
	if s.state != nil {
		x := t.AddRow(t.Linear(s.state, m.stateW, m.stateB, tensor.None), m.types, 2)
		if s.stamps != nil {
			x = t.AddPositions(x, s.stamps)
		}
		parts = slices.Insert(parts, 1, part{x, s.times})
	}
	hidden := slices.ContainsFunc(parts, func(a part) bool { return a.keys != nil })
	for i, a := range parts {
		if hidden && a.keys == nil {
			a.keys = t.AllVisible(a.x.Shape[0], a.x.Shape[1])
		}
		switch {
		case i == 0:
			x, keys = a.x, a.keys
		default:
			if x = t.ConcatTokens(x, a.x); hidden {
				keys = t.ConcatBytes(keys, a.keys)
			}
		}
	}
	return x, keys
}

// forward is Forward, and the mean [B, D] that the head sees.
func (m *CrossModalTransformer) forward(p *Pass, s seen) (actions, mean *tensor.Var) {
	x, keys := m.join(p, s) // [B, P+h+T, D]
	x = forwardStack(p, m.blocks, m.exits, x, tensor.Mask{Keys: keys}, func(h actionHead, x *tensor.Var) *tensor.Var {
		_, actions := h.Forward(p, x, keys)
		return actions
	})
	mean, actions = m.head.Forward(p, x, keys)
	return actions, mean
}

// Record is Network's, for given features.
func (m *CrossModalTransformer) Record(p *Pass, in Inputs) Outputs {
	actions, mean := m.forward(p, seen{vision: in.Floats(VisionFeatures), language: in.Floats(LanguageFeatures)})
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

// VLATransformer is the whole model; the package comment draws it. One vision
// encoder looks at all views of an Observation, one after the other.
type VLATransformer struct {
	c        Config
	Vision   VisionEncoder
	patches  bool          // the fusion sees the whole sequence of the image, not its vector alone
	cameras  *tensor.Param // camera_embedding.weight [cameras, D], added to the tokens of a camera; nil: there is one
	times    *tensor.Param // time_embedding.weight [h, D], to the tokens of a time, the oldest first; nil: there is one
	stamps   *tensor.Param // times, or state_time_embedding.weight [h, D'] where the state's tokens are of another width than the pictures'
	Language languageEncoder
	Fusion   *CrossModalTransformer
}

// NewVLATransformer adds vision_encoder.*, language_encoder.* and
// cross_modal_fusion.*, each of c.NLayers/2 blocks.
func NewVLATransformer(b *Builder, prefix string, c Config) (*VLATransformer, error) {
	m := &VLATransformer{c: c.withDefaults(), patches: c.VisionTokens == TokensPatch}
	c.NLayers /= 2
	c.VisionDim, c.LanguageDim = c.visionWidth(), c.languageWidth()
	m.Vision = newVision(b, prefix+"vision_encoder.", c, m.patches)
	if n := c.Sees.cameras(); n > 1 {
		m.cameras = b.Normal(prefix+"camera_embedding.weight", n, c.VisionDim)
	}
	if n := c.Sees.history(); n > 1 {
		m.times = b.Normal(prefix+"time_embedding.weight", n, c.VisionDim)
		m.stamps = m.times
		if c.VisionDim != c.DModel && c.Sees.State {
			m.stamps = b.Normal(prefix+"state_time_embedding.weight", n, c.DModel)
		}
	}
	var err error
	if m.Language, err = newLanguage(b, prefix+"language_encoder.", c); err != nil {
		return nil, err
	}
	c.Attention.lead = 1 // the image
	m.Fusion = NewCrossModalTransformer(b, prefix+"cross_modal_fusion.", c)
	return m, nil
}

// Forward records the model: images [B, C, S, S], tokens [B, T] → actions
// [B, A]. visible [B, T] marks the tokens that are not padding, nil all.
func (m *VLATransformer) Forward(p *Pass, images *tensor.Var, tokens *tensor.Ints, visible *tensor.Bytes) *tensor.Var {
	return m.forward(p, seen{vision: m.look(p, images)}, tokens, visible).Answer
}

// Record is Network's.
func (m *VLATransformer) Record(p *Pass, in Inputs) Outputs {
	return m.forward(p, m.see(p, in), in.Ints(Instruction), in.Visible())
}

// look records one view: [B, C, S, S] → [B, 1, D], or [B, 1+N, D].
func (m *VLATransformer) look(p *Pass, images *tensor.Var) *tensor.Var {
	cls := p.encode(m.c.looking(m.Vision, m.patches, m.c.NLayers/2), reading{images: images})
	if m.patches {
		return cls
	}
	return p.Tape.Reshape(cls, cls.Shape[0], 1, cls.Shape[1])
}

// see records everything that is looked at but the instruction.
func (m *VLATransformer) see(p *Pass, in Inputs) (s seen) {
	t, h := p.Tape, m.c.Sees.history()
	for i, name := range m.c.Sees.Views() {
		if i > 0 {
			p.of = "@" + name
		}
		camera, past, _ := ViewOf(name)
		x := m.look(p, in.Floats(name))
		if m.cameras != nil {
			x = t.AddRow(x, m.cameras, camera)
		}
		var keys *tensor.Bytes
		if m.times != nil {
			x = t.AddRow(x, m.times, h-1-past)
			keys = in.Shown(t, h-1-past, x.Shape[1])
		}
		if i == 0 {
			s.vision, s.views = x, keys
			continue
		}
		s.vision = t.ConcatTokens(s.vision, x)
		if keys != nil {
			s.views = t.ConcatBytes(s.views, keys)
		}
	}
	p.of = ""
	if state := in.Floats(State); state != nil {
		s.state, s.stamps = t.Reshape(state, state.Shape[0], h, state.Cols()), m.stamps
		for time := range h {
			if m.times == nil {
				break
			}
			keys := in.Shown(t, time, 1)
			if time == 0 {
				s.times = keys
			} else {
				s.times = t.ConcatBytes(s.times, keys)
			}
		}
	}
	return s
}

func (m *VLATransformer) forward(p *Pass, s seen, tokens *tensor.Ints, visible *tensor.Bytes) Outputs {
	reads := m.c.reads(m.Language, m.c.NLayers/2, int64(tokens.Shape[1]))
	s.language = p.encode(reads, reading{tokens: tokens, seen: visible})
	if !m.c.Language.Pooled() {
		s.words = visible
	}
	if d := m.Fusion.decoder; d != nil {
		return Outputs{Decoder: d.over(m.Fusion.join(p, s))}
	}
	actions, mean := m.Fusion.forward(p, s)
	return Outputs{Answer: actions, Features: mean, Layers: m.c.Stack()}
}

// Cost is Network's.
func (m *VLATransformer) Cost(spec Spec) Cost {
	var n Tally
	c, part, d, t := m.c, m.c.NLayers/2, int64(m.c.DModel), int64(spec.Len(Instruction, 0))
	tv := int64(0)
	for range c.Sees.Views() {
		tokens := c.vision(&n, part)
		if !m.patches {
			tokens = 1
		}
		tv += tokens
	}
	if b := c.Language.Backbone; b != nil {
		b.count(&n, 0, int(t))
	} else {
		n.Floats += 2 * t * d
		c.stack(&n, part, t, 0)
	}
	if c.Language.Pooled() {
		n.Floats += int64(c.languageWidth())
		t = 1
	}
	dv, dl := int64(c.visionWidth()), int64(c.languageWidth())
	if m.Fusion.decoder != nil {
		m.Fusion.decoder.cost(&n, c.join(&n, tv, t, dv, dl), int64(c.DFF))
		return n.Cost()
	}
	c.fuse(&n, part, tv, t, dv, dl, 1)
	for range c.Exits {
		c.act(&n)
	}
	return n.Cost()
}
