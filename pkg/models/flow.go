package models

import (
	"math"

	"github.com/vlaring/vlaring/internal/portable"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// flow is flow matching in the convention of openpi, where time runs from noise at
// 1 to actions at 0:
//
//	x = τ·ε + (1-τ)·a       ε ~ N(0, 1), τ ~ 0.999·Beta(1.5, 1) + 0.001
//	loss = mean of (v(x, τ) - (ε - a))² over what counts
//	actions: x₁ = ε;  x ← x - v(x, τ)/Steps  at τ = 1, 1 - 1/Steps, …
//
// v is the decoder over the noisy actions, each step's with the time beside it:
//
//	x [B,L,A] ─ action_in_proj ─ ++ time [D] ─ action_time_mlp_in ─ SiLU ─ action_time_mlp_out ─ decoder ─ action_out_proj
type flow struct {
	Steps int `yaml:"steps" json:"steps"` // of Euler's method, for an answer
}

func (o flow) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (flow) Name() string                                      { return flowLoss }
func (flow) Judges() string                                    { return Actions }
func (flow) Metrics() []job.Metric                             { return []job.Metric{{Name: "l1", Label: "L1"}} }
func (o flow) Check(c *job.Checker) {
	c.Within("loss.steps", o.Steps, 1, 1000)
	CheckDecoder(c, flowLoss)
}

// Score takes the loss as it was recorded, with the noise of evaluation, and the
// error of the actions that were made of other noise.
func (flow) Score(answer []float32, of Truth, add func(int, float64, int)) {
	add(0, of.Loss, of.Count)
	of.eachError(answer, func(e float64) { add(1, math.Abs(e), 1) })
}

type flowLayers struct {
	of                    Decoding
	steps                 int
	in, mix, blended, out linearHead // [D, A], [D, 2D], [D, D], [A, D]
}

func (o flow) Layers(b *Builder, prefix string, of Decoding) Layers {
	d := of.Width
	return flowLayers{of, o.Steps,
		newLinearHead(b, prefix+"action_in_proj", d, of.Actions),
		newLinearHead(b, prefix+"action_time_mlp_in", d, 2*d),
		newLinearHead(b, prefix+"action_time_mlp_out", d, d),
		newLinearHead(b, prefix+"action_out_proj", of.Actions, d)}
}

// The draws of a sample: of its loss, and of the noise that its answer is made of.
const (
	siteNoise uint32 = iota
	siteTime
	siteAnswer
)

func (l flowLayers) Record(p *Pass, d *Decoder) (a Answered) {
	if !p.Train {
		a.Actions = d.one(p, l.answer(p, d))
	}
	a.Loss = func(of Expected) *tensor.Loss { return l.loss(p, d, of) }
	return a
}

// velocity records v: x [B, L, A], time [B, D] → [B, L, A].
func (l flowLayers) velocity(p *Pass, d *Decoder, x, time *tensor.Var) *tensor.Var {
	t := p.Tape
	x = t.AppendRow(l.in.Forward(p, x), time)
	x = l.blended.Forward(p, t.Linear(x, l.mix.w, l.mix.b, tensor.SiLU))
	return l.out.Forward(p, d.Decode(p, x))
}

func (l flowLayers) answer(p *Pass, d *Decoder) *tensor.Var {
	t, b := p.Tape, d.Batch()
	x := t.Input(b, l.of.Steps, l.of.Actions)
	noise := x
	p.Fill(func(draw Draw) { l.noise(noise, draw, siteAnswer) })
	for k := range l.steps {
		time, row := t.Input(b, l.of.Width), make([]float32, l.of.Width)
		timeRow(row, 1-float64(k)/float64(l.steps))
		p.Fill(func(Draw) {
			for s := range b {
				copy(time.Data[s*len(row):], row)
			}
		})
		x = t.AddScaled(x, l.velocity(p, d, x, time), float32(-1/float64(l.steps)))
	}
	return x
}

// noise fills x with ε.
func (l flowLayers) noise(x *tensor.Var, draw Draw, site uint32) {
	n := l.of.Steps * l.of.Actions
	for s := range x.Shape[0] {
		draw.Normal(x.Data[s*n:(s+1)*n], site, s)
	}
}

func (l flowLayers) loss(p *Pass, d *Decoder, of Expected) *tensor.Loss {
	t, b, n := p.Tape, d.Batch(), l.of.Steps*l.of.Actions
	x, want, time := t.Input(b, l.of.Steps, l.of.Actions), t.Input(b, l.of.Steps, l.of.Actions), t.Input(b, l.of.Width)
	p.Fill(func(draw Draw) {
		l.noise(want, draw, siteNoise)
		for s := range b {
			tau := float64(0.999*portable.Pow(draw.Uniform(siteTime, s), 1/1.5)) + 0.001
			timeRow(time.Data[s*l.of.Width:(s+1)*l.of.Width], tau)
			for i := s * n; i < (s+1)*n; i++ {
				e, a := float64(want.Data[i]), float64(of.Actions.Data[i])
				x.Data[i] = float32(float64(tau*e) + float64((1-tau)*a))
				want.Data[i] = float32(e - a)
			}
		}
	})
	return squared(t, l.velocity(p, d, x, time), want, of.Valid)
}

// timeRow writes a time in (0, 1] as sines and then cosines, whose periods go from
// 4e-3 to 4 in equal ratios.
func timeRow(row []float32, tau float64) {
	half := len(row) / 2
	for i := range half {
		part := float64(i) / float64(max(half-1, 1))
		sin, cos := portable.SinCos(2 * math.Pi * tau / (4e-3 * portable.Pow(1000, part)))
		row[i], row[half+i] = float32(sin), float32(cos)
	}
}

func (l flowLayers) Cost(n *Tally) {
	steps, a, d := int64(l.of.Steps), int64(l.of.Actions), int64(l.of.Width)
	n.Linear(steps, a, d)
	n.First += steps * a * d
	n.Linear(steps, 2*d, d)
	n.Linear(steps, d, d)
	n.Linear(steps, d, a)
	n.Floats += steps * (d + 2*d + 2*d + d + a)
}
