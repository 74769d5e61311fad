package models

import (
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// vitKind is the kind of VisionPolicy.
func vitKind() family {
	return family{
		name:    ViT,
		about:   "images to actions",
		answers: Actions,
		useful:  "image_size patch_size channels d_model n_heads n_layers d_ff action_dim vision exits exit_weights attention lora dropout",
		options: Config{ImageSize: 224, PatchSize: 16, Channels: 3, DModel: 512, NHeads: 8, NLayers: 6, ActionDim: 7, Vision: Tower{Kind: VisionViT}, Dropout: 0.1, PadToken: -1},
		wants:   func(c Config) Spec { return Spec{c.image(), Known(Actions, c.ActionDim)} },
		check: func(c Config, k *job.Checker) {
			c.checkImages(k)
			c.checkActions(k)
			if c.Vision.Kind == VisionCNN || c.Vision.Pretrained() {
				c.noExits(k)
				c.Exits, c.ExitWeights = nil, nil
			}
			c.checkBlocks(k, 1)
		},
		network: func(b *Builder, c Config) (Network, error) { return NewVisionPolicy(b, "", c), nil },
	}
}

// image is the feature of the pictures that c takes.
func (c Config) image() Feature { return c.view(Images) }

// view is that of a view of this name.
func (c Config) view(name string) Feature {
	f := Known(name, c.Channels, c.ImageSize, c.ImageSize)
	if b := c.Vision.Backbone; b != nil {
		for i := range b.Mean {
			f.Mean[i], f.Std[i] = float32(b.Mean[i]), float32(b.Std[i])
		}
	}
	return f
}

// VisionEncoder is what looks at images: a vision transformer or a cnn.
type VisionEncoder interface {
	// Forward records images [B, C, S, S] → one vector each, [B, D].
	Forward(p *Pass, images *tensor.Var) *tensor.Var
	// Sequence records images [B, C, S, S] → [B, 1+N, D], the vector (of a
	// transformer the class token) and then the patches row by row.
	Sequence(p *Pass, images *tensor.Var) *tensor.Var
	// steps are those of Forward, or with tokens of Sequence. nil: it has exits on
	// the way, and is one with what is behind it.
	steps(images *tensor.Var, tokens bool) []step
}

var (
	_ VisionEncoder = (*VisionTransformer)(nil)
	_ VisionEncoder = (*ConvEncoder)(nil)
)

// visionWidth and languageWidth are those of what the towers give.
func (c Config) visionWidth() int {
	if b := c.Vision.Backbone; b != nil {
		return b.Width
	}
	return c.DModel
}

func (c Config) languageWidth() int {
	if b := c.Language.Backbone; b != nil {
		return b.Width
	}
	return c.DModel
}

// newVision adds the encoder that c.Vision names. tokens asks for Sequence.
func newVision(b *Builder, prefix string, c Config, tokens bool) VisionEncoder {
	if c.Vision.Backbone != nil {
		return NewBackbone(b, prefix, *c.Vision.Backbone, c.ImageSize)
	}
	if c.Vision.Kind == VisionCNN {
		return NewConvEncoder(b, prefix, c, tokens)
	}
	if c.Kind == VLA { // its exits are the fusion's
		c.Exits = nil
	}
	return NewVisionTransformer(b, prefix, c)
}

// VisionTransformer turns an image into one vector: patches and a class token
// through blocks, of which the class token is taken.
type VisionTransformer struct {
	dropout float32
	patchW  *tensor.Param // patch_embedding.weight [D, C, P, P]
	patchB  *tensor.Param // patch_embedding.bias [D]
	cls     *tensor.Param // cls_token [1, 1, D]
	pos     *tensor.Param // pos_embedding [1, 1+N, D]
	blocks  []*TransformerBlock
	exits   exits[linearHead] // action_head of the layers in Config.Exits
}

// NewVisionTransformer adds a vision transformer of c.NLayers blocks for square
// images of side c.ImageSize, which c.PatchSize divides.
func NewVisionTransformer(b *Builder, prefix string, c Config) *VisionTransformer {
	c = c.withDefaults()
	d, side := c.DModel, c.ImageSize/c.PatchSize
	v := &VisionTransformer{dropout: c.Dropout}
	c.Attention.lead = 1 // the class token
	v.patchW, v.patchB = b.Linear(prefix+"patch_embedding", d, c.Channels, c.PatchSize, c.PatchSize)
	v.cls = b.Normal(prefix+"cls_token", 1, 1, d)
	v.pos = b.Normal(prefix+"pos_embedding", 1, 1+side*side, d)
	v.blocks, v.exits = newStack(b, prefix, c, c.NLayers, func(at string) linearHead {
		return newLinearHead(b, at+"action_head", c.ActionDim, d)
	})
	return v
}

// Forward records the transformer: images [B, C, S, S] → [B, D].
func (v *VisionTransformer) Forward(p *Pass, images *tensor.Var) *tensor.Var {
	if len(v.exits) > 0 {
		return p.Tape.SelectToken(v.Sequence(p, images), 0)
	}
	return forwardToFirst(p, v.blocks, v.embed(p, images), tensor.Mask{})
}

// Sequence records the transformer: images [B, C, S, S] → [B, 1+N, D].
func (v *VisionTransformer) Sequence(p *Pass, images *tensor.Var) *tensor.Var {
	return forwardStack(p, v.blocks, v.exits, v.embed(p, images), tensor.Mask{}, func(h linearHead, x *tensor.Var) *tensor.Var {
		return h.Forward(p, p.Tape.SelectToken(x, 0))
	})
}

// steps is VisionEncoder's.
func (v *VisionTransformer) steps(images *tensor.Var, tokens bool) []step {
	if len(v.exits) > 0 {
		return nil
	}
	all := []step{func(p *Pass, _ *tensor.Var) *tensor.Var { return v.embed(p, images) }}
	forward := func(p *Pass, l *TransformerBlock, x *tensor.Var) *tensor.Var { return l.Forward(p, x, tensor.Mask{}) }
	if n := len(v.blocks) - 1; !tokens && n >= 0 {
		all = append(all, blocksOf(v.blocks[:n], forward)...)
		return append(all, func(p *Pass, x *tensor.Var) *tensor.Var { return forwardToFirst(p, v.blocks[n:], x, tensor.Mask{}) })
	}
	all = append(all, blocksOf(v.blocks, forward)...)
	if !tokens {
		all = append(all, func(p *Pass, x *tensor.Var) *tensor.Var { return p.Tape.SelectToken(x, 0) })
	}
	return all
}

// embed records what the blocks see: images [B, C, S, S] → [B, 1+N, D].
func (v *VisionTransformer) embed(p *Pass, images *tensor.Var) *tensor.Var {
	x := p.Tape.PatchEmbed(images, v.patchW, v.patchB) // [B, N, D]
	return p.Drop(p.Tape.PrependToken(x, v.cls, v.pos), v.dropout)
}

// VisionPolicy is a vision encoder with a linear action head: the vit kind.
type VisionPolicy struct {
	c      Config
	Vision VisionEncoder
	w, b   *tensor.Param // action_head [A, D], [A]
}

// NewVisionPolicy adds vision_encoder.* and action_head.*.
func NewVisionPolicy(b *Builder, prefix string, c Config) *VisionPolicy {
	m := &VisionPolicy{c: c, Vision: newVision(b, prefix+"vision_encoder.", c, false)}
	m.w, m.b = b.Linear(prefix+"action_head", c.ActionDim, c.visionWidth())
	return m
}

// Forward records the policy: images [B, C, S, S] → actions [B, A].
func (m *VisionPolicy) Forward(p *Pass, images *tensor.Var) *tensor.Var {
	return m.forward(p, images).Answer
}

// Record is Network's.
func (m *VisionPolicy) Record(p *Pass, in Inputs) Outputs { return m.forward(p, in.Floats(Images)) }

func (m *VisionPolicy) forward(p *Pass, images *tensor.Var) Outputs {
	x := p.encode(m.c.looking(m.Vision, false, m.c.NLayers), reading{images: images})
	if x == nil {
		x = m.Vision.Forward(p, images)
	}
	return Outputs{Answer: p.Tape.Linear(x, m.w, m.b, tensor.None), Features: x, Layers: m.c.Stack()}
}

// Cost is Network's.
func (m *VisionPolicy) Cost(Spec) Cost {
	var n Tally
	m.c.vision(&n, m.c.NLayers)
	for range 1 + len(m.c.Exits) {
		n.Linear(1, int64(m.c.visionWidth()), int64(m.c.ActionDim))
	}
	return n.Cost()
}
