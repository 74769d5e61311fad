package data

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/pkg/models"
)

// Collator turns samples into batches, a feature at a time: it decodes, resizes
// and normalises pictures, normalises numbers by their statistics and copies the
// rest, checking every shape. It keeps scratch space and is not safe for
// concurrent use.
type Collator struct {
	spec   models.Spec
	resize []*resizer // of each feature; nil: no picture, or given as values
	stats  [][]*Stats // by set, of each feature; nil: used as it is
	sets   []Meta     // by set
	meta   Meta
	plain  glance     // at pictures
	change *Augmented // of pictures in training; nil: none
}

// NewCollator makes the Collator of a data set, for measuring and asking a model:
// of pictures that training changes it shows the middle.
func NewCollator(meta Meta) (*Collator, error) {
	c := &Collator{spec: meta.Spec, resize: make([]*resizer, len(meta.Spec)), stats: make([][]*Stats, max(1, len(meta.Sets))), meta: meta, plain: meta.Augment.plain()}
	for set := range c.stats {
		in := meta.In(set)
		c.sets = append(c.sets, in)
		for _, f := range meta.Spec {
			var s *Stats
			if f.Normalise {
				s = in.StatsOf(f.Name)
			}
			c.stats[set] = append(c.stats[set], s)
		}
	}
	for i, f := range meta.Spec {
		if f.Type != models.Image {
			continue
		}
		if err := checkImageScale(meta.ImageMean, meta.ImageStd); err != nil {
			return nil, err
		}
		if f.Shape[0] != 3 && f.Shape[0] != 1 {
			continue // no picture of RGB: given as values
		}
		var err error
		if c.resize[i], err = newResizer(f.Shape[0], f.Shape[1], f.Shape[2], meta.ImageMean, meta.ImageStd); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// NewTrainingCollator makes the Collator of samples of a Feed, whose pictures are
// changed as the data says.
func NewTrainingCollator(meta Meta) (*Collator, error) {
	c, err := NewCollator(meta)
	if err == nil {
		c.change = meta.Augment
	}
	return c, err
}

// look is how pictures of feature k of x are looked at.
func (c *Collator) look(x *Sample, k int) glance {
	if c.change == nil {
		return c.plain
	}
	camera, _, _ := models.ViewOf(c.spec[k].Name)
	return c.change.draw(x.Epoch, x.ID, camera)
}

// Collate fills b, which models.NewBatch made for len(samples) samples of the
// data's Spec. Errors name the sample.
func (c *Collator) Collate(samples []Sample, b *models.Batch) error {
	if len(samples) != b.N || len(b.Values) != len(c.spec) {
		return fmt.Errorf("collate: %d samples of %s for a batch of %d of %s", len(samples), c.spec, b.N, b.Spec)
	}
	for i := range samples {
		x := &samples[i]
		b.IDs[i], b.Sets[i] = x.ID, x.Set
		switch {
		case x.Set < 0 || x.Set >= len(c.stats):
			return fmt.Errorf("%s is of set %d; the data has %d", x.name(), x.Set, len(c.stats))
		case len(x.Values) != len(c.spec):
			return c.fault(x, fmt.Errorf("%d features; expected %s", len(x.Values), c.spec))
		}
		for k := range c.spec {
			if err := c.place(b, i, k, c.stats[x.Set][k], x); err != nil {
				return c.fault(x, err)
			}
		}
	}
	return nil
}

// fault says what is wrong with a sample, by its number in its set.
func (c *Collator) fault(x *Sample, err error) error {
	if c.meta.Sets == nil {
		return &SampleError{ID: x.ID, Where: x.name(), Err: err}
	}
	own := *x
	own.ID -= uint64(c.meta.first(x.Set))
	return &SampleError{ID: own.ID, Set: setKey(x.Set), Where: own.name(), Err: err}
}

// place writes feature k of sample i, a number by its statistics.
func (c *Collator) place(b *models.Batch, i, k int, s *Stats, x *Sample) error {
	f, v := &c.spec[k], &x.Values[k]
	n := f.Size()
	switch f.Type {
	case models.Token:
		if len(v.Ints) != n {
			return fmt.Errorf("%s has %d tokens, expected %d", f.Called(), len(v.Ints), n)
		}
		copy(b.Values[k].Ints[i*n:(i+1)*n], v.Ints)
	case models.Image:
		return c.image(b.Values[k].Floats[i*n:(i+1)*n], k, x)
	default:
		if len(v.Floats) != n {
			return fmt.Errorf("%s has %d values, expected %d", f.Called(), len(v.Floats), n)
		}
		row := b.Values[k].Floats[i*n : (i+1)*n]
		if s == nil {
			copy(row, v.Floats)
			return nil
		}
		copy(row, v.Floats)
		if s.Relative != nil {
			now := c.sets[x.Set].Now(x)
			if now == nil {
				return fmt.Errorf("%s is relative to the state, which the sample has not", f.Called())
			}
			s.Relate(row, row, now)
		}
		for d := s.Dim(); len(row) > 0; row = row[d:] {
			s.Normalize(row[:d], row)
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
	ID    uint64 // number in the whole data set, as data.skip takes it; in its set, of a mixture
	Set   string // the key of that, such as data.sets[1]; empty: the data is no mixture
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
	return fmt.Errorf("%w; repair or replace it, or leave it out by %s.skip: [%d]; then resume with --accept-data-change", err, cmp.Or(e.Set, "data"), e.ID)
}

func (c *Collator) image(dst []float32, k int, x *Sample) error {
	shape, v := c.spec[k].Shape, &x.Values[k]
	img := v.Image
	switch {
	case v.Floats != nil:
		if img.H != shape[1] || img.W != shape[2] || len(v.Floats) != len(dst) {
			return &ImageError{fmt.Errorf("%d values of a %d×%d picture, expected [%d, %d, %d]", len(v.Floats), img.W, img.H, shape[0], shape[1], shape[2])}
		}
		if c.change != nil {
			return &ImageError{errGiven}
		}
		copy(dst, v.Floats)
		return nil
	case c.resize[k] == nil:
		return &ImageError{fmt.Errorf("a picture file for a model of %d channels, which are given as values", shape[0])}
	case img.Encoded != nil:
		var err error
		if img, err = decodeImage(img.Encoded); err != nil {
			return err
		}
	}
	l := c.look(x, k)
	return c.resize[k].see(dst, img, &l)
}
