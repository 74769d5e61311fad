package eval

import (
	"context"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// ActionReport says how far predicted actions are from the expert's on one
// split, beside a predictor that always says the training mean. Its totals are
// over the dimensions that are learned; the others are in LeftOut. Where none is
// learned they are 0.
type ActionReport struct {
	Samples int         `json:"samples"`
	L1      float64     `json:"l1"`      // mean |prediction - target| over samples and learned dimensions, normalised
	MeanL1  float64     `json:"mean_l1"` // the same of the training mean
	MSE     float64     `json:"mse"`     // mean squared error, normalised
	MeanMSE float64     `json:"mean_mse"`
	LeftOut []LeftOut   `json:"left_out,omitempty"`
	DoF     []DoFReport `json:"dof"` // all dimensions
}

// LeftOut is a dimension that the totals leave out, since training gave it no
// scale: its answer is always the same.
type LeftOut struct {
	Name   string  `json:"name"`
	Why    string  `json:"why"`    // constant | noise | rare, see data.Variation
	Answer float64 `json:"answer"` // in its unit
}

// DoFReport is one action dimension, in its physical unit.
type DoFReport struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	MAE     float64 `json:"mae"`      // mean |prediction - target|
	MeanMAE float64 `json:"mean_mae"` // the same of the training mean
}

// beatsMean reports whether the predictions' L1 is below the training mean's.
func (r ActionReport) beatsMean() bool { return r.L1 < r.MeanL1 }

// actionSums are the sums that an ActionReport is the quotient of. They grow
// sample by sample, in order, so a split of any size is measured in the memory
// of one batch and the figures do not depend on how it is cut into batches.
type actionSums struct {
	stats   *data.Stats
	learned []bool
	mean    []float32 // the training mean, normalised and in physical units
	meanRaw []float32

	samples      int
	l1, meanL1   mean // over learned dimensions, normalised
	mse, meanMSE mean
	mae, meanMAE []mean // of each dimension, in its unit

	p, t []float32 // scratch, one action each
}

func newActionSums(s *data.Stats) (*actionSums, error) {
	if s == nil || s.Dim() == 0 {
		return nil, fmt.Errorf("there are no statistics of actions to measure by")
	}
	n := s.Dim()
	a := &actionSums{stats: s, learned: s.Learned(), mean: make([]float32, n), meanRaw: make([]float32, n),
		mae: make([]mean, n), meanMAE: make([]mean, n), p: make([]float32, n), t: make([]float32, n)}
	for d := range a.meanRaw {
		a.meanRaw[d] = float32(s.Mean[d])
	}
	s.Normalize(a.mean, a.meanRaw)
	return a, nil
}

// add takes the predictions of some samples, normalised, with their targets in
// physical units; both are row-major [n, A], or [n, L, A] of chunks, of which
// valid [n, L] says which actions count; nil: all.
func (a *actionSums) add(samples int, pred, target, valid []float32) error {
	n := len(a.p)
	if len(pred) == 0 || len(pred) != len(target) || len(pred)%n != 0 {
		return fmt.Errorf("%d predicted and %d target values for actions of %d dimensions: "+
			"both must be the same positive number of whole actions", len(pred), len(target), n)
	}
	a.samples += samples
	for i := 0; i < len(pred); i += n {
		if valid != nil && valid[i/n] == 0 {
			continue
		}
		a.stats.Denormalize(a.p, pred[i:i+n])
		a.stats.Normalize(a.t, target[i:i+n])
		for d, t := range a.t {
			raw := target[i+d]
			e := float64(pred[i+d]) - float64(t)
			m := float64(a.mean[d]) - float64(t)
			if e-e != 0 || raw-raw != 0 || a.p[d]-a.p[d] != 0 { // NaN or infinite, which JSON could not hold either
				return fmt.Errorf("sample %d, dimension %d (%s): "+
					"the prediction is %v, %v before it was scaled, and the target %v; all must be finite",
					a.samples-samples+i*samples/len(pred), d, a.stats.Names[d], a.p[d], pred[i+d], raw)
			}
			if a.learned[d] {
				a.l1.add(math.Abs(e), 1)
				a.meanL1.add(math.Abs(m), 1)
				a.mse.add(float64(e*e), 1)
				a.meanMSE.add(float64(m*m), 1)
			}
			a.mae[d].add(math.Abs(float64(a.p[d])-float64(raw)), 1)
			a.meanMAE[d].add(math.Abs(float64(a.meanRaw[d])-float64(raw)), 1)
		}
	}
	return nil
}

