package eval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
)

// ExitRow is what one way of choosing the depth costs and gives.
type ExitRow struct {
	Layer     float64 `json:"layer"`               // blocks of the stack that ran, on average
	Threshold float64 `json:"threshold,omitempty"` // of the doubt; 0: a fixed depth
	Millis    float64 `json:"ms"`                  // median time of one sample; at a threshold the mean of its depths' medians
	Error     float64 `json:"error"`               // mean squared error of the learned, normalised actions; 1 - accuracy over all targets
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

// Exits runs the samples of src, or the first limit of them where that is above
// 0, through all exits, one at a time, and works out what fixed depths and
// thresholds would have cost. src is called split in messages.
func (m Subject) Exits(ctx context.Context, src data.Source, split string, limit int) (ExitReport, error) {
	s, err := NewStager(m.Runtime, m.Model, m.Meta.Spec)
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
	collator, err := data.NewCollator(m.Meta)
	if err != nil {
		return ExitReport{}, err
	}
	b := models.NewBatch(1, m.Meta.Spec)
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
		score := newScorer(m.Model, m.Meta.In(x.Set))
		count := 0
		if err := s.Run(b, Depth{}, func(_ int, out []float32, doubt float64, spent time.Duration) {
			var sum float64
			sum, count = score.errors(out, models.Truth{Actions: b.Floats(models.Actions), Valid: b.Floats(models.Valid), Labels: s.prog.Targets()})
			records[i] = append(records[i], exitRecord{doubt, sum, spent})
		}); err != nil {
			return ExitReport{}, err
		}
		targets += count
	}
	if targets == 0 && s.words > 0 {
		return ExitReport{}, &NoTargetError{split, n, m.Model.Options().Padding()}
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
		for k+1 < len(fixed) && !(Depth{Threshold: t}).enough(rec[k].doubt, 0, 0) {
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

// Text is the table of accuracy against latency, of the split that was measured.
func (r ExitReport) Text(split string) string {
	var b strings.Builder
	what, value := "ERROR (MSE)", func(e float64) string { return fmt.Sprintf("%.4f", e) }
	if r.Tokens {
		what, value = "ACCURACY", func(e float64) string { return fmt.Sprintf("%.2f %%", 100*(1-e)) }
	}
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "DEPTH\tLAYERS\tMS/SAMPLE\t%s\tLEFT AT LAYER\n", what)
	for i, row := range r.Fixed {
		name := "exit"
		if i == len(r.Fixed)-1 {
			name = "whole model"
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.3f\t%s\t\n", name, row.Layer, row.Millis, value(row.Error))
	}
	for _, row := range r.Thresholds {
		var left []string
		for k, n := range row.Shares {
			left = append(left, fmt.Sprintf("%d: %.0f %%", r.Layers[k], float64(n)/10))
		}
		fmt.Fprintf(w, "doubt ≤ %.3g\t%.2f\t%.3f\t%s\t%s\n", row.Threshold, row.Layer, row.Millis, value(row.Error), strings.Join(left, ", "))
	}
	w.Flush()
	of, kind := "", map[string]string{"heldout": "held-out ", "train": "training "}[split]
	if r.Of > r.Samples {
		of = fmt.Sprintf("the first %d of ", r.Samples)
	}
	fmt.Fprintf(&b, "%s%d %ssamples, one at a time; ms: the median; at a threshold the mean of the medians of the depths taken\n",
		of, r.Of, kind)
	return b.String()
}
