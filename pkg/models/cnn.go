package models

import (
	"math/bits"
	"strconv"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// ConvEncoder turns an image into features by convolutions: the cnn of
// model.vision, in the place of a VisionTransformer.
//
//	images [B, C, S, S]
//	   │ log2(P) × halving: 3×3 convolution, ReLU, and stride 2 or a 2×2 maximum
//	[B, S/P, S/P, D]
//	   │ n × residual: LN(x + conv₂(relu(conv₁(x)))), 3×3
//	[B, S/P, S/P, D] ──────────────┬─────────────────────────────┐
//	   │ mean over places [B, D]   │ where each channel is active │
//	   │                           │ (spatial softmax) [B, 2, D]  │
//	   └──────── Linear(3D, D) ────┘                              │
//	          [B, D]  ─────────────────────────── token 0 ── ++ ──┘ tokens 1…N, + pos_embedding
//
// Up to the split, a picture moved by P pixels gives the same map moved by one
// place (but at the edges): locality and weight sharing are all that the
// network knows of pictures. The spatial softmax then says where things are.
type ConvEncoder struct {
	dropout  float32
	halvings []convLayer
	blocks   []convBlock
	pointW   *tensor.Param // readout.weight [D, 3D], bias [D]
	pointB   *tensor.Param
	pos      *tensor.Param // pos_embedding [1, 1+N, D]; nil without patch tokens
	d        int
}

type convLayer struct{ w, b *tensor.Param } // [O, C, 3, 3], [O]

type convBlock struct {
	up, down    convLayer     // conv1, conv2 [D, D, 3, 3]
	gamma, beta *tensor.Param // norm [D]
}

// leastChannels is the width of the narrowest halving.
const leastChannels = 8

// NewConvEncoder adds an encoder of c.NLayers residual blocks behind the
// halvings that bring c.ImageSize down by c.PatchSize, a power of two. tokens
// asks for Sequence's positions.
func NewConvEncoder(b *Builder, prefix string, c Config, tokens bool) *ConvEncoder {
	d := c.DModel
	e := &ConvEncoder{dropout: c.Dropout, d: d}
	conv := func(name string, out, in int) (l convLayer) {
		l.w, l.b = b.Linear(prefix+name, out, in, 3, 3)
		return l
	}
	in := c.Channels
	n := bits.Len(uint(c.PatchSize)) - 1
	for i := range n {
		out := max(leastChannels, d>>(n-1-i))
		e.halvings = append(e.halvings, conv("halvings."+strconv.Itoa(i), out, in))
		in = out
	}
	for i := range c.NLayers {
		at := "blocks." + strconv.Itoa(i) + "."
		l := convBlock{up: conv(at+"conv1", d, in), down: conv(at+"conv2", d, d)}
		l.gamma, l.beta = b.Norm(prefix+at+"norm", d)
		e.blocks = append(e.blocks, l)
	}
	e.pointW, e.pointB = b.Linear(prefix+"readout", d, 3*d)
	if tokens {
		side := c.ImageSize / c.PatchSize
		e.pos = b.Normal(prefix+"pos_embedding", 1, 1+side*side, d)
	}
	return e
}

// Map records the convolutions: images [B, C, S, S] → [B, S/P, S/P, D].
func (e *ConvEncoder) Map(p *Pass, images *tensor.Var) *tensor.Var {
	t, x := p.Tape, images
	for i, l := range e.halvings {
		o := tensor.Conv{Stride: 2, Pad: 1, Act: tensor.ReLU, ChannelsFirst: i == 0}
		if i > 0 { // the first halving strides: a full-sized map would cost as much as all the rest
			o.Stride = 1
		}
		if x = t.Conv2D(x, l.w, l.b, o); i > 0 {
			x = t.MaxPool2D(x, 2, 2)
		}
	}
	same := tensor.Conv{Stride: 1, Pad: 1}
	for _, l := range e.blocks {
		up := same
		up.Act = tensor.ReLU
		h := t.Conv2D(x, l.up.w, l.up.b, up)
		x = t.AddNorm(x, t.Conv2D(h, l.down.w, l.down.b, same), l.gamma, l.beta, p.Rate(e.dropout))
	}
	return x
}

// readout records the vector of a map [B, h, w, D] → [B, D].
func (e *ConvEncoder) readout(p *Pass, x *tensor.Var) *tensor.Var {
	t, b := p.Tape, x.Shape[0]
	mean := t.MeanPool(t.Reshape(x, b, x.Shape[1]*x.Shape[2], e.d), nil)
	all := t.ConcatTokens(t.Reshape(mean, b, 1, e.d), t.SpatialSoftmax(x)) // [B, 3, D]
	return t.Linear(t.Reshape(all, b, 3*e.d), e.pointW, e.pointB, tensor.None)
}

// Forward records the encoder: images [B, C, S, S] → [B, D].
func (e *ConvEncoder) Forward(p *Pass, images *tensor.Var) *tensor.Var {
	return e.readout(p, e.Map(p, images))
}

// Sequence records the encoder: images [B, C, S, S] → [B, 1+N, D], the vector
// and then the places of the map row by row.
func (e *ConvEncoder) Sequence(p *Pass, images *tensor.Var) *tensor.Var {
	x := e.Map(p, images)
	b := x.Shape[0]
	v := p.Tape.Reshape(e.readout(p, x), b, 1, e.d)
	return p.Tape.AddPositions(p.Tape.ConcatTokens(v, p.Tape.Reshape(x, b, x.Shape[1]*x.Shape[2], e.d)), e.pos)
}

// steps is VisionEncoder's: one.
func (e *ConvEncoder) steps(images *tensor.Var, tokens bool) []step {
	return []step{func(p *Pass, _ *tensor.Var) *tensor.Var {
		if tokens {
			return e.Sequence(p, images)
		}
		return e.Forward(p, images)
	}}
}
