package models

import (
	"encoding/json"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// chain is an encoder as steps, one behind the other: its embedding, its blocks, and
// what is behind them. What is frozen from the input on are the first of them, and
// these may be computed apart from the rest: see parts.
type chain struct {
	name     string // vision_encoder or language_encoder
	pictures bool   // it looks at pictures; else it reads words
	is       string // what it is beside its parameters
	steps    func(in reading) []step
	count    func(n *Tally, steps int) // counts its first steps over one input
}

// step makes something of what the step before has made; the first is given nil, and
// reads the chain's input.
type step func(p *Pass, x *tensor.Var) *tensor.Var

// reading is what an encoder is given: a picture of each sample, or words.
type reading struct {
	images *tensor.Var   // [B, C, S, S]
	tokens *tensor.Ints  // [B, T]
	seen   *tensor.Bytes // [B, T], of tokens: those that are no padding; nil: all
}

// samples is how many there are.
func (r reading) samples() int {
	if r.images != nil {
		return r.images.Shape[0]
	}
	return r.tokens.Shape[0]
}

// run records steps behind x.
func run(p *Pass, steps []step, x *tensor.Var) *tensor.Var {
	for _, s := range steps {
		x = s(p, x)
	}
	return x
}

// blocksOf are steps that are one block each.
func blocksOf[B any](blocks []B, forward func(p *Pass, b B, x *tensor.Var) *tensor.Var) (steps []step) {
	for _, b := range blocks {
		steps = append(steps, func(p *Pass, x *tensor.Var) *tensor.Var {
			p.Block(func() { x = forward(p, b, x) })
			return x
		})
	}
	return steps
}

// asIs makes the text by which chains of equal parameters are told apart.
func asIs(kind string, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of sizes and words
	}
	return kind + " " + string(b)
}

// make is the part of c that says what a tower of this package computes with its
// parameters.
func (c Config) make() any {
	return []any{c.DModel, c.NHeads, c.DFF, c.ImageSize, c.PatchSize, c.Channels, c.Attention, c.Dropout}
}

// looking is the chain of what looks at pictures. tokens asks for the whole sequence
// [B, 1+N, D] instead of a vector [B, D]; part is how many blocks the tower has.
func (c Config) looking(v VisionEncoder, tokens bool, part int) chain {
	l := chain{name: "vision_encoder", pictures: true, steps: func(in reading) []step { return v.steps(in.images, tokens) }}
	if b := c.Vision.Backbone; b != nil {
		l.is = asIs("backbone", []any{*b, c.ImageSize, tokens})
		l.count = func(n *Tally, steps int) { b.upTo(steps).count(n, c.ImageSize, 0) }
		return l
	}
	l.is = asIs(c.Vision.Kind, []any{c.make(), tokens})
	l.count = func(n *Tally, steps int) { c.vision(n, min(part, steps-1)) }
	if c.Vision.Kind == VisionCNN { // one step
		l.count = func(n *Tally, _ int) { c.vision(n, part) }
	}
	return l
}

// reads is the chain of what reads t words.
func (c Config) reads(e languageEncoder, part int, t int64) chain {
	l := chain{name: "language_encoder", steps: func(in reading) []step { return e.steps(in.tokens, tensor.Mask{Keys: in.seen}) }}
	if b := c.Language.Backbone; b != nil {
		l.is = asIs("backbone", []any{*b})
		if c.Language.Pooled() {
			l.is = asIs("backbone", []any{*b, c.Language.Pool, c.Language.Unit})
		}
		l.count = func(n *Tally, steps int) { b.upTo(steps).count(n, 0, int(t)) }
		return l
	}
	l.is = asIs(languageLearned, []any{c.make()})
	l.count = func(n *Tally, steps int) {
		n.Floats += 2 * t * int64(c.DModel)
		c.stack(n, min(part, steps-1), t, 0)
	}
	return l
}

// upTo is b with the blocks of its first steps alone.
func (b Backbone) upTo(steps int) *Backbone {
	b.Layers = max(0, min(b.Layers, steps-1))
	return &b
}
