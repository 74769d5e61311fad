package data

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
)

// A held-out set of its own: another split of the data set (data.holdout.split)
// or another data set of the same kind (data.holdout.path). It is opened with
// the training set's vocabulary, statistics and shapes, which it must fit, and
// none of it is trained on. Samples are numbered on from the training set's.

// openSets opens the job's data by open: one set that is divided, or two.
func (o *Opening) openSets(baseDir string, k Options) (*Set, error) {
	h := o.Holdout
	if h.Split == "" && h.Path == "" {
		return k.Open(o)
	}
	if h.Fraction != 0 || len(h.Episodes) > 0 {
		return nil, errors.New("data.holdout has both a split or path and fraction or episodes: give one of them")
	}
	main, other := *o, *o
	main.Holdout = job.Holdout{}
	main.given = unbound(o.given)
	other.Holdout = job.Holdout{}
	otherKind := k
	splits, has := k.(splitter)
	if h.Split != "" {
		if !has {
			return nil, keyError("data.holdout.split", "data.holdout.split is %q, and data.kind %s has no splits", h.Split, o.Kind)
		}
		otherKind = splits.withSplit(h.Split)
	}
	if h.Path != "" {
		var err error
		if other.Path, err = o.watch.local(o.Context, job.Abs(baseDir, h.Path)); err != nil {
			return nil, fmt.Errorf("data.holdout.path: %w", err)
		}
	}
	if err := disjoint(&main, &other, k, otherKind); err != nil {
		return nil, err
	}
	d, err := k.Open(&main)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*Set, error) { return nil, errors.Join(err, d.Close()) }
	other.given, other.held = unbound(&d.meta), true
	other.skip = nil
	for _, i := range o.skip {
		if i >= d.about.n {
			other.skip = append(other.skip, i-d.about.n)
		}
	}
	held, err := otherKind.Open(&other)
	if err != nil {
		return fail(fmt.Errorf("the held-out set (%s), which must have the training set's features: %w", heldName(h), err))
	}
	o.later = []func(){func() {
		for _, look := range append(main.later, other.later...) {
			look()
		}
		o.findings = append(o.findings, main.findings...)
		for _, f := range other.findings {
			f.Where = strings.TrimSuffix("held-out set, "+f.Where, ", ")
			o.findings = append(o.findings, f)
		}
	}}
	print := NewFingerprint(o.Kind).Add("training set", d.meta.Fingerprint).Add("held-out set", held.meta.Fingerprint).Sum()
	if err := o.same(print); err != nil {
		return fail(errors.Join(err, held.Close()))
	}
	both := join(d, held, print)
	both.scans = append(main.scanned(), other.scanned()...)
	return both, nil
}

// unbound is m without its fingerprint: shapes, vocabulary and statistics.
func unbound(m *Meta) *Meta {
	if m == nil {
		return nil
	}
	c := *m
	c.Fingerprint = ""
	return &c
}

func heldName(h job.Holdout) string {
	switch {
	case h.Path == "":
		return "data.holdout.split " + h.Split
	case h.Split == "":
		return "data.holdout.path " + h.Path
	}
	return fmt.Sprintf("data.holdout.path %s, split %s", h.Path, h.Split)
}

// splitter is a kind of data of which one path holds several splits.
type splitter interface {
	withSplit(name string) Options
	// apart refuses splits of the data set at path that have samples in common.
	apart(path, split string) error
	split() string
}

// disjoint refuses to hold out what is trained on.
func disjoint(main, held *Opening, k, heldKind Options) error {
	a, err := filepath.EvalSymlinks(main.Path)
	if err != nil {
		return nil // opening says it
	}
	b, err := filepath.EvalSymlinks(held.Path)
	if err != nil || a != b {
		return nil
	}
	if s, ok := k.(splitter); ok {
		return s.apart(main.Path, heldKind.(splitter).split())
	}
	return errors.New("data.holdout.path is data.path itself: all that is trained on would be held out; give another, or data.holdout.fraction")
}

// join makes one set of a training set and a held-out one, and owns both.
func join(train, held *Set, fingerprint string) *Set {
	a, b := train.about, held.about
	first := a.n // number of the first held-out sample
	get := func(i int) (Sample, error) {
		if i < first {
			return train.train.get(i)
		}
		s, err := held.train.get(i - first)
		s.ID += uint64(first)
		return s, err
	}
	d := &Set{meta: train.meta, close: func() error { return errors.Join(train.Close(), held.Close()) }}
	d.speak = func(tok *Tokenizer) error {
		for _, s := range []*Set{train, held} {
			if s.speak == nil {
				continue
			}
			if err := s.speak(tok); err != nil {
				return err
			}
		}
		return nil
	}
	d.about = about{path: a.path, camera: a.camera, n: a.n + b.n, episodes: a.episodes + b.episodes, held: b.episodes, apart: true}
	for e := range b.episodes {
		d.about.heldOut = append(d.about.heldOut, a.episodes+e)
	}
	d.about.episode = func(i int) int {
		if i < first {
			return a.episode(i)
		}
		return a.episodes + b.episode(i-first)
	}
	index := make([]int32, d.about.n)
	for i := range index {
		index[i] = int32(i)
	}
	d.train = subset{index: index[:first], n: a.n, get: get}
	d.heldout = subset{index: index[first:], n: b.n, get: get}
	d.meta.Fingerprint, d.meta.Train, d.meta.Heldout = fingerprint, a.n, b.n
	d.unsaid = append(slices.Clip(train.unsaid), held.unsaid...)
	if a.table != nil && b.table != nil {
		d.about.table = joinTables(a.table, b.table)
	}
	if a.place != nil && b.place != nil {
		d.about.place = func(i int) Fault {
			if i < first {
				return a.place(i)
			}
			return b.place(i - first)
		}
	}
	return d
}

// joinTables is what two tables know, for summaries; it reads no pictures.
func joinTables(a, b *table) *table {
	t := &table{eps: a.eps + b.eps, camera: a.camera, episode: append([]int32(nil), a.episode...)}
	for name, x := range a.floats {
		if y := b.floats[name]; y != nil {
			*t.float(name) = floatColumn{x.dim, slices.Concat(x.rows, y.rows), x.labels}
		}
	}
	for name, x := range a.pictures {
		if y := b.pictures[name]; y != nil && len(x.sums) > 0 && len(y.sums) > 0 {
			t.picture(name).sums = slices.Concat(x.sums, y.sums)
		}
	}
	for _, e := range b.episode {
		t.episode = append(t.episode, int32(a.eps)+e)
	}
	if a.numbers != nil || b.numbers != nil {
		for _, x := range []*table{a, b} {
			for e := range x.eps {
				n := int64(e)
				if x.numbers != nil {
					n = x.numbers[e]
				}
				t.numbers = append(t.numbers, n)
			}
		}
	}
	first := len(a.episode)
	t.short = func(i, frame int) string {
		if i < first {
			return a.short(i, frame)
		}
		return "held-out set, " + b.short(i-first, frame)
	}
	var texts textIndex
	for _, x := range []*table{a, b} {
		for _, i := range x.text {
			k := texts.add(strings.Join(append([]string{x.texts[i]}, x.sayings(int(i))...), "\x00"))
			if t.text = append(t.text, k); int(k) == len(t.texts) {
				t.texts, t.said = append(t.texts, x.texts[i]), append(t.said, x.sayings(int(i)))
			}
		}
	}
	if a.said == nil && b.said == nil {
		t.said = nil
	}
	return t
}
