package models

import (
	"fmt"
	"math"

	"github.com/vlaring/vlaring/pkg/tensor"
)

func blockName(prefix string, i int) string { return fmt.Sprintf("%stransformer_blocks.%d", prefix, i) }

func newBlocks(ps *tensor.Params, prefix string, n, d, heads, f int, dropout float32) (l []*TransformerBlock) {
	for i := range n {
		l = append(l, NewTransformerBlock(ps, blockName(prefix, i)+".", d, heads, f, dropout))
	}
	return l
}

// TransformerEncoder embeds tokens, adds positions and runs blocks.
type TransformerEncoder struct {
	prefix    string
	d         int
	dropout   float32
	embedding *tensor.Param // [V, D]
	pe        []float32     // [maxLen, D]
	blocks    []*TransformerBlock
}

// NewTransformerEncoder adds an encoder of n blocks to ps under prefix.
func NewTransformerEncoder(ps *tensor.Params, prefix string, vocab, d, heads, f, n, maxLen int, dropout float32) *TransformerEncoder {
	return &TransformerEncoder{prefix: prefix, d: d, dropout: dropout, embedding: ps.Add(prefix+"embedding.weight", vocab, d),
		pe: PositionalEncoding(d, maxLen), blocks: newBlocks(ps, prefix, n, d, heads, f, dropout)}
}

// Forward records the encoder on tokens [B, T] → [B, T, D].
func (e *TransformerEncoder) Forward(t *tensor.Tape, tokens *tensor.Ints, mask tensor.Mask) (*tensor.Var, []Layer) {
	x := t.Dropout(t.Embedding(tokens, e.embedding, float32(math.Sqrt(float64(e.d))), e.pe), e.dropout)
	return blocks(t, e.blocks, e.prefix, x, mask)
}

// VisionTransformer turns an image into a class feature and patch features.
type VisionTransformer struct {
	prefix   string
	dropout  float32
	w, b     *tensor.Param // patch_embedding [D, C, P, P], [D]
	cls, pos *tensor.Param // [1, 1, D], [1, N+1, D]
	blocks   []*TransformerBlock
}

// NewVisionTransformer adds a vision transformer of n blocks to ps under prefix.
func NewVisionTransformer(ps *tensor.Params, prefix string, image, patch, channels, d, heads, f, n int, dropout float32) *VisionTransformer {
	v := &VisionTransformer{prefix: prefix, dropout: dropout}
	patches := (image / patch) * (image / patch)
	v.cls = ps.Add(prefix+"cls_token", 1, 1, d)
	v.pos = ps.Add(prefix+"pos_embedding", 1, patches+1, d)
	v.w = ps.Add(prefix+"patch_embedding.weight", d, channels, patch, patch)
	v.b = ps.Add(prefix+"patch_embedding.bias", d)
	v.blocks = newBlocks(ps, prefix, n, d, heads, f, dropout)
	return v
}

// Forward records the transformer on images [B, C, H, W] → all tokens
// [B, N+1, D], the class token first.
func (v *VisionTransformer) Forward(t *tensor.Tape, images *tensor.Var) (*tensor.Var, []Layer) {
	x := t.Dropout(t.PrependToken(t.PatchEmbed(images, v.w, v.b), v.cls, v.pos), v.dropout)
	return blocks(t, v.blocks, v.prefix, x, tensor.Mask{})
}

// CrossModalTransformer fuses vision and language features into an action.
type CrossModalTransformer struct {
	prefix                         string
	visW, visB, langW, langB       *tensor.Param
	types                          *tensor.Param // modal_type_embedding [2, D]: vision, language
	blocks                         []*TransformerBlock
	head0W, head0B, head2W, head2B *tensor.Param
}

// NewCrossModalTransformer adds a fusion of n blocks and its action head to ps under prefix.
func NewCrossModalTransformer(ps *tensor.Params, prefix string, vision, language, d, heads, f, n, actions int, dropout float32) *CrossModalTransformer {
	c := &CrossModalTransformer{prefix: prefix}
	c.visW = ps.Add(prefix+"vision_proj.weight", d, vision)
	c.visB = ps.Add(prefix+"vision_proj.bias", d)
	c.langW = ps.Add(prefix+"language_proj.weight", d, language)
	c.langB = ps.Add(prefix+"language_proj.bias", d)
	c.types = ps.Add(prefix+"modal_type_embedding.weight", 2, d)
	c.blocks = newBlocks(ps, prefix, n, d, heads, f, dropout)
	c.head0W = ps.Add(prefix+"action_head.0.weight", hiddenAction, d)
	c.head0B = ps.Add(prefix+"action_head.0.bias", hiddenAction)
	c.head2W = ps.Add(prefix+"action_head.2.weight", actions, hiddenAction)
	c.head2B = ps.Add(prefix+"action_head.2.bias", actions)
	return c
}

