package data

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Needs is what a model wants of its data.
type Needs = models.Needs

// NeedsOf returns the needs of a job's model, by its options.
func NeedsOf(model job.Options) Needs { return model.(models.Options).Needs() }

// Open opens the data that cfg names for a model with the given needs. Paths
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
func Open(cfg job.Data, needs Needs, seed uint64, baseDir string, meta *Meta) (Dataset, error) {
	return OpenContext(context.Background(), cfg, needs, seed, baseDir, meta, Watch{})
}

// OpenContext is Open that ends early when ctx does, with an error that wraps
// ctx's, and that is watched.
func OpenContext(ctx context.Context, cfg job.Data, needs Needs, seed uint64, baseDir string, meta *Meta, watch Watch) (Dataset, error) {
	o := &opening{ctx: ctx, watch: watch, cfg: cfg, needs: needs, seed: seed, given: meta}
	o.skip = slices.Compact(slices.Sorted(slices.Values(cfg.Skip)))
	o.path = cfg.Path
	if o.path != "" && !filepath.IsAbs(o.path) {
		o.path = filepath.Join(baseDir, o.path)
	}
	open, ok := map[string]func(*opening) (*set, error){
		"tabletop": openTabletop, "copy": openCopy, "tensors": openTensors, "rlds": openRLDS, "folder": openFolder, "recall": openRecall,
	}[cfg.Kind]
	if !ok {
		return nil, fmt.Errorf("data.kind is %q; it can be %s", cfg.Kind, strings.Join(kindNames(), ", "))
	}
	if meta != nil {
		if err := meta.Check(); err != nil {
			return nil, err
		}
		if meta.Kind != cfg.Kind && meta.Fingerprint != "" {
			return nil, fmt.Errorf("%w: data.kind is %q, the checkpoint's was %q", ErrOtherData, cfg.Kind, meta.Kind)
		}
	}
	d, err := o.openSets(baseDir, open)
	if err != nil {
		return nil, fmt.Errorf("%s data: %w", cfg.Kind, err)
	}
	d.about.path = o.path
	d.findings = sync.OnceValue(func() []Finding {
		for _, look := range o.later {
			look()
		}
		return o.findings
	})
	if err := o.finish(d); err != nil {
		d.Close()
		return nil, fmt.Errorf("%s data: %w", cfg.Kind, err)
	}
	return d, nil
}

// opening is one call of Open.
type opening struct {
	ctx   context.Context
	watch Watch
	cfg   job.Data
	needs Needs
	seed  uint64
	path  string
	skip  []int // data.skip, ascending
	given *Meta
	held  bool // a held-out set of its own, for which given is the training set's

	findings []Finding    // see find
	later    []func()     // finds what costs a while to find, when somebody asks: workers do not
	pictures pictureTally // see picture
}

// owner is whose data given describes.
func (o *opening) owner() string {
	if o.held {
		return "the training set"
	}
	return "the checkpoint's data"
}

// file returns the path, which file sources must have.
func (o *opening) file() (string, error) {
	if o.path == "" {
		return "", fmt.Errorf("data.path is not set")
	}
	if _, err := os.Stat(o.path); errors.Is(err, fs.ErrNotExist) {
		return "", missingFile{fmt.Sprintf("there is no %s: check the path; in a job file it starts at the file's own folder", o.path)}
	}
	return o.path, nil
}

// lacks refuses needs that a source cannot meet.
func (o *opening) lacks(what ...string) error {
	for _, w := range what {
		bad := false
		switch w {
		case "images":
			bad = o.needs.Image[0] > 0
		case "instruction tokens":
			bad = o.needs.Tokens
		case "labels":
			bad = o.needs.Labels
		case "actions":
			bad = o.needs.Actions
		case "features":
			bad = o.needs.Features
		}
		if bad {
			return fmt.Errorf("the model needs %s, which this kind of data does not have", w)
		}
	}
	return nil
}

// same compares a computed fingerprint with the given Meta's.
func (o *opening) same(fingerprint string) error {
	if o.given != nil && o.given.Fingerprint != "" && o.given.Fingerprint != fingerprint && !o.watch.Other {
		return fmt.Errorf("%w: fingerprint %s, the checkpoint's is %s; its content, camera, split or held-out episodes differ", ErrOtherData, fingerprint, o.given.Fingerprint)
	}
	return nil
}

