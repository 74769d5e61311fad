package data

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The mixture source trains on several data sets at once, each a data section of
// its own. Which set and which of its samples stands at a position of the stream is
// Order's; here the sets are opened, settled together and numbered on from one
// another:
//
//	number   | set 0: train and held out | set 1 | …        Sample.ID, both splits
//	train    | set 0's | set 1's | …                        Source.Sample, Order
//
// Instructions have one vocabulary, that of all training splits. Statistics are
// each set's own, and so are the names and units of its numbers.

// Mixture is the options of a mixture. What it has of the keys of its sets holds for
// each set that does not say otherwise.
type Mixture struct {
	Sets        []job.Set `yaml:"sets"`
	Balance     string    `yaml:"balance"` // of what a set's share is made, see balances
	WordKeys    `yaml:",inline"`
	ActionKeys  `yaml:",inline"`
	FrameKeys   `yaml:",inline"`
	AugmentKeys `yaml:",inline"`
}

// How often a set comes.
const (
	byWeights = "weights" // as its weight says
	bySize    = "size"    // as its weight times the samples of its training split says
)

const (
	mixtureName = "mixture"
	maxSets     = 64
	maxSetName  = 40
	maxWeight   = 1e9
)

func mixtureKind() job.Kind {
	return job.Kind{Name: mixtureName, About: "several data sets at once, by their weights", Options: Mixture{Balance: byWeights}}
}

// own are the options of the sets that are of a known kind.
func (k Mixture) own() (out []job.DataOptions) {
	for _, s := range k.Sets {
		if o, ok := s.Options.(job.DataOptions); ok {
			out = append(out, o)
		}
	}
	return out
}

// Gives is job.DataOptions'. What each set gives is checked set by set.
func (k Mixture) Gives() []string { return []string{job.Any} }

// Padding is job.DataOptions'.
func (k Mixture) Padding() int {
	if own := k.own(); len(own) > 0 {
		return own[0].Padding()
	}
	return padToken
}

// frameKeys are those of a set's options, with what the mixture says for all.
func (k Mixture) frameKeys(o job.DataOptions) (f FrameKeys) {
	if x, ok := o.(interface{ frames() FrameKeys }); ok {
		f = x.frames()
		f.History, f.Chunk = cmp.Or(f.History, k.History), cmp.Or(f.Chunk, k.Chunk)
		if f.Cameras == nil {
			f.Cameras = k.Cameras
		}
		if f.State == nil {
			f.State = k.State
		}
	}
	return f
}

// Observation is what samples show, of all sets the same.
func (k Mixture) Observation() models.Observation {
	if own := k.own(); len(own) > 0 {
		return k.frameKeys(own[0]).Observation()
	}
	return models.Observation{}
}

func setKey(i int) string { return fmt.Sprintf("data.sets[%d]", i) }

// Resolve is job.Options'.
func (k Mixture) Resolve(j *job.Job, given func(string) bool) job.Options {
	k.Sets = slices.Clone(k.Sets)
	for i, s := range k.Sets {
		k.Sets[i] = j.ResolveSet(s, setKey(i), k, given)
	}
	j.Data.Holdout.Fraction = 0 // each set has its own now
	return k
}

// Check is job.Options'.
func (k Mixture) Check(c *job.Checker) {
	d := c.Job.Data
	what := "data.kind mixture: a set has its own"
	c.Unused("data.path", d.Path == "", what)
	c.Unused("data.holdout.path", d.Holdout.Path == "", what)
	c.Unused("data.holdout.split", d.Holdout.Split == "", what)
	c.Unused("data.holdout.episodes", len(d.Holdout.Episodes) == 0, what)
	k.AugmentKeys.check(c)
	c.OneOf("data.balance", k.Balance, []string{byWeights, bySize})
	switch n := len(k.Sets); {
	case n == 0:
		c.Bad("data.sets", "is missing; want a list of data sets, such as [{name: a, weight: 2, kind: lerobot, path: a}, {name: b, weight: 1, kind: rlds, path: b}]")
	case n > maxSets:
		c.Bad("data.sets", "has %d sets; want at most %d", n, maxSets)
	}
	first := map[string]int{}
	for i, s := range k.Sets {
		key := setKey(i)
		switch at, again := first[s.Name]; {
		case s.Name == "":
			c.Bad(key+".name "+key, "is missing; want a word that names the set in tables and metrics")
		case again:
			c.Bad(key+".name", "%q is the name of set %d already", s.Name, at)
		case utf8.RuneCountInString(s.Name) > maxSetName || strings.ContainsFunc(s.Name, func(r rune) bool { return !limits.NameRune(r) }):
			c.Bad(key+".name", "%q is no name of a set; want letters, digits, - and _, at most %d", s.Name, maxSetName)
		default:
			first[s.Name] = i
		}
		if !(s.Weight > 0 && s.Weight <= maxWeight) {
			c.Bad(key+".weight", "%v is no weight; want a number above 0, at most %v", s.Weight, float64(maxWeight))
		}
		if s.Kind == mixtureName {
			c.Bad(key+".kind", "is a mixture in a mixture; list its sets here")
			continue
		}
		if x, ok := s.Options.(interface{ augment() Augment }); ok && x.augment().Active() && x.augment() != k.Augment {
			c.Bad(key+".augment "+key, "differs from data.augment: the pictures of all sets are changed alike, so give it once, as data.augment")
			continue
		}
		c.Set(key, s)
		k.checkAgrees(c, i)
	}
}