// report divides each sum once by its count.
func (a *actionSums) report() ActionReport {
	s := a.stats
	r := ActionReport{Samples: a.samples, L1: a.l1.of(), MeanL1: a.meanL1.of(), MSE: a.mse.of(), MeanMSE: a.meanMSE.of(),
		DoF: make([]DoFReport, len(a.p))}
	for d := range r.DoF {
		r.DoF[d] = DoFReport{s.Names[d], s.Units[d], a.mae[d].of(), a.meanMAE[d].of()}
		if !a.learned[d] {
			c := s.Scale(d)
			r.LeftOut = append(r.LeftOut, LeftOut{s.Names[d], c.Variation.String(), c.Offset})
		}
	}
	return r
}

func (s Subject) actions(ctx context.Context, f *figures, src data.Source) (*ActionReport, error) {
	sums, err := newActionSums(s.Meta.Actions)
	if err != nil {
		return nil, err
	}
	var target []float32 // in physical units
	at, meta := s.Meta.Spec.Index(models.Actions), s.Meta
	if err := s.predict(ctx, src, func(p predicted) error {
		f.add(p)
		target = target[:0]
		for i := range p.samples {
			target = append(target, p.samples[i].Values[at].Floats...)
			if s := sums.stats; s.Relative != nil { // errors are the same
				own := target[len(target)-len(p.samples[i].Values[at].Floats):]
				s.Relate(own, own, meta.Now(&p.samples[i]))
			}
		}
		return sums.add(len(p.samples), p.output, target, p.batch.Floats(models.Valid))
	}); err != nil {
		return nil, err
	}
	r := sums.report()
	return &r, nil
}

// most is how many names a line of the report lists.
const most = 8

// Text is the report as a table for people, with a word on every - in it and
// on what the totals leave out.
func (r ActionReport) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\terror\talways the mean\tof it\tunit\t")
	var right []string // where always the mean makes no error
	row := func(name string, err, mean float64, unit string) {
		share := "-"
		if mean > 0 {
			share = fmt.Sprintf("%.0f %%", 100*err/mean)
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%s\t%s\t\n", name, err, mean, share, unit)
	}
	for _, d := range r.DoF {
		row(d.Name, d.MAE, d.MeanMAE, d.Unit)
		if d.MeanMAE == 0 {
			right = append(right, d.Name)
		}
	}
	none := len(r.LeftOut) == len(r.DoF)
	if !none {
		row("all, normalised (L1)", r.L1, r.MeanL1, "")
		row("all, normalised (MSE)", r.MSE, r.MeanMSE, "")
	}
	w.Flush()
	lines := strings.Split(b.String(), "\n")
	for i, l := range lines { // a row without a unit ends in spaces
		lines[i] = strings.TrimRight(l, " ")
	}
	b.Reset()
	b.WriteString(strings.Join(lines, "\n"))
	if len(right) > 0 {
		fmt.Fprintf(&b, "-: always the mean makes no error in %s, the same in all these samples as in training\n", plain.Few(right, most))
	}
	for _, why := range []struct{ word, text string }{
		{data.Constant.String(), "one value in all training samples"},
		{data.Noise.String(), "in training no more than float32's rounding of one value"},
		{data.Rare.String(), "1 % and 99 % quantiles that are one value; data.normalize mean_std or min_max would learn it"},
	} {
		var names []string
		for _, l := range r.LeftOut {
			if l.Why == why.word {
				names = append(names, fmt.Sprintf("%s (always %.6g)", l.Name, l.Answer))
			}
		}
		if len(names) > 0 {
			fmt.Fprintf(&b, "not learned and left out of all, normalised: %s: %s\n", plain.Few(names, most), why.text)
		}
	}
	if none {
		fmt.Fprintf(&b, "%d samples; the model learned no dimension, so it is not compared with the training mean\n", r.Samples)
		return b.String()
	}
	verdict := "beats"
	if !r.beatsMean() {
		verdict = "does not beat"
	}
	fmt.Fprintf(&b, "%d samples; the model %s always predicting the training mean\n", r.Samples, verdict)
	return b.String()
}
