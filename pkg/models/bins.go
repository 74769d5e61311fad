package models

import (
	"math"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// bins cuts each action value's range [-1, 1] into bins of equal width and names
// one of them, as OpenVLA does: the cross entropy of each value of each step. Its
// action is the centre of the likeliest. Values are to be normalised to that
// range; what lies outside is in the first or the last.
type bins struct {
	Bins int `yaml:"bins" json:"bins"`
}

func (o bins) Resolve(*job.Job, func(string) bool) job.Options { return o }
func (bins) Name() string                                      { return binsLoss }
func (bins) Judges() string                                    { return Actions }
func (bins) Metrics() []job.Metric                             { return []job.Metric{{Name: "l1", Label: "L1"}} }
func (o bins) Check(c *job.Checker) {
	c.Within("loss.bins", o.Bins, 2, 1<<16)
	CheckDecoder(c, binsLoss)
}

func (bins) Score(answer []float32, of Truth, add func(int, float64, int)) {
	add(0, of.Loss, of.Count)
	of.eachError(answer, func(e float64) { add(1, math.Abs(e), 1) })
}

type binLayers struct {
	of   Decoding
	bins int
	name linearHead // action_head [A·bins, D], [A·bins]
}

func (o bins) Layers(b *Builder, prefix string, of Decoding) Layers {
	return binLayers{of, o.Bins, newLinearHead(b, trimDot(prefix), of.Actions*o.Bins, of.Width)}
}

func (l binLayers) Record(p *Pass, d *Decoder) (a Answered) {
	t := p.Tape
	a.Features = d.Decode(p, nil)
	logits := t.Reshape(l.name.Forward(p, a.Features), d.Batch(), l.of.Steps, l.of.Actions, l.bins)
	if !p.Train {
		a.Actions = d.one(p, t.BinCentres(logits))
	}
	a.Loss = func(of Expected) *tensor.Loss { return t.CrossEntropy(logits, t.Bins(of.Actions, of.Valid, l.bins)) }
	return a
}

func (l binLayers) Cost(n *Tally) {
	n.Linear(int64(l.of.Steps), int64(l.of.Width), int64(l.of.Actions*l.bins))
	n.Floats += 2 * int64(l.of.Steps*l.of.Actions*l.bins)
}
