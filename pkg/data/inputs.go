package data

import (
	"context"
	"fmt"

	"github.com/vlaring/vlaring/pkg/job"
)

// Inputs are the samples of a file for a trained model, without targets.
type Inputs struct {
	N                int
	Images           []float32 // [N, C, H, W]
	Tokens           []int32   // [N, T]
	T                int
	Vision, Language []float32 // [N, P, Dv], [N, Tl, Dl]
	VisionShape      [2]int    // P, Dv
	LanguageShape    [2]int    // Tl, Dl
	Findings         []Finding
}

// ReadInputs reads the inputs that a model needs from a safetensors file: the
// tensors of a tensors source, in the same types, checked and converted the
// same way. Bytes of pictures are normalised as meta says that training did;
// float values are used as they are. layout decides where the layout of pictures
// is ambiguous.
func ReadInputs(ctx context.Context, path string, needs Needs, layout string, meta Meta) (in Inputs, err error) {
	o := &opening{ctx: ctx, cfg: job.Data{Kind: "tensors", Path: path, Layout: layout}, needs: needs, path: path}
	o.needs.Actions, o.needs.Labels = false, false // targets are not read
	t, err := openTensorFile(path)
	if err != nil {
		return in, err
	}
	t.fixed = true
	defer t.f.Close()
	read := func(x *tensorRows) ([]float32, error) {
		r, err := o.scan(x, nil)
		if err != nil {
			return nil, err
		}
		if x.c > 0 {
			o.findRange(x, r, meta.ImageMean, meta.ImageStd)
		}
		all := make([]float32, 0, t.n*x.size)
		for i := range t.n {
			row, err := x.read(i)
			if err != nil {
				return nil, fmt.Errorf("%s: row %d: %w", path, i, err)
			}
			all = append(all, row...)
		}
		return all, nil
	}
	if im := needs.Image; im[0] > 0 {
		x, ambiguous, err := t.images(im, layout)
		if err != nil && layout != "" { // the job's is of another file
			x, ambiguous, err = t.images(im, "")
		}
		if err != nil {
			return in, err
		}
		if ambiguous && layout == "" {
			o.find("layout", path, "give pictures as [N, C, H, W]", "images %v could be [N, C, H, W] or [N, H, W, C], and are read as the first", x.info.Shape)
		}
		x.mean, x.std = meta.ImageMean, meta.ImageStd
		if in.Images, err = read(x); err != nil {
			return in, err
		}
	}
	if needs.Tokens {
		s, err := t.shape("instruction_tokens", "[N, T]", wholeTypes(), -1, -1)
		if err != nil {
			return in, err
		}
		tokens, err := t.whole("instruction_tokens", s[1])
		if err != nil {
			return in, err
		}
		if _, err := o.vocab(t, "instruction_tokens", tokens, s[1], needs.VocabSize, 0); err != nil {
			return in, err
		}
		in.Tokens, in.T = narrow(tokens), s[1]
	}
	if needs.Features {
		vision, language, err := t.features(needs)
		if err != nil {
			return in, err
		}
		in.VisionShape, in.LanguageShape = [2]int(vision.info.Shape[1:]), [2]int(language.info.Shape[1:])
		if in.Vision, err = read(vision); err != nil {
			return in, err
		}
		if in.Language, err = read(language); err != nil {
			return in, err
		}
	}
	in.N, in.Findings = t.n, o.findings
	return in, nil
}
