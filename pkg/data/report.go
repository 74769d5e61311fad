package data

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
)

// Report says how far predicted actions are from the expert's on one split,
// beside a predictor that always says the training mean. Its totals are over
// the dimensions that are learned; the others are in LeftOut. Where none is
// learned they are 0.
type Report struct {
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
	Why    string  `json:"why"`    // constant | noise | rare, see Variation
	Answer float64 `json:"answer"` // in its unit
}

// DoFReport is one action dimension, in its physical unit.
type DoFReport struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	MAE     float64 `json:"mae"`      // mean |prediction - target|
	MeanMAE float64 `json:"mean_mae"` // the same of the training mean
}

// BeatsMean reports whether the predictions' L1 is below the training mean's.
func (r Report) BeatsMean() bool { return r.L1 < r.MeanL1 }

// Evaluate compares n·A predictions, normalised by s, with their targets in
// physical units; both are row-major [n, A]. All sums are float64 in the order
// of the samples.
func Evaluate(pred, target []float32, s *Stats) (Report, error) {
	a := 0
	if s != nil {
		a = s.Dim()
	}
	if a == 0 || len(pred) == 0 || len(pred) != len(target) || len(pred)%a != 0 {
		return Report{}, fmt.Errorf("evaluate: %d predicted and %d target values for actions of %d dimensions: both must be the same positive number of whole actions", len(pred), len(target), a)
	}
	n := len(pred) / a
	r := Report{Samples: n, DoF: make([]DoFReport, a)}
	learned := s.Learned()
	counted := 0
	mean, mu := make([]float32, a), make([]float32, a)
	for d := range mean {
		mu[d] = float32(s.Mean[d])
		if learned[d] {
			counted++
		} else {
			c := s.Scale(d)
			r.LeftOut = append(r.LeftOut, LeftOut{s.Names[d], c.Variation.String(), c.Offset})
		}
	}
	s.Normalize(mean, mu)
	p, t := make([]float32, a), make([]float32, a)
	for i := 0; i < len(pred); i += a {
		s.Denormalize(p, pred[i:i+a])
		s.Normalize(t, target[i:i+a])
		for d := 0; d < a; d++ {
			e := float64(pred[i+d]) - float64(t[d])
			m := float64(mean[d]) - float64(t[d])
			if raw := target[i+d]; e-e != 0 || raw-raw != 0 || p[d]-p[d] != 0 { // NaN or infinite, which JSON could not hold either
				return Report{}, fmt.Errorf("evaluate: sample %d, dimension %d (%s): the prediction is %v, %v before it was scaled, and the target %v; all must be finite", i/a, d, s.Names[d], p[d], pred[i+d], raw)
			}
			if learned[d] {
				r.L1 = float64(r.L1 + math.Abs(e))
				r.MeanL1 = float64(r.MeanL1 + math.Abs(m))
				r.MSE = float64(r.MSE + float64(e*e))
				r.MeanMSE = float64(r.MeanMSE + float64(m*m))
			}
			r.DoF[d].MAE = float64(r.DoF[d].MAE + math.Abs(float64(p[d])-float64(target[i+d])))
			r.DoF[d].MeanMAE = float64(r.DoF[d].MeanMAE + math.Abs(float64(mu[d])-float64(target[i+d])))
		}
	}
	total := float64(n * max(counted, 1))
	r.L1, r.MeanL1, r.MSE, r.MeanMSE = r.L1/total, r.MeanL1/total, r.MSE/total, r.MeanMSE/total
	for d := range r.DoF {
		r.DoF[d].Name, r.DoF[d].Unit = s.Names[d], s.Units[d]
		r.DoF[d].MAE /= float64(n)
		r.DoF[d].MeanMAE /= float64(n)
	}
	return r, nil
}

// Text is the report as a table for people, with a word on every - in it and
// on what the totals leave out.
func (r Report) Text() string {
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
	if len(right) > 0 {
		fmt.Fprintf(&b, "-: always the mean makes no error in %s, the same in all these samples as in training\n", few(right))
	}
	for _, why := range []struct{ word, text string }{
		{Constant.String(), "one value in all training samples"},
		{Noise.String(), "in training no more than float32's rounding of one value"},
		{Rare.String(), "1 % and 99 % quantiles that are one value; data.normalize mean_std or min_max would learn it"},
	} {
		var names []string
		for _, l := range r.LeftOut {
			if l.Why == why.word {
				names = append(names, fmt.Sprintf("%s (always %s)", l.Name, number(l.Answer)))
			}
		}
		if len(names) > 0 {
			fmt.Fprintf(&b, "not learned and left out of all, normalised: %s: %s\n", few(names), why.text)
		}
	}
	if none {
		fmt.Fprintf(&b, "%d samples; the model learned no dimension, so it is not compared with the training mean\n", r.Samples)
		return b.String()
	}
	verdict := "beats"
	if !r.BeatsMean() {
		verdict = "does not beat"
	}
	fmt.Fprintf(&b, "%d samples; the model %s always predicting the training mean\n", r.Samples, verdict)
	return b.String()
}
