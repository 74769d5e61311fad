package data

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/models"
)

// SetMeta is what training fixes of a set of a mixture, beside what all sets share.
type SetMeta struct {
	Name        string            `json:"name"`
	Kind        string            `json:"kind"`
	Weight      float64           `json:"weight"`
	Fingerprint string            `json:"fingerprint"`
	Samples     int               `json:"samples"` // both splits, and those left out: the next set's numbers begin behind them
	Train       int               `json:"train"`
	Heldout     int               `json:"heldout"`
	Share       uint64            `json:"share"`             // of the stream's positions: see Part
	Rate        float64           `json:"rate,omitempty"`    // frames a second; 0: the data does not say
	Sources     map[string]string `json:"sources,omitempty"` // what the set calls features, by name, where it has names of its own
	Worded      *Worded           `json:"wordings,omitempty"`
	Actions     *Stats            `json:"actions,omitempty"`
	Stats       map[string]*Stats `json:"stats,omitempty"`
}

// In is the description of set i of a mixture as of a data set by itself: its own
// statistics, with the vocabulary and the shapes of all. Of data that is no mixture
// it is the description itself.
func (m *Meta) In(i int) Meta {
	if m.Sets == nil {
		return *m
	}
	s, c := m.Sets[i], *m
	c.Kind, c.Fingerprint, c.Train, c.Heldout, c.Actions, c.Stats = s.Kind, s.Fingerprint, s.Train, s.Heldout, s.Actions, s.Stats
	c.Sets, c.Held, c.Start, c.Changes = nil, nil, nil, nil
	c.Rate, c.Worded, c.Spec = s.Rate, s.Worded, m.Spec.Clone()
	for i := range c.Spec {
		c.Spec[i].Source = s.Sources[c.Spec[i].Name]
	}
	return c
}

// SetOf is the place of the set called name in a mixture, which must be given where
// there are several.
func (m *Meta) SetOf(name string) (int, error) {
	var names []string
	for i, s := range m.Sets {
		if s.Name == name {
			return i, nil
		}
		names = append(names, s.Name)
	}
	switch {
	case len(m.Sets) == 0 && name == "", len(m.Sets) == 1 && name == "":
		return 0, nil
	case len(m.Sets) == 0:
		return 0, fmt.Errorf("there is no set %q: the data is no mixture", name)
	case name == "":
		return 0, fmt.Errorf("the data is a mixture, and each of its sets has statistics of its own: say whose count, %s", strings.Join(names, " or "))
	}
	return 0, fmt.Errorf("there is no set %q in the mixture; it has %s", name, strings.Join(names, ", "))
}

// first is the number of the first sample of set i.
func (m *Meta) first(i int) (n int) {
	for _, s := range m.Sets[:i] {
		n += s.Samples
	}
	return n
}

