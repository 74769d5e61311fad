package data

import (
	"slices"
	"sync"

	"github.com/vlaring/vlaring/pkg/models"
)

// table is what a file source knows of every sample but its pixels. Episodes
// are counted 0, 1, … in order of appearance.
type table struct {
	episode  []int32 // [n] episode of each sample
	numbers  []int64 // [episodes] what the data calls each episode; nil: its index
	eps      int     // number of episodes
	text     []int32 // [n] index into texts
	texts    []string
	others   [][]string                                // [texts] wordings that the data has beside each; nil: none
	said     [][]string                                // [texts] in which each is shown, the plain one first; nil: as it is; see sayings
	floats   map[string]*floatColumn                   // features of numbers, by name
	pictures map[string]*pictureColumn                 // features that are pictures, by name
	origin   func(i int) string                        // file and line or record
	place    func(i int) Fault                         // the same, for scripts
	short    func(i, frame int) string                 // the same in a few words
	camera   string                                    // what the data calls it
	words    func() (vocabulary []string, longest int) // that instructions can have; nil: as the training split has them
	all      func() []string                           // see texts; with words
	close    func() error

	counting sync.Once
	frames   []int32 // see frame

	before, after []int32 // [n] the sample a frame before and after each, of those that are used; -1: none; nil: nobody looks there
}

// floatColumn is a feature of numbers, in physical units.
type floatColumn struct {
	dim    int
	rows   []float32 // [n, dim]
	labels Labels    // what the data calls its dimensions, if it does
}

func (c *floatColumn) row(i int) []float32 { return c.rows[i*c.dim : (i+1)*c.dim] }

// pictureColumn is a feature that is pictures.
type pictureColumn struct {
	read func(i int) (Image, error) // of sample i
	sums []uint32                   // [n] CRC-32C of each one's file; nil: none were read
}

// float returns the column of the feature called name.
func (t *table) float(name string) *floatColumn {
	if t.floats == nil {
		t.floats = map[string]*floatColumn{}
	}
	if t.floats[name] == nil {
		t.floats[name] = &floatColumn{}
	}
	return t.floats[name]
}

// picture returns the column of the feature called name.
func (t *table) picture(name string) *pictureColumn {
	if t.pictures == nil {
		t.pictures = map[string]*pictureColumn{}
	}
	if t.pictures[name] == nil {
		t.pictures[name] = &pictureColumn{}
	}
	return t.pictures[name]
}

// frame is the place of sample i in its episode, whose samples stand together
// or not, from 0. All are counted the first time that somebody asks.
func (t *table) frame(i int) int {
	t.counting.Do(func() {
		next := make([]int32, t.eps)
		t.frames = make([]int32, len(t.episode))
		for k, e := range t.episode {
			t.frames[k] = next[e]
			next[e]++
		}
	})
	return int(t.frames[i])
}

// link finds the neighbours of every sample in its episode. A frame that is left
// out, of which skips tells, parts its episode in two.
func (t *table) link(skips func(i int) bool) {
	t.before, t.after = make([]int32, len(t.episode)), make([]int32, len(t.episode))
	last := make([]int32, t.eps)
	for e := range last {
		last[e] = -1
	}
	for i, e := range t.episode {
		t.before[i], t.after[i] = -1, -1
		if skips(i) {
			last[e] = -1
			continue
		}
		if k := last[e]; k >= 0 {
			t.before[i], t.after[k] = k, int32(i)
		}
		last[e] = int32(i)
	}
}

// window is n samples of i's episode, a frame apart, along after or before: i
// itself, its neighbour, and so on; then the last one again. valid is how many are
// not repeated.
func window(i, n int, along []int32) (of []int, valid int) {
	of = make([]int, n)
	for k := range of {
		if of[k] = i; k+1 == n {
			break
		}
		if along[i] < 0 {
			for j := range of[k:] {
				of[k+j] = i
			}
			return of, k + 1
		}
		i = int(along[i])
	}
	return of, n
}

// frameAt is the sample so many frames before i, or the episode's first.
func (t *table) frameAt(i, past int) int {
	for ; past > 0 && t.before[i] >= 0; past-- {
		i = int(t.before[i])
	}
	return i
}

// rows are those of the samples, one behind the other.
func (c *floatColumn) rowsOf(samples []int) []float32 {
	out := make([]float32, 0, len(samples)*c.dim)
	for _, i := range samples {
		out = append(out, c.row(i)...)
	}
	return out
}

// marks are n flags of which the first so many are 1.
func marks(n, first int) []float32 {
	m := make([]float32, n)
	for i := range first {
		m[i] = 1
	}
	return m
}

// number is a feature of numbers of sample i.
func (t *table) number(f models.Feature, i int) []float32 {
	switch {
	case f.Name == models.Actions && len(f.Shape) > 1:
		of, _ := window(i, f.Shape[0], t.after)
		return t.floats[f.Name].rowsOf(of)
	case f.Name == models.State && len(f.Shape) > 1:
		of, _ := window(i, f.Shape[0], t.before)
		slices.Reverse(of)
		return t.floats[f.Name].rowsOf(of)
	case f.Name == models.Valid:
		_, n := window(i, f.Shape[0], t.after)
		return marks(f.Shape[0], n)
	case f.Name == models.Past:
		_, n := window(i, f.Shape[0], t.before)
		m := marks(f.Shape[0], n)
		slices.Reverse(m)
		return m
	}
	return t.floats[f.Name].row(i)
}

