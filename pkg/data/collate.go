package data

import (
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/pkg/models"
)

// Collator turns samples into batches: it decodes, resizes and normalises the
// pictures, normalises the actions and copies the rest, checking every shape. It keeps scratch space
// and is not safe for concurrent use.
type Collator struct {
	spec    models.Spec
	resize  *Resizer // nil: no images, or given as floats
	actions *Stats   // nil: they are used as they are
}

// NewCollator makes the Collator of a data set.
func NewCollator(meta Meta) (*Collator, error) {
	c := &Collator{spec: meta.Spec, actions: meta.Actions}
	if im := meta.Spec.Image; im[0] > 0 {
		if err := checkImageScale(meta.ImageMean, meta.ImageStd); err != nil {
			return nil, err
		}
		if meta.Kind == "tensors" && im[0] != 3 && im[0] != 1 {
			return c, nil // given as floats, of any number of channels
		}
		var err error
		if c.resize, err = NewResizer(im[0], im[1], im[2], meta.ImageMean, meta.ImageStd); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Collate fills b, which models.NewBatch made for len(samples) samples of the
// data's Spec. Errors name the sample.
func (c *Collator) Collate(samples []Sample, b *models.Batch) error {
	if len(samples) != b.N {
		return fmt.Errorf("collate: %d samples for a batch of %d", len(samples), b.N)
	}
	s := c.spec
	for i := range samples {
		x := &samples[i]
		b.IDs[i] = x.ID
		if s.Image[0] > 0 {
			size := s.Image[0] * s.Image[1] * s.Image[2]
			if err := c.image(b.Images[i*size:(i+1)*size], x.Image); err != nil {
				return &SampleError{x.ID, x.name(), err}
			}
		}
		labels := 0
		if s.Labels {
			labels = s.Tokens
		}
		for _, err := range [...]error{
			place(b.Tokens, i, x.Tokens, s.Tokens, "instruction tokens"),
			place(b.Labels, i, x.Labels, labels, "labels"),
			place(b.Actions, i, x.Action, s.Action, "action values"),
			place(b.Vision, i, x.Vision, s.Vision[0]*s.Vision[1], "vision feature values"),
			place(b.Language, i, x.Language, s.Language[0]*s.Language[1], "language feature values"),
		} {
			if err != nil {
				return &SampleError{x.ID, x.name(), err}
			}
		}
		if c.actions != nil && s.Action > 0 {
			row := b.Actions[i*s.Action : (i+1)*s.Action]
			c.actions.Normalize(row, row)
		}
	}
	return nil
}

// name is the sample in messages.
func (s *Sample) name() string {
	if s.Origin == "" {
		return fmt.Sprintf("sample %d", s.ID)
	}
	return fmt.Sprintf("sample %d (%s)", s.ID, s.Origin)
}

// SampleError is what is wrong with one sample. Its text is Err's, behind the
// sample's name where Err does not name it.
type SampleError struct {
	ID    uint64 // number in the whole data set, as data.skip takes it
	Where string
	Err   error
}

func (e *SampleError) Error() string {
	if e.Where == "" {
		return e.Err.Error()
	}
	return e.Where + ": " + e.Err.Error()
}

func (e *SampleError) Unwrap() error { return e.Err }

// withWayOn adds to an error about a sample how a run goes on that met it.
func withWayOn(err error) error {
	var e *SampleError
	if !errors.As(err, &e) {
		return err
	}
	return fmt.Errorf("%w; repair or replace it, or leave it out by data.skip: [%d]; then resume with --accept-data-change", err, e.ID)
}

// place copies row i of n values; a batch without the field takes none.
func place[T any](dst []T, i int, src []T, n int, what string) error {
	if n == 0 {
		return nil
	}
	if len(src) != n {
		return fmt.Errorf("%d %s, expected %d", len(src), what, n)
	}
	copy(dst[i*n:(i+1)*n], src)
	return nil
}

func (c *Collator) image(dst []float32, img Image) error {
	switch {
	case img.Floats != nil:
		if im := c.spec.Image; img.H != im[1] || img.W != im[2] || len(img.Floats) != len(dst) {
			return &ImageError{fmt.Errorf("%d values of a %d×%d picture, expected [%d, %d, %d]", len(img.Floats), img.W, img.H, im[0], im[1], im[2])}
		}
		copy(dst, img.Floats)
		return nil
	case c.resize == nil:
		return &ImageError{fmt.Errorf("a picture file for a model of %d channels, which are given as values", c.spec.Image[0])}
	case img.Encoded != nil:
		var err error
		if img, err = DecodeImage(img.Encoded); err != nil {
			return err
		}
	}
	return c.resize.Apply(dst, img)
}
