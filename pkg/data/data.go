package data

import (
	"context"
	"maps"

	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tokenizer"
)

// Meta is everything about a data set that training fixes once and a
// checkpoint keeps: it makes another machine, another day or an evaluation
// turn the same raw sample into the same numbers.
type Meta struct {
	Kind        string            `json:"kind"`
	Fingerprint string            `json:"fingerprint"` // SHA-256 of the content (files) or of the recipe (synthetic)
	Spec        models.Spec       `json:"spec"`
	Train       int               `json:"train"`               // samples in the training split
	Heldout     int               `json:"heldout"`             // samples in the held-out split
	Vocab       []string          `json:"vocab,omitempty"`     // token id → word; 0 is padding, 1 unknown; nil where tokens are given as numbers
	VocabSize   int               `json:"vocab_size"`          // tokens are in [0, VocabSize)
	Tokenizer   *tokenizer.Kept   `json:"tokenizer,omitempty"` // that makes the tokens; nil: Vocab does, or they are given as numbers
	Actions     *Stats            `json:"actions,omitempty"`
	Stats       map[string]*Stats `json:"stats,omitempty"` // of other features that are normalised, by name; see StatsOf
	ImageMean   [3]float32        `json:"image_mean"`
	ImageStd    [3]float32        `json:"image_std"`
	Worded      *Worded           `json:"wordings,omitempty"` // that training shows instructions in; nil: as the data has them
	Augment     *Augmented        `json:"augment,omitempty"`  // how pictures are changed in training; nil: they are not
	Rate        float64           `json:"rate,omitempty"`     // frames a second; 0: the data does not say

	Sets []SetMeta `json:"sets,omitempty"` // of a mixture, which has no Actions and no Stats of its own: see In

	// Of a run that went on with changed data; see Accept.
	Held    []int    `json:"held,omitzero"`     // the held-out episodes, from 0, where the job's choice would be another now; empty, not nil, where nobody is left
	Start   *Start   `json:"start,omitempty"`   // where the order began anew
	Changes []Change `json:"changes,omitempty"` // oldest first
}

// Order is the data's order for a job of that seed, of global samples a step in
// micro-batches of micro. Where the data has changed on the way, it begins anew at
// the step of the change.
func (m *Meta) Order(seed uint64, global, micro int, shuffle bool) Order {
	o := Order{Seed: seed, N: m.Train, Global: global, Micro: micro, Shuffle: shuffle}
	for _, s := range m.Sets {
		o.Parts = append(o.Parts, Part{s.Train, s.Share})
	}
	if s := m.Start; s != nil {
		o.Start, o.Epoch = s.Step*uint64(global), s.Epoch
	}
	return o
}

// StatsOf returns the statistics of the feature called name; nil where there
// are none, and its numbers are used as they are.
func (m *Meta) StatsOf(name string) *Stats {
	if name == models.Actions {
		return m.Actions
	}
	return m.Stats[name]
}

// setStats keeps the statistics of the feature called name.
func (m *Meta) setStats(name string, s *Stats) {
	if name == models.Actions {
		m.Actions = s
		return
	}
	m.Stats = maps.Clone(m.Stats) // a given Meta may share it
	if m.Stats == nil {
		m.Stats = map[string]*Stats{}
	}
	m.Stats[name] = s
}

// Stats are the training split's statistics of a feature of numbers, such as
// the actions: in physical units, one value for each place of its last axis.
type Stats struct {
	Mode    string  `json:"mode"`              // see Modes
	Epsilon float64 `json:"epsilon,omitempty"` // see Scaling
	Clip    float64 `json:"clip,omitempty"`
	Mask    []int   `json:"mask,omitempty"` // dimensions that are left as they are, ascending

	Relative []int `json:"relative,omitempty"` // of actions: by dimension, which of the state is taken off it, -1: none; nil: none of any

	Names []string  `json:"names"`
	Units []string  `json:"units"`
	Mean  []float64 `json:"mean"`
	Std   []float64 `json:"std"`
	Min   []float64 `json:"min"`
	Max   []float64 `json:"max"`
	Q01   []float64 `json:"q01"`
	Q10   []float64 `json:"q10,omitempty"`
	Q90   []float64 `json:"q90,omitempty"`
	Q99   []float64 `json:"q99"`
	Count int       `json:"count"`
}

// Sample is one sample on its way to a batch: compact, and the unit that the
// coordinator delivers to workers that do not hold the data. EncodeSamples and
// DecodeSamples are the wire form. Its values are to be read only: several
// samples may share them.
type Sample struct {
	ID     uint64  // place in the whole data set, both splits; names the sample's random numbers
	Epoch  uint64  // in which it stands in the training stream; 0 elsewhere
	Set    int     // of a mixture, from 0, whose statistics its numbers have; 0: the data is one set
	Origin string  // file and record or line, for messages
	Values []Value // of Meta.Spec's features, in their order

	words *utterance // its instruction's wordings, where there are several; see Wordings
}

// Value is one feature of a sample, in one of these forms.
type Value struct {
	Image            // a picture
	Floats []float32 // numbers in physical units, which the Collator normalises; or a picture's C·H·W values, used as they are
	Ints   []int32   // tokens, padded to the feature's length
}

// Image is a picture in one of two forms.
type Image struct {
	Encoded []byte // PNG or JPEG file bytes, or
	RGB     []byte // H·W·3 bytes
	H, W    int    // of RGB, and of a picture that is given as values
}

// Source is one split of a data set. Implementations are safe for concurrent
// use, and Sample(i) is a pure function of i.
type Source interface {
	Len() int
	// Sample returns sample i in [0, Len). Errors name the file and record.
	Sample(i int) (Sample, error)
}

// Dataset is an opened data set: both splits and what was fixed about them.
type Dataset interface {
	Meta() Meta
	Train() Source
	Heldout() Source // Len 0 where nothing is held out
	// Findings are what is no error and hardly meant, in a fixed order. The
	// first call may look through all actions.
	Findings() []Finding
	// Survey decodes and checks samples, and sums up the data set.
	Survey(ctx context.Context, s Survey) (Summary, error)
	// Glimpses are up to n samples of the training split to look at, of different
	// episodes.
	Glimpses(n int) []Glimpse
	// Frame is a sample by its place: frame of episode, as the data numbers them.
	Frame(episode int64, frame int) (s Sample, heldOut bool, err error)
	// Index is what a run keeps of the samples; ErrNoIndex where there is none.
	Index(ctx context.Context) (*Index, error)
	// Scans are what workers that see the same files need not read again, by
	// Scan.Name; none where there is little to spare. See Watch.Theirs.
	Scans() []*Scan
	// Beside is the folder for what is made of the data and kept beside it; empty:
	// the data lies nowhere. It need not be there, and may be one that cannot be
	// written to.
	Beside() string
	// Change says how the data differs from that of the Meta it was opened
	// with; nil where it does not. See Watch.Other.
	Change() *Change
	Close() error
}

// Feed yields the samples of a micro-batch, wherever they are.
// LocalFeed reads a Source; Delivered asks the coordinator. A Feed is safe
// for concurrent use.
type Feed interface {
	// Micro returns the samples of micro-batch m of step (0-based), in order. It
	// may be asked for any, in any order, and again. An error is of this try: it
	// says which sample could not be had, or that ctx has ended.
	Micro(ctx context.Context, step uint64, m int) ([]Sample, error)
}