// checkAgrees refuses a set that does not show what the first one does.
func (k Mixture) checkAgrees(c *job.Checker, i int) {
	a, ok := k.Sets[0].Options.(job.DataOptions)
	b, too := k.Sets[i].Options.(job.DataOptions)
	if !ok || !too || i == 0 {
		return
	}
	x, y := k.frameKeys(a).Observation(), k.frameKeys(b).Observation()
	for _, f := range []struct {
		key      string
		is, want any
	}{{"cameras", max(y.Cameras, 1), max(x.Cameras, 1)}, {"state", y.State, x.State}, {"history", max(y.History, 1), max(x.History, 1)}, {"chunk", max(y.Chunk, 1), max(x.Chunk, 1)}} {
		if f.is == f.want {
			continue
		}
		key := setKey(i) + "." + f.key
		switch f.key {
		case "cameras":
			c.Bad(key+" "+setKey(i), "%d, and set %s has %d: name as many, in the same order of views", f.is, k.Sets[0].Name, f.want)
		case "state":
			has, lacks := k.Sets[0].Name, k.Sets[i].Name
			if f.is == true {
				has, lacks = lacks, has
			}
			c.Bad(key+" "+setKey(i), "set %s has a state and set %s has none: give both, or none", has, lacks)
		default:
			c.Bad(key+" "+setKey(i), "%v, and set %s has %v: it must be the same in all sets, so give it once, as data.%s", f.is, k.Sets[0].Name, f.want, f.key)
		}
	}
}

// Open is Options'.
func (k Mixture) Open(o *Opening) (*Set, error) {
	m := &mixture{k: k, o: o}
	for i := range k.Sets {
		d, err := m.open(i)
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.parts = append(m.parts, d)
	}
	d, err := m.join()
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return d, nil
}

// mixture is the opening of one.
type mixture struct {
	k     Mixture
	o     *Opening
	parts []*Set
}

func (m *mixture) close() (err error) {
	for _, d := range m.parts {
		err = errors.Join(err, d.Close())
	}
	return err
}

// open opens set i: as it would be opened by itself, but for what a checkpoint
// says of vocabulary, shapes and statistics.
func (m *mixture) open(i int) (*Set, error) {
	o, s := m.o, m.k.Sets[i]
	var given *Meta
	if g := o.given; g != nil {
		if len(g.Sets) != len(m.k.Sets) {
			return nil, fmt.Errorf("%w: a mixture of %d sets, %s has %d", ErrOtherData, len(m.k.Sets), o.owner(), len(g.Sets))
		}
		in := g.In(i)
		given = unbound(&in)
	}
	w := o.watch
	w.Other, w.Former, w.part = false, nil, true // the mixture sees to that
	if w.Fault != nil {
		w.Fault = func(f Fault) {
			f.Set = s.Name
			o.watch.Fault(f)
		}
	}
	d, err := OpenContext(o.Context, s.Data(job.Data{}), o.Wants, o.Seed, o.base, given, w)
	if err != nil {
		return nil, inSet(s.Name, i, err)
	}
	return d.(*Set), nil
}

// inSet says of which set an error is.
func inSet(name string, i int, err error) error {
	out := fmt.Errorf("set %s: %w", name, err)
	var of *KeyError
	if errors.As(err, &of) {
		if rest, ok := strings.CutPrefix(of.Key, "data."); ok {
			return &KeyError{setKey(i) + "." + rest, out}
		}
	}
	return out
}