// Forward records the fusion of vision [B, Tv, Dv] and language [B, Tl, Dl] →
// actions [B, A]. visible [B, Tl] hides padding of the language side from
// attention and pooling; nil shows all.
func (c *CrossModalTransformer) Forward(t *tensor.Tape, vision, language *tensor.Var, visible *tensor.Bytes) (*tensor.Var, []Layer) {
	v := t.AddRow(t.Linear(vision, c.visW, c.visB, tensor.None), c.types, 0)
	l := t.AddRow(t.Linear(language, c.langW, c.langB, tensor.None), c.types, 1)
	var keys *tensor.Bytes
	if visible != nil {
		keys = t.ConcatBytes(t.AllVisible(vision.Shape[0], vision.Shape[1]), visible)
	}
	x, layers := blocks(t, c.blocks, c.prefix, t.ConcatTokens(v, l), tensor.Mask{Keys: keys})
	h := t.Linear(t.MeanPool(x, keys), c.head0W, c.head0B, tensor.ReLU)
	return t.Linear(h, c.head2W, c.head2B, tensor.None), layers
}

// VLATransformer is the whole model.
type VLATransformer struct {
	Vision   *VisionTransformer
	Language *TransformerEncoder
	Fusion   *CrossModalTransformer
}

// NewVLATransformer adds a VLA model to ps under prefix; each of its three
// parts has half of c.NLayers blocks.
func NewVLATransformer(ps *tensor.Params, prefix string, c Config) *VLATransformer {
	n, f := c.NLayers/2, c.dff()
	return &VLATransformer{
		Vision:   NewVisionTransformer(ps, prefix+"vision_encoder.", c.ImageSize, c.PatchSize, c.Channels, c.DModel, c.NHeads, f, n, c.Dropout),
		Language: NewTransformerEncoder(ps, prefix+"language_encoder.", c.VocabSize, c.DModel, c.NHeads, f, n, c.maxLen(), c.Dropout),
		Fusion:   NewCrossModalTransformer(ps, prefix+"cross_modal_fusion.", c.DModel, c.DModel, c.DModel, c.NHeads, f, n, c.ActionDim, c.Dropout),
	}
}

// Forward records the model on images [B, C, H, W] and tokens [B, T] → actions [B, A].
func (m *VLATransformer) Forward(t *tensor.Tape, images *tensor.Var, tokens *tensor.Ints, visible *tensor.Bytes) (*tensor.Var, []Layer) {
	seen, l1 := m.Vision.Forward(t, images)
	cls := t.SelectToken(seen, 0)
	read, l2 := m.Language.Forward(t, tokens, tensor.Mask{Keys: visible})
	out, l3 := m.Fusion.Forward(t, t.Reshape(cls, cls.Shape[0], 1, cls.Shape[1]), read, visible)
	return out, append(append(l1, l2...), l3...)
}

// CopyModel is the copy task's: an encoder and an output head over the vocabulary.
type CopyModel struct {
	Encoder *TransformerEncoder
	w, b    *tensor.Param // output_head [V, D], [V]
}

// NewCopyModel adds a copy-task model to ps under prefix.
func NewCopyModel(ps *tensor.Params, prefix string, c Config) *CopyModel {
	return &CopyModel{
		Encoder: NewTransformerEncoder(ps, prefix+"encoder.", c.VocabSize, c.DModel, c.NHeads, c.dff(), c.NLayers, c.maxLen(), c.Dropout),
		w:       ps.Add(prefix+"output_head.weight", c.VocabSize, c.DModel),
		b:       ps.Add(prefix+"output_head.bias", c.VocabSize),
	}
}

// Forward records the model on tokens [B, T] → encoded [B, T, D] and logits [B, T, V].
func (m *CopyModel) Forward(t *tensor.Tape, tokens *tensor.Ints, visible *tensor.Bytes) (encoded, logits *tensor.Var, layers []Layer) {
	encoded, layers = m.Encoder.Forward(t, tokens, tensor.Mask{Keys: visible})
	return encoded, t.Linear(encoded, m.w, m.b, tensor.None), layers
}
