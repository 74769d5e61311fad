package models

import (
	"slices"
	"strconv"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// Exit is an output that stands behind a layer before the last one.
type Exit struct {
	Layer  int         // blocks of the stack below it, from 1
	Out    *tensor.Var // as the model's output
	Weight float64     // of its loss in the one that is learned from
	mark   tensor.Mark // where a Forward that ends here ends
}

// exits are the heads behind the layers that Config.Exits names, by layer.
type exits[H any] map[int]exit[H]

type exit[H any] struct {
	head   H
	weight float64
}

// exitPrefix begins the names of the head behind a layer.
func exitPrefix(prefix string, layer int) string {
	return prefix + "exits." + strconv.Itoa(layer) + "."
}

// newStack adds n blocks and, behind those that c.Exits names, a head by head:
// in the order in which forward uses them.
func newStack[H any](b *Builder, prefix string, c Config, n int, head func(prefix string) H) (blocks []*TransformerBlock, heads exits[H]) {
	heads = exits[H]{}
	for i := range n {
		blocks = append(blocks, NewTransformerBlock(b, prefix+"transformer_blocks."+strconv.Itoa(i)+".", c))
		if k := slices.Index(c.Exits, i+1); k >= 0 {
			w := 1.0
			if c.ExitWeights != nil {
				w = c.ExitWeights[k]
			}
			heads[i+1] = exit[H]{head(exitPrefix(prefix, i+1)), w}
		}
	}
	return blocks, heads
}

// forwardStack records the blocks, and the exits where the pass wants them.
func forwardStack[H any](p *Pass, blocks []*TransformerBlock, heads exits[H], x *tensor.Var, mask tensor.Mask, out func(h H, x *tensor.Var) *tensor.Var) *tensor.Var {
	for i, l := range blocks {
		p.Block(func() { x = l.Forward(p, x, mask) })
		if h, ok := heads[i+1]; ok && p.Exits {
			p.Exit(i+1, out(h.head, x), h.weight)
		}
	}
	return x
}

// Exit marks out, recorded last and only where p.Exits, as an output of the model
// behind so many layers: of the model's own shape, with a loss of that weight.
func (p *Pass) Exit(layers int, out *tensor.Var, weight float64) {
	p.exits = append(p.exits, Exit{Layer: layers, Out: out, Weight: weight, mark: p.Tape.Mark()})
}

// linearHead is a linear layer at the end of something.
type linearHead struct{ w, b *tensor.Param }

func newLinearHead(b *Builder, prefix string, out, in int) (h linearHead) {
	h.w, h.b = b.Linear(prefix, out, in)
	return h
}

func (h linearHead) Forward(p *Pass, x *tensor.Var) *tensor.Var {
	return p.Tape.Linear(x, h.w, h.b, tensor.None)
}

// actionHead is the reference's: Linear(D, 256), ReLU, Linear(256, L·A) of the
// mean of the visible tokens.
type actionHead struct {
	hidden, action linearHead
	chunk          int // L
}

func newActionHead(b *Builder, prefix string, c Config) actionHead {
	l := c.Sees.chunk()
	return actionHead{newLinearHead(b, prefix+"action_head.0", actionHidden, c.DModel), newLinearHead(b, prefix+"action_head.2", l*c.ActionDim, actionHidden), l}
}

// Forward records the head: x [B, T, D] → the mean [B, D] and actions [B, A], or
// [B, L, A] of a chunk.
func (h actionHead) Forward(p *Pass, x *tensor.Var, keys *tensor.Bytes) (mean, actions *tensor.Var) {
	mean = p.Tape.MeanPool(x, keys)
	actions = h.action.Forward(p, p.Tape.Linear(mean, h.hidden.w, h.hidden.b, tensor.ReLU))
	if h.chunk > 1 {
		actions = p.Tape.Reshape(actions, actions.Shape[0], h.chunk, actions.Cols()/h.chunk)
	}
	return mean, actions
}

// Exits returns the outputs before the last, in the order of their layers. The
// program must have been made with Exits.
func (p *Program) Exits() []Exit { return p.pass.exits }

// Layers is the length of the stack that exits stand in.
func (p *Program) Layers() int { return p.layers }

// ForwardStage computes what lies between exit k-1 and exit k of the loaded
// batch: k from 0; the last, len(Exits()), ends at the model's output. Stages
// are run in order; the loss is not computed.
func (p *Program) ForwardStage(k int) {
	at := func(k int) tensor.Mark {
		switch {
		case k < 0:
			return 0
		case k < len(p.pass.exits):
			return p.pass.exits[k].mark
		}
		return p.end
	}
	if k == 0 {
		p.fill()
	}
	p.tape.ForwardFrom(at(k-1), at(k))
}
