package data

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// WantsOf returns the features that a job's model wants, by its options.
func WantsOf(model job.Options) models.Spec {
	return model.(interface{ Wants() models.Spec }).Wants()
}

// Open opens the data that cfg names for a model that wants the given features
// (models.Config.Wants); what is open in them takes what the data has. Paths
// that are not absolute are relative to baseDir. seed is the job's: synthetic
// data and the choice of held-out episodes follow it.
//
// Without meta everything that training fixes (vocabulary, statistics, shapes)
// is computed from the training split. With meta, a checkpoint's, it is taken
// from there, and the data must be the same: else the error is ErrOtherData.
// A caller that means to use a trained model on other data clears
// meta.Fingerprint first.
//
// Open reads and checks the whole of a file source but the pixels of its
// pictures, of which it checks the header; errors name file, record or line.
func Open(cfg job.Data, wants models.Spec, seed uint64, baseDir string, meta *Meta) (Dataset, error) {
	return OpenContext(context.Background(), cfg, wants, seed, baseDir, meta, Watch{})
}

// OpenContext is Open that ends early when ctx does, with an error that wraps
// ctx's, and that is watched.
func OpenContext(ctx context.Context, cfg job.Data, wants models.Spec, seed uint64, baseDir string, meta *Meta, watch Watch) (Dataset, error) {
	open, ok := cfg.Options.(Options)
	if !ok {
		return nil, fmt.Errorf("data.kind is %q; it can be %s", cfg.Kind, strings.Join(kindNames(), ", "))
	}
	if err := check(cfg, wants); err != nil {
		return nil, err
	}
	o := &Opening{Context: ctx, Kind: cfg.Kind, Path: cfg.Path, base: baseDir, Seed: seed, Holdout: cfg.Holdout, Wants: wants, watch: watch, given: meta}
	if o.Path != "" {
		var err error
		if o.Path, err = watch.local(ctx, job.Abs(baseDir, o.Path)); err != nil {
			return nil, fmt.Errorf("%s data: %w", cfg.Kind, err)
		}
	}
	o.take(open)
	if meta != nil {
		o.Wants = inOrderOf(wants, meta.Spec)
		if err := meta.Check(); err != nil {
			return nil, err
		}
		if meta.Kind != cfg.Kind && meta.Fingerprint != "" {
			return nil, fmt.Errorf("%w: data.kind is %q, the checkpoint's was %q", ErrOtherData, cfg.Kind, meta.Kind)
		}
	}
	for _, f := range wants {
		if gives := open.Gives(); !slices.Contains(gives, f.Name) && !slices.Contains(gives, job.Any) {
			return nil, fmt.Errorf("%s data: the model needs %s, which this kind of data does not have", o.Kind, f.Name)
		}
	}
	err := o.takeWordings(open)
	if err != nil {
		return nil, fmt.Errorf("%s data: %w", cfg.Kind, err)
	}
	d, err := o.openSets(baseDir, open)
	if err != nil {
		return nil, fmt.Errorf("%s data: %w", cfg.Kind, err)
	}
	d.about.path = o.Path
	if d.meta.Augment = nil; meta != nil {
		d.meta.Augment = meta.Augment
	} else if o.Augment.Active() {
		d.meta.Augment = &Augmented{o.Augment, seed}
	}
	d.scans = append(d.scans, o.scanned()...)
	d.findings = sync.OnceValue(func() []Finding {
		for _, look := range o.later {
			look()
		}
		return o.findings
	})
	switch err = settled(d.meta); {
	case err != nil:
	case o.wordings != nil && d.meta.Worded == nil: // of a kind from elsewhere, which brings its samples itself
		err = keyError("data.wordings", "data.wordings is given, and data.kind %s shows instructions as they are: leave the key out", cfg.Kind)
	case !watch.part:
		err = o.missing(d.unsaid)
	}
	if err == nil {
		err = o.finish(d)
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("%s data: %w", cfg.Kind, err)
	}
	return d, nil
}

// Opening is one call of Open: what a source is opened for, and what helps it.
// Its methods settle a Meta and make a Set of it.
type Opening struct {
	Context context.Context
	Kind    string
	Path    string // absolute, or relative to the working directory; empty: none
	Seed    uint64 // the job's
	Holdout job.Holdout
	Wants   models.Spec // of the model, in the order of the given Meta's where there is one

	WordKeys // the keys that several kinds have; zero where the kind has them not
	ActionKeys
	FrameKeys
	AugmentKeys
	base  string  // that paths of the job are relative to
	skip  []int   // data.skip, ascending
	asIs  bool    // pictures are values of the model's shape and are not resized
	rate  float64 // frames a second; 0: the data does not say
	watch Watch
	given *Meta
	held  bool // a held-out set of its own, for which given is the training set's

	called   map[string]string // what the data calls features, by name; see calls
	findings []Finding         // see find
	later    []func()          // finds what costs a while to find, when somebody asks: workers do not
	pictures pictureTally      // see picture
	scanning *scanning         // of a file source; see scanFiles
	wordings *wordings         // of data.wordings; nil: none

	ranges map[string]valueRange // of tensors that need not be looked through again; nil: they are not kept
}

