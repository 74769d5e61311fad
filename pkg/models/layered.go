package models

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Layered is a Head with layers of its own: it says what the tokens of a model's
// decoder are, and how what becomes of them is judged and turned into actions. It
// wants a model with a decoder; CheckDecoder says so.
type Layered interface {
	Head
	// Layers adds the head's parameters to b, their names beginning with prefix, in
	// the order in which they are used, for a decoder of that size.
	Layers(b *Builder, prefix string, of Decoding) Layers
}

// Layers are those of a head. They hold parameters, and nothing else that changes.
type Layers interface {
	// Record records them behind a network's decoder.
	Record(p *Pass, d *Decoder) Answered
	// Cost counts the arithmetic of one sample in training, beside the decoder's.
	Cost(n *Tally)
}

// Answered is what a head's layers make of a batch.
type Answered struct {
	Actions  *tensor.Var // [B, L, A], normalised; nil where the pass trains and need not know them
	Features *tensor.Var // [B, L, D], as in Outputs
	// Loss records the loss, behind all else.
	Loss func(of Expected) *tensor.Loss
}

// CheckDecoder refuses a job whose model has no decoder, for the head called name.
func CheckDecoder(c *job.Checker, name string) {
	if d := decodingOf(c.Job.Model.Options); d.Width == 0 {
		c.Bad("loss model.fusion", "%s has layers of its own behind a decoder, and this model has none; want model.kind %s with model.fusion %s", name, VLA, fusionCross)
	}
	if c.Job.Distill.Active() {
		c.Bad("distill.teacher loss", "a teacher's answer cannot be compared under loss %s; want %s or %s", name, MSE, L1)
	}
}

// layersOf adds what stands behind a decoder: a head's own layers, or for a head
// that judges actions a linear layer that makes them.
func layersOf(head Head, b *Builder, of Decoding) (Layers, error) {
	const prefix = "action_head."
	switch h := head.(type) {
	case Layered:
		return h.Layers(b, prefix, of), nil
	case Judge:
		return tokenLayers{h, newLinearHead(b, trimDot(prefix), of.Actions, of.Width), of}, nil
	}
	return nil, fmt.Errorf("loss %s neither judges an answer nor has layers that make one", head.Name())
}

// tokenLayers are those of a Judge: an action of each token.
type tokenLayers struct {
	judge  Judge
	linear linearHead // action_head [A, D], [A]
	of     Decoding
}

func (l tokenLayers) Record(p *Pass, d *Decoder) Answered {
	x := d.Decode(p, nil)
	actions := d.one(p, l.linear.Forward(p, x))
	return Answered{Actions: actions, Features: x, Loss: func(of Expected) *tensor.Loss { return l.judge.Loss(p.Tape, actions, of) }}
}

func (l tokenLayers) Cost(n *Tally) {
	n.Linear(int64(l.of.Steps), int64(l.of.Width), int64(l.of.Actions))
}

// one is x [B, L, ..] as features of that shape are: [B, ..] where there is one step.
func (d *Decoder) one(p *Pass, x *tensor.Var) *tensor.Var {
	if d.Steps > 1 {
		return x
	}
	return p.Tape.Reshape(x, append([]int{x.Shape[0]}, x.Shape[2:]...)...)
}

// Draw names the random numbers of a batch: in training those of its samples in
// this step, otherwise those of its samples, whatever the step, so that an answer
// repeats.
type Draw struct {
	Seed, Step uint64
	Train      bool
	IDs        []uint64 // of the batch's samples
}

// stream is that of a sample of the batch; site is the caller's own, below 2²³.
func (d Draw) stream(site uint32, sample int) philox.Stream {
	s := philox.Stream{Seed: d.Seed, Purpose: philox.Noise, Site: site, Step: d.Step, Sample: d.IDs[sample]}
	if !d.Train {
		s.Site, s.Step = site|1<<23, 0
	}
	return s
}

// Normal fills dst with draws from N(0, 1).
func (d Draw) Normal(dst []float32, site uint32, sample int) {
	fillNormal(dst, d.stream(site, sample))
}

// Uniform is a draw from the midpoints of (0, 1).
func (d Draw) Uniform(site uint32, sample int) float64 {
	return (float64(d.stream(site, sample).Uint32(0)) + 0.5) / (1 << 32)
}

// Fill has f called before each Forward, when the batch is loaded and its random
// numbers are named: it fills inputs of the pass's tape.
func (p *Pass) Fill(f func(d Draw)) { p.fills = append(p.fills, f) }
