package eval

import (
	"fmt"
	"math"
	"time"

	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Depth is when a forward in stages has gone deep enough. The zero Depth goes
// to the end.
type Depth struct {
	Threshold float64       // leave where the doubt is at most this; 0: never
	Budget    time.Duration // leave where the next stage would end after this; 0: no limit
}

// enough says whether to leave behind a stage whose doubt is known, spent time
// into the forward, when the next stage is expected to take next. The first
// output is always waited for.
func (d Depth) enough(doubt float64, spent, next time.Duration) bool {
	return d.Threshold > 0 && doubt <= d.Threshold || d.Budget > 0 && spent+next > d.Budget
}

// doubtOf is how little an output is to be trusted, from 0. Where the output is
// tokens it is 1 less the probability of the likeliest word, at the position
// that is least sure; positions of padding, which visible says, are not asked.
// Where it is actions, it is how far the output is from
// that of the exit before: the root of the mean square of the difference, in
// units of the normalised actions; the first exit has none before it and is
// in infinite doubt.
func doubtOf(words int, visible []uint8, before, out []float32) float64 {
	if words > 0 {
		least := 1.0
		for i := 0; i < len(out); i += words {
			if visible != nil && visible[i/words] == 0 {
				continue
			}
			row := out[i : i+words]
			best, sum := row[models.Likeliest(row)], 0.0
			for _, x := range row {
				sum += math.Exp(float64(x - best))
			}
			least = min(least, 1/sum)
		}
		return 1 - least
	}
	if before == nil {
		return math.Inf(1)
	}
	sum := 0.0
	for i, x := range out {
		d := float64(x) - float64(before[i])
		sum += float64(d * d)
	}
	return math.Sqrt(sum / float64(len(out)))
}

// Stager runs a model with exits one sample at a time, stage by stage.
type Stager struct {
	prog   *models.Program
	words  int
	layers []int           // of each stage's output; the last is the whole stack
	took   []time.Duration // what each stage took on average so far
	runs   []int
}

// NewStager records model, which must have exits, for single samples of spec.
func NewStager(rt *tensor.Runtime, model *models.Model, spec models.Spec) (*Stager, error) {
	prog, err := model.Program(rt, 1, spec, models.ProgramOptions{Exits: true, Forward: true})
	if err != nil {
		return nil, err
	}
	s := &Stager{prog: prog}
	for _, e := range prog.Exits() {
		s.layers = append(s.layers, e.Layer)
	}
	if len(s.layers) == 0 {
		prog.Close()
		return nil, fmt.Errorf("the model has no exits: train one with model.exits")
	}
	s.layers = append(s.layers, prog.Layers())
	s.took, s.runs = make([]time.Duration, len(s.layers)), make([]int, len(s.layers))
	if o := model.Options(); o.Answers() == models.Tokens {
		s.words = o.Wants().Vocab()
	}
	return s, nil
}

// Close gives the memory back.
func (s *Stager) Close() { s.prog.Close() }

// Layers are the depths of the outputs, the last that of the whole model.
func (s *Stager) Layers() []int { return s.layers }

// Run computes one sample until depth has enough, and shows every output on the
// way: its stage, doubt and the time spent so far. Outputs are valid until the
// next Run.
func (s *Stager) Run(b *models.Batch, depth Depth, show func(stage int, out []float32, doubt float64, spent time.Duration)) error {
	if err := s.prog.Load(b); err != nil {
		return err
	}
	s.prog.SetStep(0, 0, false)
	var before []float32
	start, last := time.Now(), time.Duration(0)
	for k := range s.layers {
		s.prog.ForwardStage(k)
		out := s.prog.Output().Data
		if k < len(s.layers)-1 {
			out = s.prog.Exits()[k].Out.Data
		}
		doubt := doubtOf(s.words, s.prog.Visible(), before, out)
		spent := time.Since(start)
		s.runs[k]++
		s.took[k] += (spent - last - s.took[k]) / time.Duration(s.runs[k])
		show(k, out, doubt, spent)
		if k+1 < len(s.layers) && depth.enough(doubt, spent, s.took[k+1]) {
			return nil
		}
		before, last = out, spent
	}
	return nil
}

// All runs the samples of b one at a time, each as deep as depth wants. values are
// the outputs at which they left, one behind the other, and layers their depths.
func (s *Stager) All(b *models.Batch, depth Depth) (values []float32, layers []int64, err error) {
	one := models.NewBatch(1, b.Spec)
	layers = make([]int64, b.N)
	for i := range b.N {
		copySample(one, b, i)
		var last []float32
		if err := s.Run(one, depth, func(k int, out []float32, _ float64, _ time.Duration) {
			last, layers[i] = out, int64(s.layers[k])
		}); err != nil {
			return nil, nil, err
		}
		values = append(values, last...)
	}
	return values, layers, nil
}

// copySample makes dst, a batch of one, sample i of src.
func copySample(dst, src *models.Batch, i int) {
	for k, d := range dst.Values {
		copy(d.Floats, src.Values[k].Floats[i*len(d.Floats):])
		copy(d.Ints, src.Values[k].Ints[i*len(d.Ints):])
	}
	dst.IDs[0] = src.IDs[i]
}
