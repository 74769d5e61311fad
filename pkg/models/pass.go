package models

import "github.com/vlaring/vlaring/pkg/tensor"

// Pass is one recording of layers on a tape.
type Pass struct {
	Tape          *tensor.Tape
	Train         bool // record dropout; without it the layers have none
	KeepAttention bool // keep every block's attention weights
	Recompute     bool // do not keep the blocks' activations for backward
	Exits         bool // record the outputs before the last, where the model has them

	apart *parts // computed by themselves; nil: nothing is
	fills []func(Draw)
	exits []Exit
	kept  []keptAttention
	of    string // what the layers look at, behind the names of their attention: a view beside the first
}

type keptAttention struct {
	name  string
	heads int
	out   *tensor.Var
}

// LayerAttention is what one block's heads looked at in the last Forward:
// Data[b, h, q, k] is how much query q looks at key k, before dropout. A row
// sums to 1, or is zero where the mask hides every key.
type LayerAttention struct {
	Name    string    // of the block, such as language_encoder.transformer_blocks.0
	B, H, T int       // Data is [B, H, T, T]
	Data    []float32 // the tape's: valid until the next Forward
}

// Rate is a layer's dropout in this pass.
func (p *Pass) Rate(dropout float32) float32 {
	if p.Train {
		return dropout
	}
	return 0
}

// Drop records a dropout of its own, where there is one.
func (p *Pass) Drop(x *tensor.Var, dropout float32) *tensor.Var {
	if r := p.Rate(dropout); r > 0 {
		return p.Tape.Dropout(x, r)
	}
	return x
}

// Block records one block of a stack: what Recompute computes anew.
func (p *Pass) Block(record func()) {
	if p.Recompute {
		p.Tape.Recompute(record)
	} else {
		record()
	}
}

// Keep keeps the weights of an attention of so many heads under the block's
// name, where the pass is to keep them.
func (p *Pass) Keep(name string, heads int, out *tensor.Var) {
	if p.KeepAttention {
		p.Tape.KeepWeights(out)
		p.kept = append(p.kept, keptAttention{name + p.of, heads, out})
	}
}

// Attention returns the attention of every block, in order of recording; nil
// without KeepAttention. The tape must have been sealed and run forward.
func (p *Pass) Attention() []LayerAttention {
	var all []LayerAttention
	for _, k := range p.kept {
		all = append(all, LayerAttention{Name: k.name, B: k.out.Shape[0], H: k.heads, T: k.out.Shape[1], Data: p.Tape.AttentionWeights(k.out)})
	}
	return all
}
