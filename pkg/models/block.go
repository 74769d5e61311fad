package models

import (
	"math"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// TransformerBlock is self-attention and a feed-forward network, each followed
// by residual and LayerNorm (post-norm, as the reference):
//
//	x₁ = norm1(x + drop(out_proj(attention(in_proj(x)))))
//	x₂ = norm2(x₁ + drop(ff₃(drop(relu(ff₀(x₁))))))
//
// Dropout also applies to the attention weights.
type TransformerBlock struct {
	name    string
	heads   int
	dropout float32
	sight   Attention

	inW, inB      *tensor.Param // attention.in_proj_weight [3D, D] (q, k, v), in_proj_bias [3D]
	outW, outB    *tensor.Param // attention.out_proj [D, D], [D]
	gamma1, beta1 *tensor.Param // norm1 [D]
	upW, upB      *tensor.Param // feed_forward.0 [F, D], [F]
	downW, downB  *tensor.Param // feed_forward.3 [D, F], [D]
	gamma2, beta2 *tensor.Param // norm2 [D]
}

// NewTransformerBlock adds a block's parameters, whose names begin with prefix
// ("" or ending in a dot): DModel, NHeads, DFF, Dropout and Attention of c count. It
// panics with *tensor.ShapeError where heads do not divide the width.
func NewTransformerBlock(b *Builder, prefix string, c Config) *TransformerBlock {
	c = c.withDefaults()
	if c.NHeads < 1 || c.DModel%c.NHeads != 0 {
		panic(&tensor.ShapeError{Op: "TransformerBlock", Want: "n_heads that divide d_model", Got: sprintf("%d and %d", c.NHeads, c.DModel)})
	}
	d, f := c.DModel, c.DFF
	l := &TransformerBlock{name: trimDot(prefix), heads: c.NHeads, dropout: c.Dropout, sight: c.Attention}
	// nn.MultiheadAttention: xavier_uniform over the packed matrix, fan-in D
	// and fan-out 3D; biases zero.
	l.inW = b.Uniform(prefix+"attention.in_proj_weight", math.Sqrt(6/float64(4*d)), 3*d, d)
	l.inB = b.Constant(prefix+"attention.in_proj_bias", 0, 3*d)
	l.outW = b.Uniform(prefix+"attention.out_proj.weight", 1/math.Sqrt(float64(d)), d, d)
	l.outB = b.Constant(prefix+"attention.out_proj.bias", 0, d)
	l.gamma1, l.beta1 = b.Norm(prefix+"norm1", d)
	l.upW, l.upB = b.Linear(prefix+"feed_forward.0", f, d)
	l.downW, l.downB = b.Linear(prefix+"feed_forward.3", d, f)
	l.gamma2, l.beta2 = b.Norm(prefix+"norm2", d)
	return l
}

func trimDot(prefix string) string {
	if n := len(prefix); n > 0 && prefix[n-1] == '.' {
		return prefix[:n-1]
	}
	return prefix
}

// Forward records the block: x [B, T, D] → [B, T, D].
func (l *TransformerBlock) Forward(p *Pass, x *tensor.Var, mask tensor.Mask) *tensor.Var {
	t, rate := p.Tape, p.Rate(l.dropout)
	qkv := t.Linear(x, l.inW, l.inB, tensor.None)            // [B, T, 3D]
	a := t.Attention(qkv, l.heads, l.sight.mask(mask), rate) // [B, T, D]
	p.Keep(l.name, l.heads, a)
	return l.feedForward(p, t.AddNorm(x, t.Linear(a, l.outW, l.outB, tensor.None), l.gamma1, l.beta1, rate))
}

// feedForward records the second half of the block.
func (l *TransformerBlock) feedForward(p *Pass, x *tensor.Var) *tensor.Var {
	t, rate := p.Tape, p.Rate(l.dropout)
	up := t.LinearDrop(x, l.upW, l.upB, rate) // [B, T, F]
	return t.AddNorm(x, t.Linear(up, l.downW, l.downB, tensor.None), l.gamma2, l.beta2, rate)
}

// ForwardFirst records the block where only its first token is wanted: x
// [B, T, D] → [B, 1, D]. The other tokens are looked at, and that is all that
// is computed of them: what they would become has no influence on the first,
// and their gradients would be zeros. Values and gradients are those of
// Forward and SelectToken, bit for bit.
func (l *TransformerBlock) ForwardFirst(p *Pass, x *tensor.Var, mask tensor.Mask) *tensor.Var {
	t, rate := p.Tape, p.Rate(l.dropout)
	b, d := x.Shape[0], x.Shape[2]
	qkv := t.Linear(x, l.inW, l.inB, tensor.None)
	a := t.AttentionOfFirst(qkv, l.heads, 1, l.sight.mask(mask), rate) // [B, 1, D]
	first := t.Reshape(t.SelectToken(x, 0), b, 1, d)
	return l.feedForward(p, t.AddNorm(first, t.Linear(a, l.outW, l.outB, tensor.None), l.gamma1, l.beta1, rate))
}

func forwardBlocks(p *Pass, blocks []*TransformerBlock, x *tensor.Var, mask tensor.Mask) *tensor.Var {
	for _, l := range blocks {
		p.Block(func() { x = l.Forward(p, x, mask) })
	}
	return x
}

// forwardToFirst is forwardBlocks and SelectToken 0: [B, T, D] → [B, D].
func forwardToFirst(p *Pass, blocks []*TransformerBlock, x *tensor.Var, mask tensor.Mask) *tensor.Var {
	n := len(blocks) - 1
	if n < 0 || p.KeepAttention { // all of the last block's attention is wanted
		return p.Tape.SelectToken(forwardBlocks(p, blocks, x, mask), 0)
	}
	x = forwardBlocks(p, blocks[:n], x, mask)
	p.Block(func() { x = blocks[n].ForwardFirst(p, x, mask) })
	return p.Tape.Reshape(x, x.Shape[0], x.Shape[2])
}
