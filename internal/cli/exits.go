package cli

import (
	"context"
	"fmt"

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
	values, layers, err := s.All(b, depth)
	if err != nil {
		return "", err
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
