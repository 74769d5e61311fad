package data

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
)

// Report says how far predicted actions are from the expert's on one split,
// beside a predictor that always says the training mean.
type Report struct {
	Samples int         `json:"samples"`
	L1      float64     `json:"l1"`      // mean |prediction - target| over samples and dimensions, normalised
	MeanL1  float64     `json:"mean_l1"` // the same of the training mean
	MSE     float64     `json:"mse"`     // mean squared error, normalised: the training loss
	MeanMSE float64     `json:"mean_mse"`
	DoF     []DoFReport `json:"dof"`
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

// Evaluate compares n·A predictions with their targets, both normalised by s
// and row-major [n, A]. All sums are float64 in the order of the samples.
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
	mean := make([]float32, a)
	for d := range mean {
		mean[d] = float32(s.Mean[d])
	}
	s.Normalize(mean, mean)
	p, t, mu := make([]float32, a), make([]float32, a), make([]float32, a)
	s.Denormalize(mu, mean)
	for i := 0; i < len(pred); i += a {
		s.Denormalize(p, pred[i:i+a])
		s.Denormalize(t, target[i:i+a])
		for d := 0; d < a; d++ {
			e := float64(pred[i+d]) - float64(target[i+d])
			m := float64(mean[d]) - float64(target[i+d])
			if e-e != 0 { // NaN or infinite, which JSON could not hold either
				return Report{}, fmt.Errorf("evaluate: sample %d, dimension %d (%s): the prediction is %v and the target %v; both must be finite", i/a, d, s.Names[d], pred[i+d], target[i+d])
			}
			r.L1 = float64(r.L1 + math.Abs(e))
			r.MeanL1 = float64(r.MeanL1 + math.Abs(m))
			r.MSE = float64(r.MSE + float64(e*e))
			r.MeanMSE = float64(r.MeanMSE + float64(m*m))
			r.DoF[d].MAE = float64(r.DoF[d].MAE + math.Abs(float64(p[d])-float64(t[d])))
			r.DoF[d].MeanMAE = float64(r.DoF[d].MeanMAE + math.Abs(float64(mu[d])-float64(t[d])))
		}
	}
	total := float64(len(pred))
	r.L1, r.MeanL1, r.MSE, r.MeanMSE = r.L1/total, r.MeanL1/total, r.MSE/total, r.MeanMSE/total
	for d := range r.DoF {
		r.DoF[d].Name, r.DoF[d].Unit = s.Names[d], s.Units[d]
		r.DoF[d].MAE /= float64(n)
		r.DoF[d].MeanMAE /= float64(n)
	}
	return r, nil
}

// Text is the report as a table for people.
func (r Report) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\terror\talways the mean\tof it\tunit\t")
	row := func(name string, err, mean float64, unit string) {
		share := "-"
		if mean > 0 {
			share = fmt.Sprintf("%.0f %%", 100*err/mean)
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%s\t%s\t\n", name, err, mean, share, unit)
	}
	for _, d := range r.DoF {
		row(d.Name, d.MAE, d.MeanMAE, d.Unit)
	}
	row("all, normalised (L1)", r.L1, r.MeanL1, "")
	row("all, normalised (MSE)", r.MSE, r.MeanMSE, "")
	w.Flush()
	verdict := "beats"
	if !r.BeatsMean() {
		verdict = "does not beat"
	}
	fmt.Fprintf(&b, "%d samples; the model %s always predicting the training mean\n", r.Samples, verdict)
	return b.String()
}
