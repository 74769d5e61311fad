package models

import (
	"math"
	"strconv"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// lstmKind is the kind of RecurrentModel.
func lstmKind() family {
	return family{
		name:    LSTM,
		about:   "tokens to tokens by recurrence",
		answers: Tokens,
		useful:  "vocab_size d_model n_layers max_len exits exit_weights dropout pad_token",
		options: Config{VocabSize: 100, DModel: 128, NLayers: 2, MaxLen: 5000, Dropout: 0.1, PadToken: -1},
		wants:   Config.labelled,
		check: func(c Config, k *job.Checker) {
			c.checkTokens(k)
			c.checkLayers(k, 1)
			c.noExits(k)
		},
		network: func(b *Builder, c Config) (Network, error) { return NewRecurrentModel(b, "", c), nil },
	}
}

// LSTMEncoder turns tokens into features by nn.Embedding and nn.LSTM: the
// recurrence that the reference sets against its attention. It reads from left
// to right, so padding at the end changes nothing before it.
type LSTMEncoder struct {
	dropout   float32
	embedding *tensor.Param // embedding.weight [V, D]
	layers    []lstmLayer
}

// lstmLayer is a layer of nn.LSTM, gates in the order i, f, g, o.
type lstmLayer struct {
	wih, whh *tensor.Param // lstm.weight_ih_l0 [4D, D], lstm.weight_hh_l0 [4D, D]
	bih, bhh *tensor.Param // lstm.bias_ih_l0 [4D], lstm.bias_hh_l0 [4D]
}

// NewLSTMEncoder adds an encoder of c.NLayers layers, c.DModel wide.
func NewLSTMEncoder(b *Builder, prefix string, c Config) *LSTMEncoder {
	d := c.DModel
	e := &LSTMEncoder{dropout: c.Dropout, embedding: b.Normal(prefix+"embedding.weight", c.VocabSize, d)}
	bound := 1 / math.Sqrt(float64(d)) // nn.LSTM: U(±1/√H) for everything
	for i := range c.NLayers {
		add := func(name string, shape ...int) *tensor.Param {
			return b.Uniform(prefix+"lstm."+name+"_l"+strconv.Itoa(i), bound, shape...)
		}
		e.layers = append(e.layers, lstmLayer{add("weight_ih", 4*d, d), add("weight_hh", 4*d, d), add("bias_ih", 4*d), add("bias_hh", 4*d)})
	}
	return e
}

// Forward records the encoder: tokens [B, T] → [B, T, D]. As in nn.LSTM,
// dropout is between layers and not behind the last.
func (e *LSTMEncoder) Forward(p *Pass, tokens *tensor.Ints) *tensor.Var {
	x := p.Tape.Embedding(tokens, e.embedding, 1, nil)
	for i, l := range e.layers {
		if i > 0 {
			x = p.Drop(x, e.dropout)
		}
		x = p.Tape.LSTM(x, l.wih, l.whh, l.bih, l.bhh)
	}
	return x
}

// RecurrentModel is an LSTM with a head that names a token at every position:
// the lstm kind.
type RecurrentModel struct {
	c       Config
	Encoder *LSTMEncoder
	w, b    *tensor.Param // output_head [V, D], [V]
}

// NewRecurrentModel adds encoder.* and output_head.*.
func NewRecurrentModel(b *Builder, prefix string, c Config) *RecurrentModel {
	m := &RecurrentModel{c: c, Encoder: NewLSTMEncoder(b, prefix+"encoder.", c)}
	m.w, m.b = b.Linear(prefix+"output_head", c.VocabSize, c.DModel)
	return m
}

// Forward records the model: tokens [B, T] → features [B, T, D] and logits
// [B, T, V].
func (m *RecurrentModel) Forward(p *Pass, tokens *tensor.Ints) (encoded, logits *tensor.Var) {
	encoded = m.Encoder.Forward(p, tokens)
	return encoded, p.Tape.Linear(encoded, m.w, m.b, tensor.None)
}

// Record is Network's.
func (m *RecurrentModel) Record(p *Pass, in Inputs) Outputs {
	encoded, logits := m.Forward(p, in.Ints(Instruction))
	return Outputs{Answer: logits, Features: encoded, Layers: m.c.Stack()}
}

// Cost is Network's.
func (m *RecurrentModel) Cost(spec Spec) Cost {
	var n Tally
	t, d := int64(spec.Len(Instruction, 0)), int64(m.c.DModel)
	n.Floats += t * d
	for range m.c.NLayers {
		n.Linear(t, d, 4*d)
		n.Linear(t, d, 4*d)
		n.Floats += t * (8*d + 4*d)
	}
	m.c.name(&n, t)
	return n.Cost()
}
