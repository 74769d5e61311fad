package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// exits measures a checkpoint's exits on src: on all of it, or on its first
// samples where that is above 0.
func (t opened) exits(ctx context.Context, src data.Source, split string, threads, samples int) (eval.ExitReport, error) {
	rt := tensor.NewRuntime(max(threads, 1))
	defer rt.Close()
	m := eval.Subject{Runtime: rt, Model: t.Model, Meta: t.Meta, Head: train.HeadOf(t.Job)}
	return m.Exits(ctx, src, split, samples)
}

// exitsText is the table of accuracy against latency.
func exitsText(r eval.ExitReport, split string) string {
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
	fmt.Fprintf(&b, "%s%d %ssamples, one at a time; ms: the median; at a threshold the mean of the medians of the depths taken\n", of, r.Of, kind)
	return b.String()
}

// plotExits draws the table.
func plotExits(path string, r eval.ExitReport, title string) error {
	y := "mean squared error"
	if r.Tokens {
		y = "share of tokens named wrong"
	}
	line := func(name string, rows []eval.ExitRow) (l picture.Line) {
		l.Name = name
		for _, row := range rows {
			l.X, l.Y = append(l.X, row.Millis), append(l.Y, row.Error)
		}
		return l
	}
	lines := []picture.Line{line("a fixed exit", r.Fixed)}
	if len(r.Thresholds) > 0 {
		lines = append(lines, line("a threshold of doubt", r.Thresholds))
	}
	page := picture.Page{Panels: [][]picture.Panel{{&picture.Lines{Title: title, X: "milliseconds a sample", Y: y, Lines: lines}}}, Width: 640, Height: 420}
	return page.WritePNG(path)
}

// predictExits runs the samples of b one at a time as deep as depth wants, and
// writes the outputs with the layers that each took.
func (t opened) predictExits(rt *tensor.Runtime, b *models.Batch, depth eval.Depth, out string) (string, error) {
	s, err := eval.NewStager(rt, t.Model, b.Spec, train.HeadOf(t.Job))
	if err != nil {
		return "", err
	}
	defer s.Close()
	one := models.NewBatch(1, b.Spec)
	var values []float32
	layers := make([]int64, b.N)
	for i := range b.N {
		copySample(one, b, i)
		var last []float32
		if err := s.Run(one, depth, func(k int, o []float32, _ float64, _ time.Duration) {
			last, layers[i] = o, int64(s.Layers()[k])
		}); err != nil {
			return "", err
		}
		values = append(values, last...)
	}
	name, shape := "actions", []int{b.N, len(values) / b.N}
	if n := b.Spec.Len(models.Labels, 0); t.Model.Options().Answers() == models.Tokens {
		name, shape = "logits", []int{b.N, n, len(values) / b.N / n}
	}
	mean := 0.0
	for _, l := range layers {
		mean += float64(l) / float64(b.N)
	}
	return fmt.Sprintf("%d samples, %.2f layers on average of %d", b.N, mean, s.Layers()[len(s.Layers())-1]),
		writeTensors(out, []safetensors.Tensor{{Name: name, Shape: shape, Data: values}, {Name: "layers", Shape: []int{b.N}, Data: layers}})
}

// copySample makes dst, a batch of one, sample i of src.
func copySample(dst, src *models.Batch, i int) {
	for k, d := range dst.Values {
		copy(d.Floats, src.Values[k].Floats[i*len(d.Floats):])
		copy(d.Ints, src.Values[k].Ints[i*len(d.Ints):])
	}
	dst.IDs[0] = src.IDs[i]
}