// owner is whose data given describes.
func (o *Opening) owner() string {
	if o.held {
		return "the training set"
	}
	return "the checkpoint's data"
}

// file returns the path, which file sources must have.
func (o *Opening) file() (string, error) {
	if _, err := os.Stat(o.Path); errors.Is(err, fs.ErrNotExist) {
		return "", missingFile{fmt.Sprintf("there is no %s: check the path; in a job file it starts at the file's own folder", o.Path)}
	}
	return o.Path, nil
}

// take copies the keys that several kinds have.
func (o *Opening) take(k Options) {
	if x, ok := k.(interface{ words() WordKeys }); ok {
		o.WordKeys = x.words()
	}
	if x, ok := k.(interface{ scaling() ActionKeys }); ok {
		o.ActionKeys = x.scaling()
	}
	if x, ok := k.(interface{ frames() FrameKeys }); ok {
		o.FrameKeys = x.frames()
	}
	if x, ok := k.(interface{ augment() Augment }); ok {
		o.Augment = x.augment()
	}
	if x, ok := k.(interface{ files() FileKeys }); ok {
		o.skip = slices.Compact(slices.Sorted(slices.Values(x.files().Skip)))
	}
}

// labels are what the job calls the dimensions of the actions.
func (o *Opening) labels() Labels { return Labels{o.ActionNames, o.ActionUnits} }

// calls notes what the data calls a feature.
func (o *Opening) calls(name, data string) {
	if o.called == nil {
		o.called = map[string]string{}
	}
	o.called[name] = data
}

// callsViews notes what the data calls the cameras, in the order of the model's.
func (o *Opening) callsViews(cameras []string) {
	for n, c := range cameras {
		for past := range max(o.History, 1) {
			o.calls(models.View(n, past), c)
		}
	}
}

// image is the shape of the pictures that the model wants; zeros: none.
func (o *Opening) image() (shape [3]int) {
	for _, f := range o.Wants {
		if f.Type == models.Image {
			copy(shape[:], f.Shape)
			return shape
		}
	}
	return shape
}

// vocabSize is the size of the vocabulary that the model's tokens have; 0: open.
func (o *Opening) vocabSize() int {
	if f := o.Wants.Find(models.Instruction); f != nil {
		return f.Vocab
	}
	return 0
}

// longest is the most tokens that the model takes; 0: no limit.
func (o *Opening) longest() int {
	if f := o.Wants.Find(models.Instruction); f != nil {
		return f.Max
	}
	return 0
}

// inOrderOf returns wants in the order of a given Spec of the same names, as a
// checkpoint's samples have it.
func inOrderOf(wants, given models.Spec) models.Spec {
	out := make(models.Spec, 0, len(wants))
	for _, f := range given {
		if w := wants.Find(f.Name); w != nil {
			out = append(out, *w)
		}
	}
	for _, w := range wants {
		if !given.Has(w.Name) {
			out = append(out, w)
		}
	}
	return out
}

// same compares a computed fingerprint with the given Meta's.
func (o *Opening) same(fingerprint string) error {
	if o.given != nil && o.given.Fingerprint != "" && o.given.Fingerprint != fingerprint && !o.watch.Other {
		if how := rewordedSince(o.given, &Meta{Worded: o.wordings.describe()}); how != "" && o.given.Sets == nil {
			return fmt.Errorf("%w: %s", ErrOtherData, how)
		}
		return fmt.Errorf("%w: fingerprint %s, the checkpoint's is %s; its content, camera, split or held-out episodes differ", ErrOtherData, fingerprint, o.given.Fingerprint)
	}
	return nil
}

