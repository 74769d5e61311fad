package models

import (
	"math"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// encoderKind is the kind of CopyModel; its defaults are the reference's copy task.
func encoderKind() family {
	return family{
		name:    Encoder,
		about:   "tokens to tokens",
		answers: Tokens,
		useful:  "vocab_size d_model n_heads n_layers d_ff max_len exits exit_weights attention lora dropout pad_token",
		options: Config{VocabSize: 100, DModel: 128, NHeads: 4, NLayers: 2, MaxLen: 5000, Dropout: 0.1, PadToken: -1},
		wants:   Config.labelled,
		check: func(c Config, k *job.Checker) {
			c.checkTokens(k)
			c.checkBlocks(k, 1)
		},
		network: func(b *Builder, c Config) (Network, error) { return NewCopyModel(b, "", c) },
	}
}

// labelled are tokens with a label each.
func (c Config) labelled() Spec { return Spec{c.tokens(Instruction), c.tokens(Labels)} }

// tokens is a feature of tokens within the limits of c.
func (c Config) tokens(name string) Feature {
	f := Known(name, 0)
	f.Max, f.Vocab, f.Pad = c.withDefaults().MaxLen, c.VocabSize, c.PadToken
	if b := c.Language.Backbone; b != nil {
		f.From = "model.language.from"
		if f.Vocab = b.Vocab; b.Positions > 0 {
			f.Max = min(f.Max, b.Positions)
		}
	}
	return f
}

// languageEncoder is what reads words: an encoder that learns the data's, or a
// pretrained one.
type languageEncoder interface {
	// Forward records tokens [B, T] → [B, T, D], or [B, 1, D] where it makes a
	// sentence of them; mask says which are no padding.
	Forward(p *Pass, tokens *tensor.Ints, mask tensor.Mask) *tensor.Var
	// steps are those of Forward.
	steps(tokens *tensor.Ints, mask tensor.Mask) []step
}

// languageLearned is the kind of a language tower that is no file's, as good as none.
const languageLearned = "learned"

// newLanguage adds the encoder that c.Language names.
func newLanguage(b *Builder, prefix string, c Config) (languageEncoder, error) {
	if c.Language.Backbone != nil {
		return reader{NewBackbone(b, prefix, *c.Language.Backbone, 0), c.Language}, nil
	}
	return NewTransformerEncoder(b, prefix, c)
}

// reader is a BackboneEncoder of words, and what makes a sentence of them.
type reader struct {
	*BackboneEncoder
	of Tower
}

// Forward is languageEncoder's.
func (r reader) Forward(p *Pass, tokens *tensor.Ints, mask tensor.Mask) *tensor.Var {
	return run(p, r.steps(tokens, mask), nil)
}

func (r reader) steps(tokens *tensor.Ints, mask tensor.Mask) []step {
	all := r.readSteps(tokens, mask)
	if !r.of.Pooled() {
		return all
	}
	return append(all, func(p *Pass, x *tensor.Var) *tensor.Var { return r.of.Sentence(p.Tape, x, mask.Keys) })
}

// Sentence records the one token that a policy sees of words: x [B, T, D], seen
// [B, T] or nil for all → [B, 1, D]. Of words that are not Pooled there is none.
func (t Tower) Sentence(tape *tensor.Tape, x *tensor.Var, seen *tensor.Bytes) *tensor.Var {
	b, d := x.Shape[0], x.Shape[2]
	switch t.Pool {
	case PoolMean:
		x = tape.MeanPool(x, seen)
	case PoolCLS:
		x = tape.SelectToken(x, 0)
	case PoolLast:
		x = tape.LastToken(x, seen)
	}
	if t.Unit {
		x = tape.Unit(x)
	}
	return tape.Reshape(x, b, 1, d)
}

// TransformerEncoder turns tokens into features: embedding·√D + positions,
// dropout, blocks.
type TransformerEncoder struct {
	dropout   float32
	scale     float32       // √D
	embedding *tensor.Param // embedding.weight [V, D]
	positions *PositionalEncoding
	blocks    []*TransformerBlock
	exits     exits[linearHead] // output_head of the layers in Config.Exits
}

// NewTransformerEncoder adds an encoder of c.NLayers blocks.
func NewTransformerEncoder(b *Builder, prefix string, c Config) (*TransformerEncoder, error) {
	c = c.withDefaults()
	pos, err := NewPositionalEncoding(c.DModel, c.MaxLen)
	if err != nil {
		return nil, err
	}
	b.Table(c.MaxLen * c.DModel)
	e := &TransformerEncoder{
		dropout:   c.Dropout,
		scale:     float32(math.Sqrt(float64(c.DModel))),
		embedding: b.Normal(prefix+"embedding.weight", c.VocabSize, c.DModel),
		positions: pos,
	}
	if c.Kind == VLA { // its exits are the fusion's
		c.Exits = nil
	}
	e.blocks, e.exits = newStack(b, prefix, c, c.NLayers, func(at string) linearHead {
		return newLinearHead(b, at+"output_head", c.VocabSize, c.DModel)
	})
	return e, nil
}

// Forward records the encoder: tokens [B, T] → [B, T, D].
func (e *TransformerEncoder) Forward(p *Pass, tokens *tensor.Ints, mask tensor.Mask) *tensor.Var {
	x := p.Tape.Embedding(tokens, e.embedding, e.scale, e.positions.Table(tokens.Shape[1]))
	return forwardStack(p, e.blocks, e.exits, p.Drop(x, e.dropout), mask, func(h linearHead, x *tensor.Var) *tensor.Var { return h.Forward(p, x) })
}

// steps is languageEncoder's: a vla's encoder has no exits.
func (e *TransformerEncoder) steps(tokens *tensor.Ints, mask tensor.Mask) []step {
	all := []step{func(p *Pass, _ *tensor.Var) *tensor.Var {
		return p.Drop(p.Tape.Embedding(tokens, e.embedding, e.scale, e.positions.Table(tokens.Shape[1])), e.dropout)
	}}
	return append(all, blocksOf(e.blocks, func(p *Pass, l *TransformerBlock, x *tensor.Var) *tensor.Var { return l.Forward(p, x, mask) })...)
}

// CopyModel is an encoder with a head that names a token at every position:
// the reference's copy task.
type CopyModel struct {
	c       Config
	Encoder *TransformerEncoder
	w, b    *tensor.Param // output_head [V, D], [V]
}

// NewCopyModel adds encoder.* and output_head.*.
func NewCopyModel(b *Builder, prefix string, c Config) (*CopyModel, error) {
	e, err := NewTransformerEncoder(b, prefix+"encoder.", c)
	if err != nil {
		return nil, err
	}
	m := &CopyModel{c: c, Encoder: e}
	m.w, m.b = b.Linear(prefix+"output_head", c.VocabSize, c.DModel)
	return m, nil
}

// Forward records the model: tokens [B, T] → features [B, T, D] and logits
// [B, T, V].
func (m *CopyModel) Forward(p *Pass, tokens *tensor.Ints, mask tensor.Mask) (encoded, logits *tensor.Var) {
	encoded = m.Encoder.Forward(p, tokens, mask)
	return encoded, p.Tape.Linear(encoded, m.w, m.b, tensor.None)
}

// Record is Network's.
func (m *CopyModel) Record(p *Pass, in Inputs) Outputs {
	encoded, logits := m.Forward(p, in.Ints(Instruction), tensor.Mask{Keys: in.Visible()})
	return Outputs{Answer: logits, Features: encoded, Layers: m.c.Stack()}
}

// Cost is Network's.
func (m *CopyModel) Cost(spec Spec) Cost {
	var n Tally
	t := int64(spec.Len(Instruction, 0))
	n.Floats += 2 * t * int64(m.c.DModel)
	m.c.stack(&n, m.c.NLayers, t, 0)
	for range 1 + len(m.c.Exits) {
		m.c.name(&n, t)
	}
	return n.Cost()
}
