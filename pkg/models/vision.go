package models

import "github.com/vlaring/vlaring/pkg/tensor"

// VisionTransformer turns an image into one vector: patches and a class token
// through blocks, of which the class token is taken.
type VisionTransformer struct {
	dropout float32
	patchW  *tensor.Param // patch_embedding.weight [D, C, P, P]
	patchB  *tensor.Param // patch_embedding.bias [D]
	cls     *tensor.Param // cls_token [1, 1, D]
	pos     *tensor.Param // pos_embedding [1, 1+N, D]
	blocks  []*TransformerBlock
}

// NewVisionTransformer adds a vision transformer of c.NLayers blocks for square
// images of side c.ImageSize, which c.PatchSize divides.
func NewVisionTransformer(b *Builder, prefix string, c Config) *VisionTransformer {
	c = c.withDefaults()
	d, side := c.DModel, c.ImageSize/c.PatchSize
	v := &VisionTransformer{dropout: c.Dropout}
	v.patchW, v.patchB = b.linear(prefix+"patch_embedding", d, c.Channels, c.PatchSize, c.PatchSize)
	v.cls = b.add(prefix+"cls_token", normal, 0, 1, 1, d)
	v.pos = b.add(prefix+"pos_embedding", normal, 0, 1, 1+side*side, d)
	v.blocks = newBlocks(b, prefix, c, c.NLayers)
	return v
}

// Forward records the transformer: images [B, C, S, S] → [B, D].
func (v *VisionTransformer) Forward(p *Pass, images *tensor.Var) *tensor.Var {
	x := p.Tape.PatchEmbed(images, v.patchW, v.patchB)          // [B, N, D]
	x = p.drop(p.Tape.PrependToken(x, v.cls, v.pos), v.dropout) // [B, 1+N, D]
	return forwardToFirst(p, v.blocks, x, tensor.Mask{})
}

// VisionPolicy is a vision transformer with a linear action head: the vit kind.
type VisionPolicy struct {
	Vision *VisionTransformer
	w, b   *tensor.Param // action_head [A, D], [A]
}

// NewVisionPolicy adds vision_encoder.* and action_head.*.
func NewVisionPolicy(b *Builder, prefix string, c Config) *VisionPolicy {
	m := &VisionPolicy{Vision: NewVisionTransformer(b, prefix+"vision_encoder.", c)}
	m.w, m.b = b.linear(prefix+"action_head", c.ActionDim, c.DModel)
	return m
}

// Forward records the policy: images [B, C, S, S] → actions [B, A].
func (m *VisionPolicy) Forward(p *Pass, images *tensor.Var) *tensor.Var {
	return p.Tape.Linear(m.Vision.Forward(p, images), m.w, m.b, tensor.None)
}
