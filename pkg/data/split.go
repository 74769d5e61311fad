package data

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/job"
)

// heldOut returns the held-out episodes of a data set of n, ascending, by their
// index 0 … n-1. numbers holds the episodes' own numbers in that order, for a
// holdout that lists them; nil means that number and index are the same.
//
// A fraction takes the first episodes of a permutation that is keyed by the
// seed: rounded to nearest, at least one if the fraction is above 0, and never
// all of them.
func heldOut(h job.Holdout, seed uint64, n int, numbers []int64) ([]int, error) {
	if len(h.Episodes) > 0 {
		if h.Fraction != 0 {
			return nil, keyError("data.holdout", "data.holdout has both fraction and episodes: give one of them")
		}
		index := map[int64]int{}
		for i, e := range numbers {
			index[e] = i
		}
		var out []int
		for _, e := range h.Episodes {
			i, ok := index[int64(e)]
			if numbers == nil {
				i, ok = e, e >= 0 && e < n
			}
			if !ok {
				return nil, keyError("data.holdout.episodes", "data.holdout.episodes: there is no episode %d among the %d episodes of this data", e, n)
			}
			out = append(out, i)
		}
		slices.Sort(out)
		if out = slices.Compact(out); len(out) == n {
			return nil, keyError("data.holdout.episodes", "data.holdout.episodes holds out all %d episodes; leave some to train on", n)
		}
		return out, nil
	}
	if !(h.Fraction >= 0 && h.Fraction < 1) {
		return nil, keyError("data.holdout.fraction", "data.holdout.fraction is %v; it must be at least 0 and below 1", h.Fraction)
	}
	if h.Fraction == 0 {
		return nil, nil
	}
	if n < 2 {
		return nil, keyError("data.holdout.fraction", "data.holdout.fraction is %v, but the data has %d episode(s): a held-out split needs at least two", h.Fraction, n)
	}
	k := min(max(int(math.Round(h.Fraction*float64(n))), 1), n-1)
	out := make([]int, k)
	for i := range out {
		out[i] = int(permute(philox.Stream{Seed: seed, Purpose: philox.Holdout}, uint64(n), uint64(i)))
	}
	slices.Sort(out)
	return out, nil
}

// split divides samples 0 … n-1 by their episode, of which there are episodes.
// Both parts keep the samples' order.
func split(n, episodes int, held []int, episode func(i int) int) (train, heldout []int32) {
	out := make([]bool, episodes)
	for _, e := range held {
		out[e] = true
	}
	for i := 0; i < n; i++ {
		if out[episode(i)] {
			heldout = append(heldout, int32(i))
		} else {
			train = append(train, int32(i))
		}
	}
	return train, heldout
}

// HeldOut returns the job's choice of held-out episodes. Where the data has
// changed, and an episode that the job names is gone, it is nobody: finish
// knows who was held out.
func (o *Opening) HeldOut(n int, numbers []int64) ([]int, error) {
	held, err := heldOut(o.Holdout, o.Seed, n, numbers)
	if g := o.given; err != nil && g != nil && g.Fingerprint != "" && (g.Held != nil || o.watch.Former != nil) {
		return nil, nil
	}
	return held, err
}

// skips says whether data.skip leaves sample i out; its picture is not read then.
func (o *Opening) skips(i int) bool {
	_, out := slices.BinarySearch(o.skip, i)
	return out
}

// finish leaves out what data.skip says, and settles how the data differs from
// that of the given Meta.
func (o *Opening) finish(d *Set) error {
	if len(o.skip) > 0 {
		if first, last := o.skip[0], o.skip[len(o.skip)-1]; first < 0 || last >= d.about.n {
			named := fmt.Sprintf("samples %d to %d", first, last)
			if first == last {
				named = fmt.Sprintf("sample %d", first)
			}
			return keyError("data.skip", "data.skip names the %s; the data has 0 to %d", named, d.about.n-1)
		}
		if err := d.resplit(d.about.heldOut, o.skip); err != nil {
			return err
		}
	}
	g := o.given
	if g == nil || g.Fingerprint == "" {
		return nil
	}
	d.meta.Held, d.meta.Start, d.meta.Changes = g.Held, g.Start, g.Changes
	switch {
	case g.Fingerprint != d.meta.Fingerprint:
		return o.settle(d)
	case len(g.Held) > 0 && g.Held[len(g.Held)-1] >= d.about.episodes:
		return fmt.Errorf("%w: %d episodes, but episode %d was held out", ErrOtherData, d.about.episodes, g.Held[len(g.Held)-1])
	case g.Held != nil:
		return d.resplit(g.Held, o.skip)
	}
	return nil
}

// split divides samples as the function split does, without those that
// data.skip leaves out.
func (o *Opening) split(n, episodes int, held []int, episode func(i int) int) (train, heldout []int32) {
	train, heldout = split(n, episodes, held, episode)
	return leaveOut(train, o.skip), leaveOut(heldout, o.skip)
}

// leaveOut returns the samples of l that are not in skip, which ascends.
func leaveOut(l []int32, skip []int) []int32 {
	if len(skip) == 0 {
		return l
	}
	return slices.DeleteFunc(l, func(i int32) bool { _, out := slices.BinarySearch(skip, int(i)); return out })
}