// base begins a Meta: fingerprint, image shape and scale.
func (o *opening) base(fingerprint string) (Meta, error) {
	if err := o.same(fingerprint); err != nil {
		return Meta{}, err
	}
	m := Meta{Kind: o.cfg.Kind, Fingerprint: fingerprint}
	m.Spec.Image = o.needs.Image
	if o.needs.Image[0] > 0 {
		m.ImageMean, m.ImageStd = imageMean, imageStd
		if g := o.given; g != nil {
			if g.Spec.Image != o.needs.Image {
				return m, fmt.Errorf("the model takes images of %v (channels, height, width), %s gave %v", o.needs.Image, o.owner(), g.Spec.Image)
			}
			m.ImageMean, m.ImageStd = g.ImageMean, g.ImageStd
		}
		if o.cfg.Kind != "tensors" { // those are never resized
			if _, err := NewResizer(m.Spec.Image[0], m.Spec.Image[1], m.Spec.Image[2], m.ImageMean, m.ImageStd); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

// words settles tokens and vocabulary. vocab and longest (tokens of the longest
// instruction) are of the training split, and asked for only where they count.
func (o *opening) words(m *Meta, vocab func() []string, longest func() int) error {
	if !o.needs.Tokens {
		return nil
	}
	if g := o.given; g != nil {
		if g.Spec.Tokens < 1 || len(g.Vocab) == 0 {
			return fmt.Errorf("the model takes instructions, but %s has no vocabulary", o.owner())
		}
		m.Spec.Tokens, m.Vocab, m.VocabSize = g.Spec.Tokens, g.Vocab, g.VocabSize
	} else {
		m.Vocab = vocab()
		m.VocabSize = len(m.Vocab)
		m.Spec.Tokens = o.cfg.MaxTokens
		if m.Spec.Tokens == 0 {
			m.Spec.Tokens = max(longest(), 1)
		}
	}
	if n := o.needs.VocabSize; n > 0 {
		if len(m.Vocab) > n {
			return keyError("model.vocab_size", "the instructions' vocabulary has %d words (with padding and unknown), model.vocab_size is %d: raise it, or leave it out to take the data's", len(m.Vocab), n)
		}
		m.VocabSize = n
	}
	return o.limitTokens(m.Spec.Tokens)
}

func (o *opening) limitTokens(n int) error {
	if o.cfg.MaxTokens < 0 {
		return fmt.Errorf("data.max_tokens is %d; it must be at least 1, or 0 for the longest of the training split", o.cfg.MaxTokens)
	}
	if o.needs.MaxTokens > 0 && n > o.needs.MaxTokens {
		return keyError("model.max_len", "instructions have up to %d tokens, model.max_len is %d: raise it, or set data.max_tokens to cut them", n, o.needs.MaxTokens)
	}
	return nil
}

// actionRows are the physical actions of one split.
type actionRows struct {
	n     int
	at    func(i int) []float32
	place func(i int) string // file and line, or episode and frame
}

// actions settles what the actions' dimensions are called and their statistics,
// and notes what is odd about their scales. own is what the data itself calls
// them, and read returns both splits; a synthetic source is read for its
// statistics alone.
func (o *opening) actions(m *Meta, dim int, own labels, read func() (train, held actionRows)) error {
	if !o.needs.Actions {
		return nil
	}
	if n := o.needs.ActionDim; n > 0 && n != dim {
		return keyError("model.action_dim", "actions have %d dimensions, model.action_dim is %d", dim, n)
	}
	m.Spec.Action = dim
	if g := o.given; g != nil {
		if g.Spec.Action != dim {
			return fmt.Errorf("actions have %d dimensions, the statistics of %s are of %d", dim, o.owner(), g.Spec.Action)
		}
		s := *g.Actions
		m.Actions = &s
		own = labels{s.Names, s.Units}
	}
	l, err := labelled(dim, labels{o.cfg.ActionNames, o.cfg.ActionUnits}, own)
	if err != nil {
		return err
	}
	if o.given != nil && o.path == "" {
		m.Actions.Names, m.Actions.Units = l.names, l.units
		return nil
	}
	train, held := read()
	if m.Actions == nil {
		mode := o.cfg.Normalize
		if mode == "" && o.cfg.Kind == "tensors" {
			mode = None
		}
		if m.Actions, err = ComputeStats(mode, train.n, dim, train.at); err != nil {
			return err
		}
	}
	m.Actions.Names, m.Actions.Units = l.names, l.units
	o.later = append(o.later, func() { o.findScales(m.Actions, train, held) })
	return nil
}

// holdoutLabel is the held-out choice as part of a fingerprint. The seed counts
// only where it chooses.
func (o *opening) holdoutLabel() (s string) {
	if len(o.skip) > 0 {
		defer func() { s += fmt.Sprint(" without ", o.skip) }()
	}
	if o.cfg.Holdout.Fraction > 0 {
		return fmt.Sprintf("fraction %v of seed %d", o.cfg.Holdout.Fraction, o.seed)
	}
	return fmt.Sprint(o.cfg.Holdout.Episodes)
}
