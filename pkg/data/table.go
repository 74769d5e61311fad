package data

import (
	"slices"
	"sync"
)

// table is what a file source knows of every sample but its pixels. Episodes
// are counted 0, 1, … in order of appearance.
type table struct {
	episode []int32 // [n] episode of each sample
	numbers []int64 // [episodes] what the data calls each episode; nil: its index
	eps     int     // number of episodes
	text    []int32 // [n] index into texts
	texts   []string
	dim     int
	actions []float32                  // [n, dim] physical
	labels  labels                     // what the data calls its dimensions, if it does
	image   func(i int) (Image, error) // pixels of sample i
	origin  func(i int) string         // file and line or record
	place   func(i int) Fault          // the same, for scripts
	short   func(i, frame int) string  // the same in a few words
	camera  string                     // what the data calls it
	sums    []uint32                   // [n] CRC-32C of each picture's file; nil: none were read
	close   func() error

	counting sync.Once
	frames   []int32 // see frame
}

func (t *table) action(i int) []float32 { return t.actions[i*t.dim : (i+1)*t.dim] }

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
func (o *opening) dataset(fingerprint string, t *table) (*set, error) {
	held, err := o.heldOut(t.eps, t.numbers)
	if err != nil {
		return nil, err
	}
	meta, err := o.base(fingerprint)
	if err != nil {
		return nil, err
	}
	n := len(t.episode)
	train, rest := o.split(n, t.eps, held, func(i int) int { return int(t.episode[i]) })
	if err := o.checkEmpty(t, held, len(rest)); err != nil {
		return nil, err
	}
	used := make([]bool, len(t.texts))
	if o.needs.Tokens {
		for _, i := range train {
			used[t.text[i]] = true
		}
	}
	var trainTexts []string
	for i, s := range t.texts {
		if used[i] {
			trainTexts = append(trainTexts, s)
		}
	}
	err = o.words(&meta, func() []string { return BuildVocab(trainTexts) }, func() (longest int) {
		for _, s := range trainTexts {
			longest = max(longest, len(Words(s)))
		}
		return longest
	})
	if err != nil {
		return nil, err
	}
	err = o.actions(&meta, t.dim, t.labels, func() (actionRows, actionRows) {
		of := func(index []int32) actionRows {
			return actionRows{len(index), func(i int) []float32 { return t.action(int(index[i])) }, func(i int) string { return t.origin(int(index[i])) }}
		}
		return of(train), of(rest)
	})
	if err != nil {
		return nil, err
	}
	o.findPictures()
	var tokens [][]int32
	if o.needs.Tokens {
		o.findWords(t)
		tok, err := NewTokenizer(meta.Vocab, meta.Spec.Tokens)
		if err != nil {
			return nil, err
		}
		for _, s := range t.texts {
			tokens = append(tokens, tok.Encode(s))
		}
	}
	get := func(i int) (Sample, error) {
		s := Sample{ID: uint64(i), Origin: t.origin(i)}
		if meta.Spec.Tokens > 0 {
			s.Tokens = slices.Clone(tokens[t.text[i]])
		}
		if meta.Spec.Action > 0 {
			s.Action = slices.Clone(t.action(i))
		}
		if meta.Spec.Image[0] > 0 {
			var err error
			if s.Image, err = t.image(i); err != nil {
				return Sample{}, err
			}
		}
		return s, nil
	}
	d, err := newSet(meta, n, t.eps, held, func(i int) int { return int(t.episode[i]) }, get, t.close)
	if err != nil {
		return nil, err
	}
	d.about.table, d.about.place, d.about.camera = t, t.place, t.camera
	return d, nil
}