// maxSamples bounds a data set, so that sample indices fit int32.
const maxSamples = math.MaxInt32

// subset is the Source of some samples of a larger whole.
type subset struct {
	index []int32 // nil: all n
	n     int
	get   func(i int) (Sample, error)
}

var _ Source = subset{}

func (s subset) Len() int { return s.n }

// id is sample i's number in the whole data set.
func (s subset) id(i int) int {
	if s.index == nil {
		return i
	}
	return int(s.index[i])
}

// Number is the number in the whole data set, as data.skip takes it, of sample i
// of a split of it; false for sources that are none.
func Number(src Source, i int) (int, bool) {
	s, ok := src.(subset)
	if !ok || i < 0 || i >= s.n {
		return 0, false
	}
	return s.id(i), true
}

func (s subset) Sample(i int) (Sample, error) {
	if i < 0 || i >= s.n {
		return Sample{}, fmt.Errorf("sample %d is outside the split's [0, %d)", i, s.n)
	}
	if s.index != nil {
		i = int(s.index[i])
	}
	x, err := s.get(i)
	var own *SampleError // of a set of a mixture
	if err != nil && !errors.As(err, &own) {
		err = &SampleError{ID: uint64(i), Err: err}
	}
	return x, err
}

// Set is the Dataset that all sources come as.
type Set struct {
	meta           Meta
	train, heldout subset
	findings       func() []Finding // nil: none
	about          about
	change         *Change
	scans          []*Scan
	close          func() error
	unsaid         []*unsaid              // of files of wordings; see Opening.missing
	speak          func(*Tokenizer) error // makes samples' instructions tokens of another vocabulary; nil: they have none

	parts  []*Set // of a mixture, in its order
	bySize bool   // their shares go by their samples too
}

var _ Dataset = (*Set)(nil)

func (d *Set) Meta() Meta      { return d.meta }
func (d *Set) Train() Source   { return d.train }
func (d *Set) Heldout() Source { return d.heldout }
func (d *Set) Findings() []Finding {
	if d.findings == nil {
		return nil
	}
	return d.findings()
}
func (d *Set) Change() *Change { return d.change }
func (d *Set) Scans() []*Scan  { return d.scans }

// Beside is Dataset's: of a mixture, that of its first set.
func (d *Set) Beside() string {
	path := d.about.path
	if path == "" {
		if len(d.parts) > 0 {
			return d.parts[0].Beside()
		}
		return ""
	}
	if i, err := os.Stat(path); err == nil && !i.IsDir() {
		path = filepath.Dir(path)
	}
	return filepath.Join(path, ".vlaring")
}

func (d *Set) Close() error {
	if d.close == nil {
		return nil
	}
	return d.close()
}

// Samples are all of a data set's, both splits, numbered from 0.
type Samples struct {
	N, Episodes int
	Held        []int           // episodes that are held out, ascending; see Opening.HeldOut
	Episode     func(i int) int // of sample i, from 0
	// Get returns sample i, a pure function of i that several goroutines may
	// call. Its ID is i, its values stand in the order of Meta.Spec.
	Get   func(i int) (Sample, error)
	Close func() error // may be nil
}

// NewSet divides samples by their episodes and fills in what meta says of the
// splits.
func NewSet(meta Meta, s Samples) (*Set, error) {
	if s.N > maxSamples {
		return nil, fmt.Errorf("%d samples; a data set may have at most %d", s.N, maxSamples)
	}
	get := s.Get
	d := &Set{close: s.Close, about: about{n: s.N, episodes: s.Episodes, held: len(s.Held), heldOut: s.Held, episode: s.Episode}, train: subset{n: s.N, get: get}, heldout: subset{get: get}}
	if len(s.Held) > 0 {
		train, rest := split(s.N, s.Episodes, s.Held, s.Episode)
		d.train = subset{index: train, n: len(train), get: get}
		d.heldout = subset{index: rest, n: len(rest), get: get}
	}
	if d.train.n == 0 {
		return nil, fmt.Errorf("no samples are left to train on: the data has %d samples, %d of them held out", s.N, d.heldout.n)
	}
	meta.Train, meta.Heldout = d.train.n, d.heldout.n
	d.meta = meta
	return d, nil
}

// resplit divides the samples anew.
func (d *Set) resplit(held, skip []int) error {
	train, rest := split(d.about.n, d.about.episodes, held, d.about.episode)
	train, rest = leaveOut(train, skip), leaveOut(rest, skip)
	get := d.train.get
	d.train = subset{index: train, n: len(train), get: get}
	d.heldout = subset{index: rest, n: len(rest), get: get}
	if d.train.n == 0 {
		return fmt.Errorf("no samples are left to train on: the data has %d samples, %d of them held out and %d left out by data.skip", d.about.n, d.heldout.n, d.about.n-d.heldout.n)
	}
	d.meta.Train, d.meta.Heldout = d.train.n, d.heldout.n
	d.about.held, d.about.heldOut = len(held), held
	d.counted()
	return nil
}