// textIndex gives each distinct instruction its place in texts.
type textIndex struct {
	texts []string
	at    map[string]int32
}

func (x *textIndex) add(s string) int32 {
	i, ok := x.at[s]
	if !ok {
		if x.at == nil {
			x.at = map[string]int32{}
		}
		i = int32(len(x.texts))
		x.texts, x.at[s] = append(x.texts, s), i
	}
	return i
}

// dataset makes the data set of a table.
func (o *Opening) dataset(fingerprint string, t *table) (*Set, error) {
	held, err := o.HeldOut(t.eps, t.numbers)
	if err != nil {
		return nil, err
	}
	meta, err := o.Meta(fingerprint)
	if err != nil {
		return nil, err
	}
	n := len(t.episode)
	train, rest := o.split(n, t.eps, held, func(i int) int { return int(t.episode[i]) })
	if err := o.checkEmpty(t, held, len(rest)); err != nil {
		return nil, err
	}
	used := make([]bool, len(t.texts))
	if o.Wants.Has(models.Instruction) {
		for _, i := range train {
			used[t.text[i]] = true
		}
	}
	unsaid := o.say(t)
	meta.Worded = t.worded(o.wordings, used)
	of := texts{words: t.words, all: t.all}
	shown := func() (train []string) {
		for k := range t.texts {
			if used[k] {
				train = append(train, t.sayings(k)...)
			}
		}
		return train
	}
	switch {
	case of.words == nil:
		of.all = shown
		of.words = func() (vocabulary []string, longest int) {
			train := of.all()
			for _, s := range train {
				longest = max(longest, len(splitWords(s)))
			}
			return buildVocab(train), longest
		}
	case t.said != nil:
		of = of.plus(shown)
	}
	if err := o.Words(&meta, of); err != nil {
		return nil, err
	}
	if o.History > 1 || o.Chunk > 1 {
		t.link(o.skips)
	}
	wants := slices.Clone(o.Wants) // the actions behind the state, which they may be relative to
	if i := wants.Index(models.Actions); i >= 0 {
		wants = append(slices.Delete(wants, i, i+1), o.Wants[i])
	}
	for _, f := range wants {
		c := t.floats[f.Name]
		if c == nil {
			continue
		}
		var relative []int
		if f.Name == models.Actions {
			if relative, err = o.relativeTo(&meta, c); err != nil {
				return nil, err
			}
		}
		shape := []int{c.dim}
		if len(f.Shape) > 1 { // of so many frames
			shape = []int{f.Shape[0], c.dim}
		}
		err = o.Numbers(&meta, f.Name, shape, c.labels, func() (Rows, Rows) {
			of := func(index []int32) Rows {
				if relative != nil {
					return t.differences(max(o.Chunk, 1), relative, index)
				}
				return Rows{len(index), func(i int) []float32 { return c.row(int(index[i])) }, func(i int) string { return t.origin(int(index[i])) }}
			}
			return of(train), of(rest)
		})
		if err != nil {
			return nil, err
		}
		if relative != nil {
			meta.Actions.Relative = relative
		}
	}
	o.findPictures()
	var rows []*utterance // of each text
	tok, err := meta.Tokens()
	if err != nil {
		return nil, err
	}
	if tok != nil {
		o.findWords(t, tok)
		if rows, err = t.rows(tok, meta.Spec.Index(models.Instruction)); err != nil {
			return nil, err
		}
	}
	get := func(i int) (Sample, error) {
		s := Sample{ID: uint64(i), Origin: t.origin(i), Values: make([]Value, len(meta.Spec))}
		for k := range s.Values {
			v, name := &s.Values[k], meta.Spec[k].Name
			switch meta.Spec[k].Type {
			case models.Token:
				u := rows[t.text[i]]
				if v.Ints = u.rows[0]; len(u.rows) > 1 {
					s.words = u
				}
			case models.Image:
				camera, past, _ := models.ViewOf(name)
				var err error
				if v.Image, err = t.pictures[models.View(camera, 0)].read(t.frameAt(i, past)); err != nil {
					return Sample{}, err
				}
			default:
				v.Floats = t.number(meta.Spec[k], i)
			}
		}
		return s, nil
	}
	d, err := NewSet(meta, Samples{n, t.eps, held, func(i int) int { return int(t.episode[i]) }, get, t.close})
	if err != nil {
		return nil, err
	}
	d.about.table, d.about.place, d.about.camera, d.unsaid = t, t.place, t.camera, unsaid
	d.speak = func(tok *Tokenizer) (err error) {
		rows, err = t.rows(tok, meta.Spec.Index(models.Instruction))
		return err
	}
	return d, nil
}
