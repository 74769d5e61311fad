package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Depth is when a forward in stages has gone deep enough. The zero Depth goes
// to the end.
type Depth struct {
	Threshold float64       // leave where the doubt is at most this; 0: never
	Budget    time.Duration // leave where the next stage would end after this; 0: no limit
}

// Enough says whether to leave behind a stage whose doubt is known, spent time
// into the forward, when the next stage is expected to take next. The first
// output is always waited for.
func (d Depth) Enough(doubt float64, spent, next time.Duration) bool {
	return d.Threshold > 0 && doubt <= d.Threshold || d.Budget > 0 && spent+next > d.Budget
}

// Doubt is how little an output is to be trusted, from 0. Where the output is
// tokens it is 1 less the probability of the likeliest word, at the position
// that is least sure; positions of padding, which visible says, are not asked.
// Where it is actions, it is how far the output is from
// that of the exit before: the root of the mean square of the difference, in
// units of the normalised actions; the first exit has none before it and is
// in infinite doubt.
func Doubt(words int, visible []uint8, before, out []float32) float64 {
	if words > 0 {
		least := 1.0
		for i := 0; i < len(out); i += words {
			if visible != nil && visible[i/words] == 0 {
				continue
			}
			row := out[i : i+words]
			best, sum := row[argmax(row)], 0.0
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
func NewStager(rt *tensor.Runtime, model *models.Model, spec models.Spec, loss string) (*Stager, error) {
	c := model.Config()
	if len(c.Exits) == 0 {
		return nil, fmt.Errorf("the model has no exits: train one with model.exits")
	}
	prog, err := model.Program(rt, 1, spec, models.ProgramOptions{Loss: loss, Exits: true, Forward: true})
	if err != nil {
		return nil, err
	}
	s := &Stager{prog: prog, layers: append(slices.Clone(c.Exits), c.Stack())}
	s.took, s.runs = make([]time.Duration, len(s.layers)), make([]int, len(s.layers))
	if spec.Labels {
		s.words = c.VocabSize
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
		doubt := Doubt(s.words, s.prog.Visible(), before, out)
		spent := time.Since(start)
		s.runs[k]++
		s.took[k] += (spent - last - s.took[k]) / time.Duration(s.runs[k])
		show(k, out, doubt, spent)
		if k+1 < len(s.layers) && depth.Enough(doubt, spent, s.took[k+1]) {
			return nil
		}
		before, last = out, spent
	}
	return nil
}

// ExitRow is what one way of choosing the depth costs and gives.
type ExitRow struct {
	Layer     float64 `json:"layer"`               // blocks of the stack that ran, on average
	Threshold float64 `json:"threshold,omitempty"` // of the doubt; 0: a fixed depth
	Millis    float64 `json:"ms"`                  // median time of one sample; at a threshold the mean of its depths' medians
	Error     float64 `json:"error"`               // mean squared error of the normalised actions that are learned; 1 - accuracy over all targets
	Shares    []int   `json:"shares,omitempty"`    // of 1000 samples, how many left at each exit
}

// ExitReport is the accuracy of a model with exits against its latency.
type ExitReport struct {
	Samples    int       `json:"samples"`
	Of         int       `json:"of"`      // samples of the split
	Targets    int       `json:"targets"` // that errors are means over: tokens, or action values
	Tokens     bool      `json:"tokens"`
	Layers     []int     `json:"layers"`
	Fixed      []ExitRow `json:"fixed"`      // every sample leaves at the same exit
	Thresholds []ExitRow `json:"thresholds"` // every sample leaves where its doubt allows
}

// exitRecord is one sample at one exit.
type exitRecord struct {
	doubt, error float64 // error: the sum over its targets
	spent        time.Duration
}

// quantiles of the doubt that are tried as thresholds.
var doubtQuantiles = []float64{0.1, 0.25, 0.5, 0.75, 0.9}

// EvaluateExits runs the samples of src, or the first limit of them where that
// is above 0, through all exits, one at a time, and works out what fixed depths and thresholds would have cost. src is
// called split in messages.
func EvaluateExits(ctx context.Context, rt *tensor.Runtime, model *models.Model, meta data.Meta, loss string, src data.Source, split string, limit int) (ExitReport, error) {
	s, err := NewStager(rt, model, meta.Spec, loss)
	if err != nil {
		return ExitReport{}, err
	}
	defer s.Close()
	n := src.Len()
	if limit > 0 {
		n = min(n, limit)
	}
	if n == 0 {
		return ExitReport{}, emptySplit(split)
	}
	collator, err := data.NewCollator(meta)
	if err != nil {
		return ExitReport{}, err
	}
	var learned []bool
	if meta.Actions != nil {
		learned = meta.Actions.Learned()
	}
	b := models.NewBatch(1, meta.Spec)
	records, targets := make([][]exitRecord, n), 0
	for i := range n {
		if err := ctx.Err(); err != nil {
			return ExitReport{}, err
		}
		x, err := src.Sample(i)
		if err != nil {
			return ExitReport{}, fmt.Errorf("%s: sample %d: %w", spoken(split), i, err)
		}
		if err := collator.Collate([]data.Sample{x}, b); err != nil {
			return ExitReport{}, err
		}
		count := 0
		if err := s.Run(b, Depth{}, func(_ int, out []float32, doubt float64, spent time.Duration) {
			var sum float64
			sum, count = sampleError(b.Actions, s.prog.Targets(), s.words, learned, out)
			records[i] = append(records[i], exitRecord{doubt, sum, spent})
		}); err != nil {
			return ExitReport{}, err
		}
		targets += count
	}
	if targets == 0 && s.words > 0 {
		return ExitReport{}, &NoTargetError{split, n, model.Config().PadToken}
	}
	r := ExitReport{Samples: n, Of: src.Len(), Targets: targets, Tokens: s.words > 0, Layers: s.layers}
	var doubts []float64
	for k, layer := range s.layers {
		row := ExitRow{Layer: float64(layer)}
		var times []float64
		for _, rec := range records {
			row.Error += rec[k].error
			times = append(times, rec[k].spent.Seconds()*1e3)
			if d := rec[k].doubt; k+1 < len(s.layers) && !math.IsInf(d, 0) {
				doubts = append(doubts, d)
			}
		}
		row.Error /= float64(max(targets, 1))
		slices.Sort(times)
		row.Millis = times[len(times)/2]
		r.Fixed = append(r.Fixed, row)
	}
	slices.Sort(doubts)
	if len(doubts) == 0 { // one exit of actions: nothing before it to compare with
		return r, nil
	}
	for _, q := range doubtQuantiles {
		if t := doubts[int(q*float64(len(doubts)-1))]; t > 0 {
			r.Thresholds = append(r.Thresholds, atThreshold(records, r.Fixed, targets, t))
		}
	}
	return r, nil
}

// atThreshold is what leaving at doubts up to t would have cost: each sample
// the median time of the depth that it takes.
func atThreshold(records [][]exitRecord, fixed []ExitRow, targets int, t float64) ExitRow {
	row := ExitRow{Threshold: t, Shares: make([]int, len(fixed))}
	n := float64(len(records))
	for _, rec := range records {
		k := 0
		for k+1 < len(fixed) && !(Depth{Threshold: t}).Enough(rec[k].doubt, 0, 0) {
			k++
		}
		row.Shares[k]++
		row.Layer += fixed[k].Layer / n
		row.Millis += fixed[k].Millis / n
		row.Error += rec[k].error
	}
	row.Error /= float64(max(targets, 1))
	for k, c := range row.Shares {
		row.Shares[k] = int(math.Round(1000 * float64(c) / n))
	}
	return row
}

// sampleError is one sample's error and what it is the sum over: squared
// differences in the dimensions that are learned, or the targets that are named
// wrong.
func sampleError(actions []float32, targets []int32, words int, learned []bool, out []float32) (sum float64, count int) {
	if words == 0 {
		for i, x := range out {
			if !learned[i] {
				continue
			}
			d := float64(x) - float64(actions[i])
			sum += float64(d * d)
			count++
		}
		return sum, count
	}
	for i, want := range targets {
		if want == models.NoLabel {
			continue
		}
		count++
		if argmax(out[i*words:(i+1)*words]) != want {
			sum++
		}
	}
	return sum, count
}
