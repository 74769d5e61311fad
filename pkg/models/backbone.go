package models

import (
	"math"
	"slices"
	"strconv"

	"github.com/vlaring/vlaring/internal/portable"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Backbone is an encoder as others have pretrained it, by the options of its
// blocks. Package pretrained makes one of a file.
type Backbone struct {
	Family string `json:"family" yaml:"family"`                 // whose names and rules it has, such as bert
	Arch   string `json:"arch,omitempty" yaml:"arch,omitempty"` // what its makers call it, where they do

	Width      int     `json:"width" yaml:"width"`                     // D
	Layers     int     `json:"layers" yaml:"layers"`                   // blocks
	Heads      int     `json:"heads" yaml:"heads"`                     // H, of queries
	Groups     int     `json:"groups" yaml:"groups"`                   // heads of keys and values; divides H
	Head       int     `json:"head" yaml:"head"`                       // width of a head
	Hidden     int     `json:"hidden" yaml:"hidden"`                   // F
	Norm       string  `json:"norm" yaml:"norm"`                       // layer | rms
	Post       bool    `json:"post,omitempty" yaml:"post,omitempty"`   // a block's norms stand behind its sums; else before its halves
	Eps        float64 `json:"eps" yaml:"eps"`                         // of the norms
	Activation string  `json:"activation" yaml:"activation"`           // relu | gelu | gelu_tanh | quick_gelu | silu
	Gated      bool    `json:"gated,omitempty" yaml:"gated,omitempty"` // the feed-forward is down(act(gate x)⊙up x)
	Bias       bool    `json:"bias,omitempty" yaml:"bias,omitempty"`   // of the blocks' linear layers
	LayerScale bool    `json:"layer_scale,omitempty" yaml:"layer_scale,omitempty"`
	Causal     bool    `json:"causal,omitempty" yaml:"causal,omitempty"`     // a token sees itself and those before it
	Rotary     float64 `json:"rotary,omitempty" yaml:"rotary,omitempty"`     // θ of rotary positions; 0: none
	Buckets    int     `json:"buckets,omitempty" yaml:"buckets,omitempty"`   // of T5's relative positions, whose scores are not scaled; 0: none
	Distance   int     `json:"distance,omitempty" yaml:"distance,omitempty"` // the farthest that they tell apart
	NormIn     bool    `json:"norm_in,omitempty" yaml:"norm_in,omitempty"`   // a norm before the first block
	NormOut    bool    `json:"norm_out,omitempty" yaml:"norm_out,omitempty"` // and one behind the last

	// Of pictures.
	Patch     int        `json:"patch,omitempty" yaml:"patch,omitempty"`           // P; 0: it reads words
	Channels  int        `json:"channels,omitempty" yaml:"channels,omitempty"`     // C
	Grid      int        `json:"grid,omitempty" yaml:"grid,omitempty"`             // patches a side that its positions are for
	PatchBias bool       `json:"patch_bias,omitempty" yaml:"patch_bias,omitempty"` // of the patch embedding
	Class     bool       `json:"class,omitempty" yaml:"class,omitempty"`           // a class token
	ClassPos  bool       `json:"class_pos,omitempty" yaml:"class_pos,omitempty"`   // which has a position
	Registers int        `json:"registers,omitempty" yaml:"registers,omitempty"`   // tokens behind it
	Mean      [3]float64 `json:"mean,omitzero" yaml:"mean,omitempty"`              // of the pictures that it wants,
	Std       [3]float64 `json:"std,omitzero" yaml:"std,omitempty"`                // (x/255 - mean)/std

	// Of words.
	Vocab     int `json:"vocab,omitempty" yaml:"vocab,omitempty"`         // V
	Positions int `json:"positions,omitempty" yaml:"positions,omitempty"` // learned ones; 0: none
	Types     int `json:"types,omitempty" yaml:"types,omitempty"`         // of tokens, the first of which all are; 0: none
}

// The norms and activations of a Backbone.
const (
	NormLayer = "layer"
	NormRMS   = "rms"
)

var activations = map[string]tensor.Activation{"relu": tensor.ReLU, "gelu": tensor.ErfGELU, "gelu_tanh": tensor.GELU, "quick_gelu": tensor.QuickGELU, "silu": tensor.SiLU}

// fault says what is impossible about b; empty: nothing. It is of pictures, or of
// words.
func (b *Backbone) fault(pictures bool) string {
	sizes := []int{b.Width, b.Layers, b.Heads, b.Groups, b.Head, b.Hidden}
	if pictures {
		sizes = append(sizes, b.Patch, b.Channels, b.Grid)
	} else {
		sizes = append(sizes, b.Vocab)
	}
	_, known := activations[b.Activation]
	switch {
	case pictures != (b.Patch > 0):
		return sprintf("%s reads %s", b.Family, map[bool]string{true: "pictures, not words", false: "words, not pictures"}[b.Patch > 0])
	case slices.Min(sizes) < 1 || slices.Max(sizes) > maxVocab:
		return sprintf("its sizes %v are impossible", sizes)
	case b.Heads%b.Groups != 0:
		return sprintf("%d heads of keys do not divide %d of queries", b.Groups, b.Heads)
	case !known:
		return sprintf("activation %q is unknown", b.Activation)
	case b.Norm != NormLayer && b.Norm != NormRMS, b.Norm == NormRMS && b.Post:
		return sprintf("norm %q, post %v is unknown", b.Norm, b.Post)
	case b.Gated && b.Activation == "relu":
		return "a gate of relu is unknown"
	case b.Rotary != 0 && (b.Head%2 != 0 || b.Rotary < 1), b.Buckets != 0 && (b.Buckets < 4 || b.Distance <= b.Buckets/4), b.Registers < 0, b.Positions < 0, b.Types < 0, !(b.Eps > 0):
		return "its positions, tokens or epsilon are impossible"
	}
	return ""
}

// BackboneEncoder is the layers of a Backbone.
type BackboneEncoder struct {
	Backbone
	patchW, patchB *tensor.Param // patch_embedding.weight [D, C, P, P], bias [D]
	cls            *tensor.Param // cls_token [1, D]
	registers      *tensor.Param // register_tokens [R, D]
	pos            *tensor.Param // pos_embedding [1, (1+)N, D] of pictures
	words          *tensor.Param // embedding.weight [V, D]
	places         *tensor.Param // position_embedding.weight [L, D]
	types          *tensor.Param // type_embedding.weight [n, D]
	relative       *tensor.Param // relative_bias.weight [buckets, H]
	in, out        backboneNorm
	blocks         []backboneBlock
}

type backboneNorm struct {
	gamma, beta *tensor.Param // [D]; beta nil: RMS; both nil: none
	eps         float32
}

type backboneBlock struct {
	name           string
	inW, inB       *tensor.Param // attention.in_proj_weight [(H+2G)·d, D] (q, k, v), in_proj_bias
	outW, outB     *tensor.Param // attention.out_proj [D, H·d], [D]
	scale1, scale2 *tensor.Param // layer_scale1.gamma, layer_scale2.gamma [D]; nil: 1
	norm1, norm2   backboneNorm
	upW, upB       *tensor.Param // feed_forward.up [F, D], [F]; gated: [2F, D], the gate first
	downW, downB   *tensor.Param // feed_forward.down [D, F], [D]
}

var _ VisionEncoder = (*BackboneEncoder)(nil)

// NewBackbone adds the parameters of an encoder. side is that of its pictures, which
// the patch divides; words have none.
func NewBackbone(b *Builder, prefix string, c Backbone, side int) *BackboneEncoder {
	e := &BackboneEncoder{Backbone: c}
	d := c.Width
	linear := func(name string, bias bool, shape ...int) (w, bb *tensor.Param) {
		if bias {
			return b.Linear(prefix+name, shape...)
		}
		fan := 1
		for _, n := range shape[1:] {
			fan *= n
		}
		return b.Uniform(prefix+name+".weight", 1/math.Sqrt(float64(fan)), shape...), nil
	}
	norm := func(name string) (n backboneNorm) {
		n.eps = float32(c.Eps)
		if c.Norm == NormRMS {
			n.gamma = b.Constant(prefix+name+".weight", 1, d)
		} else {
			n.gamma, n.beta = b.Norm(prefix+name, d)
		}
		return n
	}
	if c.Patch > 0 {
		n := side / c.Patch * (side / c.Patch)
		e.patchW, e.patchB = linear("patch_embedding", c.PatchBias, d, c.Channels, c.Patch, c.Patch)
		if c.Class {
			e.cls = b.Normal(prefix+"cls_token", 1, d)
		}
		if c.Registers > 0 {
			e.registers = b.Normal(prefix+"register_tokens", c.Registers, d)
		}
		if c.ClassPos {
			n++
		}
		e.pos = b.Normal(prefix+"pos_embedding", 1, n, d)
	} else {
		e.words = b.Normal(prefix+"embedding.weight", c.Vocab, d)
		if c.Positions > 0 {
			e.places = b.Normal(prefix+"position_embedding.weight", c.Positions, d)
		}
		if c.Types > 0 {
			e.types = b.Normal(prefix+"type_embedding.weight", c.Types, d)
		}
		if c.Buckets > 0 {
			e.relative = b.Normal(prefix+"relative_bias.weight", c.Buckets, c.Heads)
		}
		b.Table(rotaryTable(c))
	}
	if c.NormIn {
		e.in = norm("norm_in")
	}
	up := c.Hidden
	if c.Gated {
		up *= 2
	}
	for i := range c.Layers {
		at := "blocks." + strconv.Itoa(i) + "."
		l := backboneBlock{name: prefix + "blocks." + strconv.Itoa(i)}
		inProjection := func() {
			w := (c.Heads + 2*c.Groups) * c.Head
			l.inW = b.Uniform(prefix+at+"attention.in_proj_weight", math.Sqrt(6/float64(d+w)), w, d)
			if c.Bias {
				l.inB = b.Constant(prefix+at+"attention.in_proj_bias", 0, w)
			}
			l.outW, l.outB = linear(at+"attention.out_proj", c.Bias, d, c.Heads*c.Head)
			if c.LayerScale {
				l.scale1 = b.Constant(prefix+at+"layer_scale1.gamma", 1, d)
			}
		}
		feedForward := func() {
			l.upW, l.upB = linear(at+"feed_forward.up", c.Bias, up, d)
			l.downW, l.downB = linear(at+"feed_forward.down", c.Bias, d, c.Hidden)
			if c.LayerScale {
				l.scale2 = b.Constant(prefix+at+"layer_scale2.gamma", 1, d)
			}
		}
		if c.Post {
			inProjection()
			l.norm1 = norm(at + "norm1")
			feedForward()
			l.norm2 = norm(at + "norm2")
		} else {
			l.norm1 = norm(at + "norm1")
			inProjection()
			l.norm2 = norm(at + "norm2")
			feedForward()
		}
		e.blocks = append(e.blocks, l)
	}
	if c.NormOut {
		e.out = norm("norm_out")
	}
	return e
}

func (n backboneNorm) forward(t *tensor.Tape, x *tensor.Var) *tensor.Var {
	switch {
	case n.gamma == nil:
		return x
	case n.beta == nil:
		return t.RMSNorm(x, n.gamma, n.eps)
	}
	return t.AddNormEps(x, nil, n.gamma, n.beta, n.eps, 0)
}

// lead is how many tokens stand before the patches.
func (e *BackboneEncoder) lead() int {
	n := e.Registers
	if e.Class {
		n++
	}
	return n
}

// Look records pictures [B, C, S, S] → [B, 1+R+N, D]: the class token and the
// registers, where there are any, and the patches row by row.
func (e *BackboneEncoder) Look(p *Pass, images *tensor.Var) *tensor.Var {
	return run(p, e.lookSteps(images), nil)
}

// lookSteps are those of Look.
func (e *BackboneEncoder) lookSteps(images *tensor.Var) []step {
	return e.stack(func(p *Pass) *tensor.Var { return e.embed(p, images) }, tensor.Mask{})
}

// embed records what the blocks see of pictures.
func (e *BackboneEncoder) embed(p *Pass, images *tensor.Var) *tensor.Var {
	t := p.Tape
	x := t.PatchEmbed(images, e.patchW, e.patchB) // [B, N, D]
	b := x.Shape[0]
	first := func(w *tensor.Param) *tensor.Var { return t.Repeat(w, b) }
	switch {
	case e.Class && e.ClassPos:
		x = t.PrependToken(x, e.cls, e.pos)
		if e.Registers > 0 {
			patches := t.Tokens(x, 1, x.Shape[1])
			x = t.ConcatTokens(t.ConcatTokens(t.Tokens(x, 0, 1), first(e.registers)), patches)
		}
	default:
		x = t.AddPositions(x, e.pos)
		if e.Registers > 0 {
			x = t.ConcatTokens(first(e.registers), x)
		}
		if e.Class {
			x = t.ConcatTokens(first(e.cls), x)
		}
	}
	return x
}

// Read records tokens [B, T] → [B, T, D]; mask says which are no padding.
func (e *BackboneEncoder) Read(p *Pass, tokens *tensor.Ints, mask tensor.Mask) *tensor.Var {
	return run(p, e.readSteps(tokens, mask), nil)
}

// readSteps are those of Read.
func (e *BackboneEncoder) readSteps(tokens *tensor.Ints, mask tensor.Mask) []step {
	return e.stack(func(p *Pass) *tensor.Var {
		t := p.Tape
		x := t.Embedding(tokens, e.words, 1, nil)
		if e.types != nil {
			x = t.AddRow(x, e.types, 0)
		}
		if e.places != nil {
			x = t.AddPositions(x, e.places)
		}
		return x
	}, mask)
}

// stack are the steps of an encoder: what embeds its input, and the norm before the
// blocks; each block; the norm behind them.
func (e *BackboneEncoder) stack(embed func(p *Pass) *tensor.Var, mask tensor.Mask) []step {
	mask.Causal = e.Causal
	var angles []float32 // of as many tokens as there are, for all blocks
	var buckets []int
	tables := func(n int) {
		if e.Rotary > 0 && angles == nil {
			angles = rotaryAngles(n, e.Head, e.Rotary)
		}
		if e.Buckets > 0 && buckets == nil {
			buckets = relativeBuckets(n, e.Buckets, e.Distance)
		}
	}
	all := []step{func(p *Pass, _ *tensor.Var) *tensor.Var { return e.in.forward(p.Tape, embed(p)) }}
	all = append(all, blocksOf(e.blocks, func(p *Pass, l backboneBlock, x *tensor.Var) *tensor.Var {
		tables(x.Shape[1])
		return e.block(p, &l, x, mask, angles, buckets)
	})...)
	if e.NormOut {
		all = append(all, func(p *Pass, x *tensor.Var) *tensor.Var { return e.out.forward(p.Tape, x) })
	}
	return all
}

func (e *BackboneEncoder) block(p *Pass, l *backboneBlock, x *tensor.Var, mask tensor.Mask, angles []float32, buckets []int) *tensor.Var {
	t := p.Tape
	attend := func(h *tensor.Var) *tensor.Var {
		qkv := t.Linear(h, l.inW, l.inB, tensor.None)
		if e.Groups != e.Heads || angles != nil {
			qkv = t.Spread(qkv, e.Heads, e.Groups, angles)
		}
		var a *tensor.Var
		if buckets != nil {
			a = t.RelativeAttention(qkv, e.Heads, mask, e.relative, buckets)
		} else {
			a = t.Attention(qkv, e.Heads, mask, 0)
		}
		p.Keep(l.name, e.Heads, a)
		return t.Linear(a, l.outW, l.outB, tensor.None)
	}
	feed := func(h *tensor.Var) *tensor.Var {
		act := activations[e.Activation]
		if e.Gated {
			return t.Linear(t.Gated(t.Linear(h, l.upW, l.upB, tensor.None), act), l.downW, l.downB, tensor.None)
		}
		return t.Linear(t.Linear(h, l.upW, l.upB, act), l.downW, l.downB, tensor.None)
	}
	if e.Post {
		sum := func(x, y *tensor.Var, scale *tensor.Param, n backboneNorm) *tensor.Var {
			if scale != nil {
				return n.forward(t, t.Residual(x, y, scale))
			}
			return t.AddNormEps(x, y, n.gamma, n.beta, n.eps, 0)
		}
		x = sum(x, attend(x), l.scale1, l.norm1)
		return sum(x, feed(x), l.scale2, l.norm2)
	}
	x = t.Residual(x, attend(l.norm1.forward(t, x)), l.scale1)
	return t.Residual(x, feed(l.norm2.forward(t, x)), l.scale2)
}

// Sequence is VisionEncoder's: the class token, or the mean of the patches where
// there is none, and then the patches. Registers are left out: they hold what has no
// place.
func (e *BackboneEncoder) Sequence(p *Pass, images *tensor.Var) *tensor.Var {
	return run(p, e.steps(images, true), nil)
}

// Forward is VisionEncoder's.
func (e *BackboneEncoder) Forward(p *Pass, images *tensor.Var) *tensor.Var {
	return run(p, e.steps(images, false), nil)
}

// steps is VisionEncoder's: those of Look, and what is handed out of it.
func (e *BackboneEncoder) steps(images *tensor.Var, tokens bool) []step {
	out := e.vector
	if tokens {
		out = e.sequence
	}
	return append(e.lookSteps(images), out)
}

// sequence is what Sequence hands out of Look's tokens.
func (e *BackboneEncoder) sequence(p *Pass, x *tensor.Var) *tensor.Var {
	t := p.Tape
	if e.lead() == 1 && e.Class {
		return x
	}
	patches := x
	if n := e.lead(); n > 0 {
		patches = t.Tokens(x, n, x.Shape[1])
	}
	var vector *tensor.Var
	if e.Class {
		vector = t.Tokens(x, 0, 1)
	} else {
		vector = t.Reshape(t.MeanPool(patches, nil), x.Shape[0], 1, x.Shape[2])
	}
	return t.ConcatTokens(vector, patches)
}

// vector is what Forward hands out of Look's tokens.
func (e *BackboneEncoder) vector(p *Pass, x *tensor.Var) *tensor.Var {
	if e.Class {
		return p.Tape.SelectToken(x, 0)
	}
	if n := e.lead(); n > 0 {
		x = p.Tape.Tokens(x, n, x.Shape[1])
	}
	return p.Tape.MeanPool(x, nil)
}

// count counts the encoder over t tokens of words, or a picture of that side.
func (b *Backbone) count(n *Tally, side, words int) (tokens int64) {
	d, h := int64(b.Width), int64(b.Heads*b.Head)
	tokens = int64(words)
	if b.Patch > 0 {
		p := int64(side / b.Patch)
		k := int64(b.Channels * b.Patch * b.Patch)
		n.Linear(p*p, k, d)
		n.First += p * p * k * d
		n.Floats += p*p*k + 2*p*p*d
		tokens = p*p + int64(b.Registers)
		if b.Class {
			tokens++
		}
	} else {
		n.Floats += 3 * tokens * d
	}
	up := int64(b.Hidden)
	if b.Gated {
		up *= 2
	}
	for range b.Layers {
		w := int64((b.Heads + 2*b.Groups) * b.Head)
		n.Linear(tokens, d, w)
		n.Products += 2 * tokens * tokens * h
		n.Linear(tokens, h, d)
		n.Linear(tokens, d, up)
		n.Linear(tokens, int64(b.Hidden), d)
		n.Floats += tokens * (w + 2*h + 6*d + up + int64(b.Hidden))
	}
	return tokens
}

// rotaryTable is the floats of the tables that a Backbone's passes make.
func rotaryTable(b Backbone) int {
	if b.Rotary > 0 {
		return 1 << 12 * b.Head
	}
	return 0
}

// rotaryAngles returns d/2 cosines and d/2 sines for each of n positions, of angles
// t·θ^(-2i/d): frequency and angle in float32, as transformers has them.
func rotaryAngles(n, d int, theta float64) []float32 {
	a := make([]float32, n*d)
	for i := range d / 2 {
		f := float32(1 / float64(float32(portable.Pow(theta, float64(float32(2*i)/float32(d))))))
		for t := range n {
			s, c := portable.SinCos(float64(float32(float32(t) * f)))
			a[t*d+i], a[t*d+d/2+i] = float32(c), float32(s)
		}
	}
	return a
}

// relativeBuckets returns T5's bucket of each distance k-q from -(n-1) on: half of
// the buckets for keys before the query and half for those behind it, of each half
// the first half exact, and the others by the logarithm up to the farthest.
func relativeBuckets(n, buckets, farthest int) []int {
	out := make([]int, 2*n-1)
	half := buckets / 2
	exact := half / 2
	for i := range out {
		d, at := i-(n-1), 0
		if d > 0 {
			at = half
		}
		if d = max(d, -d); d >= exact {
			x := float32(portable.Log(float64(float32(d)/float32(exact)))) / float32(portable.Log(float64(farthest)/float64(exact)))
			d = min(exact+int(float32(x*float32(half-exact))), half-1)
		}
		out[i] = at + d
	}
	return out
}