// checkSets refuses sets that no mixture could have.
func (m *Meta) checkSets() error {
	train, held, share := 0, 0, uint64(0)
	for i, s := range m.Sets {
		if s.Train < 0 || s.Heldout < 0 || s.Samples > maxSamples || s.Train+s.Heldout > s.Samples || s.Share > whole {
			return fmt.Errorf("set %s has %d samples, %d to train on and %d held out, and the share %d", s.Name, s.Samples, s.Train, s.Heldout, s.Share)
		}
		train, held, share = train+s.Train, held+s.Heldout, share+s.Share
		in := m.In(i)
		if err := in.Check(); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	if len(m.Sets) > 0 && (train != m.Train || held != m.Heldout || share != whole) {
		return fmt.Errorf("its sets have %d samples to train on and %d held out, and it has %d and %d", train, held, m.Train, m.Heldout)
	}
	return nil
}

// SplitSets are the samples of src, a split of a mixture, by its sets: each as a
// split of its set alone, so that a Collator of In takes them.
func (m *Meta) SplitSets(src Source) []Source {
	out := make([]Source, len(m.Sets))
	if l, ok := src.(joined); ok {
		parts := make([]joined, len(m.Sets))
		for _, of := range l {
			for i, s := range m.SplitSets(of) {
				parts[i] = append(parts[i], s)
			}
		}
		for i := range out {
			out[i] = parts[i]
		}
		return out
	}
	s, _ := src.(subset) // of a mixture all are
	for i, of := range m.Sets {
		first := m.first(i)
		lo, _ := slices.BinarySearch(s.index, int32(first))
		hi, _ := slices.BinarySearch(s.index, int32(first+of.Samples))
		out[i] = subset{index: s.index[lo:hi], n: hi - lo, get: func(id int) (Sample, error) {
			x, err := s.get(id)
			x.Set = 0
			return x, err
		}}
	}
	return out
}

// sourcesOf are what a data set calls its features.
func sourcesOf(spec models.Spec) map[string]string {
	out := map[string]string{}
	for _, f := range spec {
		if f.Source != "" {
			out[f.Name] = f.Source
		}
	}
	return out
}

// partOf is the set of sample id, and the sample's number there.
func (d *Set) partOf(id int) (set, own int) {
	for d.parts[set].about.n <= id {
		id -= d.parts[set].about.n
		set++
	}
	return set, id
}

// sampleOf reads sample id of a mixture.
func (d *Set) sampleOf(id int) (Sample, error) {
	set, own := d.partOf(id)
	s, err := d.parts[set].train.get(own)
	if err != nil {
		return s, &SampleError{ID: uint64(own), Set: setKey(set), Where: "set " + d.meta.Sets[set].Name, Err: err}
	}
	s.ID, s.Set, s.Origin = uint64(id), set, d.meta.Sets[set].Name+": "+s.Origin
	return s, nil
}

func (d *Set) episodeOf(id int) int {
	set, own := d.partOf(id)
	e := d.parts[set].about.episode(own)
	for _, p := range d.parts[:set] {
		e += p.about.episodes
	}
	return e
}

// leftOut are the samples of a set that are in no split.
func (d *Set) leftOut() (out []int) {
	in := d.all()
	for id := range d.about.n {
		if _, ok := slices.BinarySearch(in, int32(id)); !ok {
			out = append(out, id)
		}
	}
	return out
}

// counted says what the splits of a mixture have of each set, and its share of the
// stream.
func (d *Set) counted() {
	if d.parts == nil {
		return
	}
	sets := slices.Clone(d.meta.Sets)
	weights := make([]float64, len(sets))
	for i := range sets {
		first := d.meta.first(i)
		of := func(s subset) int {
			lo, _ := slices.BinarySearch(s.index, int32(first))
			hi, _ := slices.BinarySearch(s.index, int32(first+sets[i].Samples))
			return hi - lo
		}
		sets[i].Train, sets[i].Heldout, weights[i] = of(d.train), of(d.heldout), sets[i].Weight
		if d.bySize {
			weights[i] *= float64(sets[i].Train)
		}
	}
	for i, share := range sharesOf(weights) {
		sets[i].Share = share
	}
	d.meta.Sets = sets
}

// indexParts fills an index in set by set.
func (d *Set) indexParts(ctx context.Context, x *Index) error {
	at := 0
	for i, p := range d.parts {
		name := d.meta.Sets[i].Name
		own, err := p.Index(ctx)
		if err != nil && !errors.Is(err, ErrNoIndex) {
			return inSet(name, i, err)
		}
		for k := range p.about.n {
			e := &x.Entries[at+k]
			if own != nil {
				e.Picture, e.Rest, e.Place = own.Entries[k].Picture, own.Entries[k].Rest, name+", "+own.Entries[k].Place
			} else { // made by a recipe, of which the fingerprint tells
				b := binary.LittleEndian.AppendUint64([]byte(p.meta.Fingerprint), uint64(k))
				e.Picture, e.Rest, e.Place = octets.Sum(b), octets.Sum(b), fmt.Sprintf("%s, sample %d", name, k)
			}
			e.Rest = octets.AddSum(e.Rest, []byte(name)) // equal samples of two sets are not one
		}
		at += p.about.n
	}
	return nil
}

// surveyParts is Survey of a mixture, set by set.
func (d *Set) surveyParts(ctx context.Context, s Survey) (Summary, error) {
	a := d.about
	sum := Summary{Kind: d.meta.Kind, Path: a.path, Samples: d.train.n + d.heldout.n, Episodes: a.episodes, Train: d.train.n, Heldout: d.heldout.n,
		LeftOut: a.n - d.train.n - d.heldout.n, HeldoutEpisodes: a.held, Findings: []Finding{}}
	looked := 0
	for i, p := range d.parts {
		own, name := s, d.meta.Sets[i].Name
		if s.Samples > 0 {
			own.Samples = max(1, s.Samples/len(d.parts))
		}
		if s.Progress != nil && s.Samples == 0 {
			before := int64(looked)
			own.Progress = func(p Progress) {
				p.Done, p.Total = p.Done+before, int64(sum.Samples)
				s.Progress(p)
			}
		}
		if s.Fault != nil {
			own.Fault = func(f Fault) {
				f.Set = name
				s.Fault(f)
			}
		}
		of, err := p.Survey(ctx, own)
		if err != nil {
			return sum, err
		}
		of.Name, of.Share = name, float64(d.meta.Sets[i].Share)/whole
		for _, f := range of.Findings {
			f.Where = strings.TrimSuffix("set "+name+", "+f.Where, ", ")
			sum.Findings = append(sum.Findings, f)
		}
		of.Findings = []Finding{}
		looked += of.Samples
		sum.Sets = append(sum.Sets, of)
	}
	return sum, nil
}
