package data

import (
	"context"
	"fmt"
	"slices"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// ReadInputs reads the inputs that a model wants from a safetensors file: the
// tensors of a tensors source, in the same types, checked and converted the
// same way. Bytes of pictures are normalised as meta says that training did, and
// seen as measuring sees them, which may be the middle of them; float values are used as they are, and other numbers are normalised as
// training did. Where the layout of pictures is ambiguous,
// that of trained, the options of the data that training had, decides. The batch has all samples of the file, numbered from 0; targets,
// which the file need not have, are zeros.
func ReadInputs(ctx context.Context, path string, wants models.Spec, trained job.Options, meta Meta) (*models.Batch, []Finding, error) {
	o := &Opening{Context: ctx, Kind: "tensors", Path: path, asIs: true}
	for _, f := range wants {
		if f.Role == models.Input {
			o.Wants = append(o.Wants, f)
		}
	}
	t, err := openTensorFile(path)
	if err != nil {
		return nil, nil, err
	}
	t.fixed = true
	defer t.f.Close()
	layout := ""
	if k, ok := trained.(Tensors); ok {
		layout = k.Layout
	}
	spec, values := wants.Clone(), make([]models.Column, len(wants))
	for k, f := range wants {
		if f.Role != models.Input {
			continue
		}
		values[k], err = o.input(t, f, layout, meta)
		if err != nil {
			return nil, nil, err
		}
		info, _ := t.f.Tensor(f.Name)
		if f.Type != models.Image { // those are as the model wants them, whatever the layout
			spec[k].Shape = slices.Clone(info.Shape[1:])
		}
	}
	if f := spec.Find(models.Labels); f != nil {
		f.Shape = []int{spec.Len(models.Instruction, 0)}
	}
	b := &models.Batch{N: t.n, IDs: make([]uint64, t.n), Spec: spec, Values: values}
	for i := range b.IDs {
		b.IDs[i] = uint64(i)
	}
	for k, f := range spec {
		if f.Role == models.Target {
			b.Values[k] = models.NewBatch(t.n, spec[k:k+1]).Values[0]
		}
	}
	return b, o.findings, nil
}

// input reads all rows of a feature.
func (o *Opening) input(t *tensorFile, f models.Feature, layout string, meta Meta) (c models.Column, err error) {
	var x *tensorRows
	switch f.Type {
	case models.Token:
		s, err := t.shape(f.Name, "[N, T]", wholeTypes(), -1, -1)
		if err != nil {
			return c, err
		}
		tokens, err := t.whole(f.Name, s[1])
		if err == nil {
			_, err = o.vocab(t, f.Name, tokens, s[1], f.Vocab, 0)
		}
		return models.Column{Ints: narrow(tokens)}, err
	case models.Image:
		var ambiguous bool
		x, ambiguous, err = t.images(f, layout)
		if err != nil && layout != "" { // the job's is of another file
			x, ambiguous, err = t.images(f, "")
		}
		if err != nil {
			return c, err
		}
		if ambiguous && layout == "" {
			o.find("layout", t.path, "give pictures as [N, C, H, W]", "%s %v could be [N, C, H, W] or [N, H, W, C], and are read as the first", f.Name, x.info.Shape)
		}
		x.normalise(meta.ImageMean, meta.ImageStd)
	default:
		if x, err = t.values(f.Name, axes(f), append([]int{-1}, open(f.Shape)...)...); err != nil {
			return c, err
		}
	}
	r, err := o.scan(x, nil)
	if err != nil {
		return c, err
	}
	if f.Type == models.Image {
		o.findRange(x, r, meta.ImageMean, meta.ImageStd)
	}
	c.Floats = make([]float32, 0, t.n*x.size)
	for i := range t.n {
		row, err := x.read(i)
		if err != nil {
			return c, fmt.Errorf("%s: row %d: %w", t.path, i, err)
		}
		if f.Type == models.Image && x.bytes {
			row = meta.Augment.plain().of(row, f.Shape)
		}
		c.Floats = append(c.Floats, row...)
	}
	if s := meta.StatsOf(f.Name); f.Normalise && s != nil {
		for row := c.Floats; len(row) > 0; row = row[s.Dim():] {
			s.Normalize(row[:s.Dim()], row)
		}
	}
	return c, nil
}
