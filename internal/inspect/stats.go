package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
)

// featureStats are the statistics of a feature over the training split, for scripts.
type featureStats struct {
	Feature    string           `json:"feature"`
	Source     string           `json:"source"` // what the data calls it
	Normalize  string           `json:"normalize"`
	Count      int              `json:"count"`
	Dimensions []dimensionStats `json:"dimensions"`
}

// dimensionStats are those of one dimension, and how it is normalised: (x − offset) / by.
type dimensionStats struct {
	Name      string  `json:"name"`
	Unit      string  `json:"unit,omitempty"`
	Mean      float64 `json:"mean"`
	Std       float64 `json:"std"`
	Min       float64 `json:"min"`
	Max       float64 `json:"max"`
	Q01       float64 `json:"q01"`
	Q99       float64 `json:"q99"`
	Offset    float64 `json:"offset"`
	By        float64 `json:"by"`
	Variation string  `json:"variation"`
}

// Stats tells the statistics of all numbers that are normalised and what
// normalisation makes of them. No picture is decoded. Its errors are of Info's kinds.
func Stats(ctx context.Context, o Options) error {
	t, err := o.target()
	if err != nil {
		return err
	}
	v := view.NewScan(o.Progress, "scanning")
	d, err := data.OpenContext(ctx, t.cfg, t.wants, t.seed, t.base, nil, data.Watch{Scans: o.Scans, Progress: v.Progress})
	v.End()
	switch {
	case ctx.Err() != nil:
		return run.ResumableError{Text: "stopped by Ctrl-C"}
	case err != nil:
		return o.opening(err)
	}
	if err = o.stats(d); err == nil {
		err = o.page(d, d.Findings())
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// stats tells those of one data set.
func (o *Options) stats(d data.Dataset) error {
	m := d.Meta()
	if !o.JSON {
		fmt.Fprintf(o.Out, "%s data: %s to train on\n", m.Kind, counted(m.Train, "sample"))
	}
	for _, f := range m.Spec {
		s := m.StatsOf(f.Name)
		if s == nil {
			continue
		}
		of := featureStats{Feature: f.Name, Source: f.Called(), Normalize: s.How(), Count: s.Count}
		for i := range s.Dim() {
			c := s.Scale(i)
			of.Dimensions = append(of.Dimensions, dimensionStats{s.Names[i], s.Units[i], s.Mean[i], s.Std[i], s.Min[i], s.Max[i], s.Q01[i], s.Q99[i], c.Offset, c.By, c.Variation.String()})
		}
		if o.JSON {
			if err := json.NewEncoder(o.Out).Encode(of); err != nil {
				return err
			}
			continue
		}
		of.text(o.Out, s)
	}
	for _, f := range d.Findings() {
		if o.JSON {
			if err := json.NewEncoder(o.Out).Encode(map[string]any{"finding": f}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(o.Out, "warning: %s\n", f)
	}
	return nil
}

// text is the table for people. The last columns are what the least and the largest
// value become.
func (of featureStats) text(out io.Writer, s *data.Stats) {
	called := of.Feature
	if of.Source != called {
		called += " (" + of.Source + ")"
	}
	fmt.Fprintf(out, "%s, normalised by %s over %s rows\n", called, of.Normalize, view.Grouped(int64(of.Count)))
	least, most := make([]float32, s.Dim()), make([]float32, s.Dim())
	for i, d := range of.Dimensions {
		least[i], most[i] = float32(d.Min), float32(d.Max)
	}
	s.Normalize(least, least)
	s.Normalize(most, most)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tmean\tstd\tmin\tq01\tq99\tmax\tunit\tbecomes\tto\t")
	for i, d := range of.Dimensions {
		note := ""
		if d.Variation != data.Varies.String() {
			note = d.Variation + ", not learned"
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.4g\t%.4g\t%.4g\t%.4g\t%s\t%.3g\t%.3g\t%s\n", d.Name, d.Mean+0, d.Std, d.Min+0, d.Q01+0, d.Q99+0, d.Max+0, d.Unit, least[i]+0, most[i]+0, note)
	}
	w.Flush()
}