// Meta begins a Meta: fingerprint, features as the model wants them, and the
// scale of pictures. Lengths that the model leaves open are the source's to
// settle.
func (o *Opening) Meta(fingerprint string) (Meta, error) {
	if w := o.wordings; w != nil {
		fingerprint = NewFingerprint("worded").Add("data", fingerprint).Add("wordings", w.sum).Sum()
	}
	if err := o.same(fingerprint); err != nil {
		return Meta{}, err
	}
	m := Meta{Kind: o.Kind, Fingerprint: fingerprint, Spec: o.Wants.Clone(), Rate: o.rate}
	for i := range m.Spec {
		f := &m.Spec[i]
		f.Source, f.Max, f.Vocab, f.Pad, f.Axes = o.called[f.Name], 0, 0, 0, ""
		if f.Type != models.Image {
			continue
		}
		m.ImageMean, m.ImageStd = imageMean, imageStd
		if f.Std != [3]float32{} { // what a pretrained encoder was shown
			m.ImageMean, m.ImageStd = f.Mean, f.Std
		}
		f.Mean, f.Std = [3]float32{}, [3]float32{}
		if g := o.given; g != nil {
			m.ImageMean, m.ImageStd = g.ImageMean, g.ImageStd
			if was := g.Spec.Find(f.Name); was == nil || !slices.Equal(was.Shape, f.Shape) {
				has := "none"
				if was != nil {
					has = fmt.Sprint(was.Shape)
				}
				return m, fmt.Errorf("the model takes %s of %v (channels, height, width), %s gave %s", f.Called(), f.Shape, o.owner(), has)
			}
		}
		if !o.asIs {
			if _, err := newResizer(f.Shape[0], f.Shape[1], f.Shape[2], m.ImageMean, m.ImageStd); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

// settled refuses a Meta in which the source left the length of a feature open.
func settled(m Meta) error {
	for _, f := range m.Spec {
		if f.Size() < 1 {
			return fmt.Errorf("the model needs %s, which this data does not have", f)
		}
	}
	return nil
}

func (o *Opening) limitTokens(n int) error {
	if most := o.longest(); most > 0 && n > most {
		if f := o.Wants.Find(models.Instruction); f.From != "" {
			return keyError("data.max_tokens", "instructions have up to %d tokens, and the encoder of %s takes %d at most: data.max_tokens: %d cuts them", n, f.From, most, most)
		}
		return keyError("model.max_len", "instructions have up to %d tokens, model.max_len is %d: raise it, or set data.max_tokens to cut them", n, most)
	}
	return nil
}

// Rows are the physical values of a feature of numbers in one split: N rows of
// its last axis.
type Rows struct {
	N     int
	At    func(i int) []float32
	Place func(i int) string // file and line, or episode and frame
}

// Numbers settles a feature of numbers, such as the actions, of which the data
// has the shape: what the places of its last axis are called and their
// statistics. read gives the rows of that axis in both splits, and is asked only
// where they count.
func (o *Opening) Numbers(m *Meta, name string, shape []int, own Labels, read func() (train, held Rows)) error {
	f := m.Spec.Find(name)
	if f == nil {
		return nil
	}
	dim := shape[len(shape)-1]
	for i, n := range f.Shape {
		switch {
		case len(shape) == len(f.Shape) && (n == 0 || n == shape[i]):
		case name == models.Actions && len(shape) == len(f.Shape) && i == len(shape)-1:
			return keyError("model.action_dim", "actions have %d dimensions, model.action_dim is %d", dim, n)
		default:
			return fmt.Errorf("%s has the shape %v, the model takes %s", f.Called(), shape, f)
		}
	}
	f.Shape = shape
	if !f.Normalise {
		return nil
	}
	var stats *Stats
	if g := o.given; g != nil {
		was := g.StatsOf(name)
		if was == nil || was.Dim() != dim {
			of := 0
			if was != nil {
				of = was.Dim()
			}
			return fmt.Errorf("%s have %d dimensions, the statistics of %s are of %d", name, dim, o.owner(), of)
		}
		s := *was
		stats = &s
		own = Labels{s.Names, s.Units}
	}
	var jobs Labels
	if name == models.Actions {
		jobs = o.labels()
	}
	l, err := labelled(dim, jobs, own)
	if err != nil {
		return named(name, err)
	}
	defer func() {
		if stats != nil {
			stats.Names, stats.Units = l.Names, l.Units
			m.setStats(name, stats)
		}
	}()
	if o.given != nil && o.Path == "" {
		return nil
	}
	train, held := read()
	if stats == nil {
		scaling, key := o.scale(name)
		if stats, err = ComputeStats(scaling.Mode, train.N, dim, train.At); err != nil {
			return named(name, err)
		}
		stats.Names = l.Names
		if err := stats.take(scaling, key); err != nil {
			return err
		}
	}
	o.later = append(o.later, func() { o.findScales(stats, train, held) })
	return nil
}

// named says which feature an error is about, where its text speaks of actions.
func named(name string, err error) error {
	if name == models.Actions {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Division is the held-out choice as part of a fingerprint. The seed counts
// only where it chooses.
func (o *Opening) Division() (s string) {
	if len(o.skip) > 0 {
		defer func() { s += fmt.Sprint(" without ", o.skip) }()
	}
	if o.Holdout.Fraction > 0 {
		return fmt.Sprintf("fraction %v of seed %d", o.Holdout.Fraction, o.Seed)
	}
	return fmt.Sprint(o.Holdout.Episodes)
}
