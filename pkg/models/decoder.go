package models

import (
	"math"
	"strconv"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// Decoding is the size of a model's decoder: what a head with layers of its own is
// made for. The zero value is a model without one.
type Decoding struct {
	Steps   int // L, actions of a chunk: one token each
	Actions int // A, values of an action
	Width   int // D, of a token
}

// decodingOf is the decoder of a model of o.
func decodingOf(o any) Decoding {
	if d, ok := o.(interface{ Decoding() Decoding }); ok {
		return d.Decoding()
	}
	return Decoding{}
}

// decoderBlock is PyTorch's nn.TransformerDecoderLayer, post-norm, with ReLU:
// tokens look at each other, then at a memory, then each at itself:
//
//	x₁ = norm1(x + drop(self_attn(x)))
//	x₂ = norm2(x₁ + drop(multihead_attn(x₁, memory)))
//	x₃ = norm3(x₂ + drop(linear2(drop(relu(linear1(x₂))))))
//
// Dropout also applies to the weights of both attentions.
type decoderBlock struct {
	name    string
	heads   int
	dropout float32

	self, cross  projections
	norms        [3][2]*tensor.Param // norm1, norm2, norm3: [D], [D]
	upW, upB     *tensor.Param       // linear1 [F, D], [F]
	downW, downB *tensor.Param       // linear2 [D, F], [D]
}

// projections are nn.MultiheadAttention's.
type projections struct {
	inW, inB   *tensor.Param // in_proj_weight [3D, D] (q, k, v), in_proj_bias [3D]
	outW, outB *tensor.Param // out_proj [D, D], [D]
}

// newProjections adds them as PyTorch begins: xavier_uniform over the packed
// matrix, fan-in D and fan-out 3D; biases zero.
func newProjections(b *Builder, prefix string, d int) (p projections) {
	p.inW = b.Uniform(prefix+"in_proj_weight", math.Sqrt(6/float64(4*d)), 3*d, d)
	p.inB = b.Constant(prefix+"in_proj_bias", 0, 3*d)
	p.outW = b.Uniform(prefix+"out_proj.weight", 1/math.Sqrt(float64(d)), d, d)
	p.outB = b.Constant(prefix+"out_proj.bias", 0, d)
	return p
}

func newDecoderBlock(b *Builder, prefix string, c Config) *decoderBlock {
	c = c.withDefaults()
	d, f := c.DModel, c.DFF
	l := &decoderBlock{name: trimDot(prefix), heads: c.NHeads, dropout: c.Dropout}
	norm := func(i int) { l.norms[i][0], l.norms[i][1] = b.Norm(prefix+"norm"+strconv.Itoa(i+1), d) }
	l.self = newProjections(b, prefix+"self_attn.", d)
	norm(0)
	l.cross = newProjections(b, prefix+"multihead_attn.", d)
	norm(1)
	l.upW, l.upB = b.Linear(prefix+"linear1", f, d)
	l.downW, l.downB = b.Linear(prefix+"linear2", d, f)
	norm(2)
	return l
}

// remember records the keys and values of a memory [B, T, D] → [B, T, 2D].
func (l *decoderBlock) remember(p *Pass, memory *tensor.Var) *tensor.Var {
	d := memory.Cols()
	return p.Tape.LinearRows(memory, l.cross.inW, l.cross.inB, d, 3*d)
}

// forward records the block: x [B, L, D] and a memory's keys and values → [B, L, D].
func (l *decoderBlock) forward(p *Pass, x, memory *tensor.Var, visible *tensor.Bytes) *tensor.Var {
	t, rate := p.Tape, p.Rate(l.dropout)
	add := func(i int, x, y *tensor.Var) *tensor.Var {
		return t.AddNorm(x, y, l.norms[i][0], l.norms[i][1], rate)
	}
	a := t.Attention(t.Linear(x, l.self.inW, l.self.inB, tensor.None), l.heads, tensor.Mask{}, rate)
	x = add(0, x, t.Linear(a, l.self.outW, l.self.outB, tensor.None))
	a = t.CrossAttention(t.LinearRows(x, l.cross.inW, l.cross.inB, 0, x.Cols()), memory, l.heads, visible, rate)
	x = add(1, x, t.Linear(a, l.cross.outW, l.cross.outB, tensor.None))
	up := t.LinearDrop(x, l.upW, l.upB, rate)
	return add(2, x, t.Linear(up, l.downW, l.downB, tensor.None))
}

// decoder is a stack of blocks over the tokens of a chunk.
type decoder struct {
	Decoding
	queries *tensor.Param // queries.weight [L, D]
	blocks  []*decoderBlock
}

func newDecoder(b *Builder, prefix string, c Config, layers int) *decoder {
	m := &decoder{Decoding: c.Decoding()}
	m.queries = b.Normal(prefix+"queries.weight", m.Steps, m.Width)
	for i := range layers {
		m.blocks = append(m.blocks, newDecoderBlock(b, prefix+"decoder.layers."+strconv.Itoa(i)+".", c))
	}
	return m
}

// over is the decoder at work on what was observed.
func (m *decoder) over(memory *tensor.Var, visible *tensor.Bytes) *Decoder {
	return &Decoder{Decoding: m.Decoding, of: m, memory: memory, visible: visible, keys: make([]*tensor.Var, len(m.blocks))}
}

// Decoder is what a network makes of a batch for a head that says itself what is
// to become of it: a token for each step of a chunk, which looks at the others
// and at all that is observed.
type Decoder struct {
	Decoding
	of      *decoder
	memory  *tensor.Var   // [B, T, D]
	visible *tensor.Bytes // [B, T]; nil: all
	keys    []*tensor.Var // of each block, once they are recorded: keys and values of the memory
}

// Batch is the samples of the batch.
func (d *Decoder) Batch() int { return d.memory.Shape[0] }

// Decode records the decoder: its learned queries, to which begin [B, L, D] is
// added, through the blocks → [B, L, D]. nil adds nothing. It may be called more
// than once in a pass, and looks at the same memory each time.
func (d *Decoder) Decode(p *Pass, begin *tensor.Var) *tensor.Var {
	x := begin
	if x == nil {
		x = p.Tape.Repeat(d.of.queries, d.Batch())
	} else {
		x = p.Tape.AddPositions(x, d.of.queries)
	}
	for i, l := range d.of.blocks {
		p.Block(func() {
			if d.keys[i] == nil {
				d.keys[i] = l.remember(p, d.memory)
			}
			x = l.forward(p, x, d.keys[i], d.visible)
		})
	}
	return x
}

// cost counts one Decode at a memory of so many tokens.
func (m *decoder) cost(n *Tally, memory, f int64) {
	l, d := int64(m.Steps), int64(m.Width)
	for range m.blocks {
		n.Linear(l, d, 3*d)
		n.Products += 2 * l * l * d // scores and weighted values
		n.Linear(l, d, d)
		n.Linear(l, d, d)
		n.Linear(memory, d, 2*d)
		n.Products += 2 * l * memory * d
		n.Linear(l, d, d)
		n.Linear(l, d, f)
		n.Linear(l, f, d)
		n.Floats += l*(3*d+d+d+3*d+d+d+d+3*d+2*f+d+3*d) + 2*memory*d
	}
}