// join makes one set of all.
func (m *mixture) join() (*Set, error) {
	o := m.o
	spec, err := m.spec()
	if err != nil {
		return nil, err
	}
	print := NewFingerprint(mixtureName)
	for _, d := range m.parts {
		print.Add("set", d.meta.Fingerprint)
	}
	for _, f := range spec {
		o.calls(f.Name, f.Source)
	}
	o.asIs = true // each set has seen to its pictures
	meta, err := o.Meta(print.Sum())
	if err != nil {
		return nil, err
	}
	for i := range meta.Spec {
		meta.Spec[i].Shape = spec[i].Shape
	}
	if err := m.words(&meta); err != nil {
		return nil, err
	}
	d := &Set{meta: meta, parts: m.parts, close: m.close}
	o.skip = nil
	for i, p := range m.parts {
		s := m.k.Sets[i]
		d.meta.Sets = append(d.meta.Sets, SetMeta{Name: s.Name, Kind: s.Kind, Weight: s.Weight, Fingerprint: p.meta.Fingerprint, Samples: p.about.n,
			Rate: p.meta.Rate, Sources: sourcesOf(p.meta.Spec), Worded: p.meta.Worded, Actions: p.meta.Actions, Stats: p.meta.Stats})
		for _, e := range p.about.heldOut {
			d.about.heldOut = append(d.about.heldOut, d.about.episodes+e)
		}
		for _, id := range p.leftOut() {
			o.skip = append(o.skip, d.about.n+id)
		}
		d.about.n, d.about.episodes, d.about.held = d.about.n+p.about.n, d.about.episodes+p.about.episodes, d.about.held+p.about.held
		if p.about.path != "" {
			d.about.path = strings.TrimPrefix(d.about.path+" + "+p.about.path, " + ")
		}
		d.scans, d.unsaid = append(d.scans, p.scans...), append(d.unsaid, p.unsaid...)
	}
	d.meta.Worded = wordedOf(d.meta.Sets)
	if d.about.n > maxSamples {
		return nil, fmt.Errorf("%d samples; a data set may have at most %d", d.about.n, maxSamples)
	}
	o.Path = d.about.path // it has a place, so that changes are known
	d.bySize = m.k.Balance == bySize
	d.about.episode = d.episodeOf
	d.train.get = d.sampleOf
	o.later = append(o.later, func() {
		for i, p := range m.parts {
			for _, f := range p.Findings() {
				f.Where = strings.TrimSuffix("set "+m.k.Sets[i].Name+", "+f.Where, ", ")
				o.findings = append(o.findings, f)
			}
		}
	})
	return d, d.resplit(d.about.heldOut, o.skip)
}

// spec is the features of a sample, whose shapes all sets agree on.
func (m *mixture) spec() (models.Spec, error) {
	first := m.parts[0].meta
	spec := first.Spec.Clone()
	for i, d := range m.parts[1:] {
		a, b := m.k.Sets[0].Name, m.k.Sets[i+1].Name
		if a, b := d.meta.Tokenizer, first.Tokenizer; (a == nil) != (b == nil) || a != nil && a.SHA256 != b.SHA256 {
			return nil, fmt.Errorf("sets %s and %s have different tokenizers; a mixture has one vocabulary: give all the same (%s.tokenizer)", m.k.Sets[0].Name, m.k.Sets[i+1].Name, setKey(i+1))
		}
		if (d.meta.Vocab == nil) != (first.Vocab == nil) {
			return nil, fmt.Errorf("sets %s and %s: one has instructions in words, the other in token numbers; a mixture has one vocabulary", a, b)
		}
		for k := range spec {
			f, g := &spec[k], d.meta.Spec[k]
			if f.Source != g.Source {
				f.Source = ""
			}
			switch {
			case slices.Equal(f.Shape, g.Shape):
			case f.Name == models.Instruction && (first.Vocab != nil || first.Tokenizer != nil): // padded to the longest
				f.Shape = []int{max(f.Shape[0], g.Shape[0])}
			case f.Name == models.Actions:
				return nil, fmt.Errorf("set %s has actions of %v values, set %s of %v: a model has one form of them; choose features with as many (data.sets[%d].action, where its kind has that key)", b, dims(g.Shape), a, dims(f.Shape), i+1)
			case f.Name == models.State:
				return nil, fmt.Errorf("set %s has a state of %v values, set %s of %v: choose features with as many (%s.state)", b, dims(g.Shape), a, dims(f.Shape), setKey(i+1))
			default:
				return nil, fmt.Errorf("%s of set %s is %v, of set %s %v: it must be the same in all sets", f.Name, b, dims(g.Shape), a, dims(f.Shape))
			}
		}
	}
	return spec, nil
}

func dims(shape []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(shape), " ", "×"), "[]")
}

// words settles the vocabulary of all sets, and has each speak it.
func (m *mixture) words(meta *Meta) error {
	first := m.parts[0].meta
	switch {
	case first.Tokenizer != nil:
		meta.Tokenizer, meta.VocabSize = first.Tokenizer, first.VocabSize
	case first.Vocab == nil:
		for _, d := range m.parts {
			meta.VocabSize = max(meta.VocabSize, d.meta.VocabSize)
		}
		return nil
	default:
		m.o.MaxTokens = meta.Spec.Len(models.Instruction, 0)
		err := m.o.Words(meta, texts{words: func() ([]string, int) {
			var all []string
			for _, d := range m.parts {
				all = append(all, d.meta.Vocab[min(2, len(d.meta.Vocab)):]...)
			}
			slices.Sort(all)
			return append([]string{"<pad>", "<unk>"}, slices.Compact(all)...), m.o.MaxTokens
		}})
		if err != nil {
			return err
		}
	}
	tok, err := meta.Tokens()
	if err != nil || tok == nil {
		return err
	}
	for _, d := range m.parts {
		if err := d.speaks(tok, *meta); err != nil {
			return err
		}
	}
	return nil
}

// speaks makes a set of a mixture use the vocabulary of all.
func (d *Set) speaks(tok *Tokenizer, all Meta) error {
	d.meta.Vocab, d.meta.VocabSize = all.Vocab, all.VocabSize
	d.meta.Spec = d.meta.Spec.Clone()
	d.meta.Spec.Find(models.Instruction).Shape = []int{all.Spec.Len(models.Instruction, 0)}
	if d.speak == nil {
		return nil
	}
	return d.speak(tok)
}
