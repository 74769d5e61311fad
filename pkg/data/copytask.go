package data

import (
	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/job"
)

// The copy task: sequences of seq_len tokens, uniform in 1 … vocab-1 (0 is
// padding), whose labels are themselves. Sequence i is a pure function of the
// seed and i. An episode is one sequence.

const maxEpisodes = limits.Vocabulary // of a synthetic source

// Copy is the options of copy data.
type Copy struct {
	Episodes int `yaml:"episodes,omitempty"` // sequences in an epoch
	SeqLen   int `yaml:"seq_len,omitempty"`  // tokens in a sequence
	TextKeys `yaml:",inline"`
}

func copyKind() job.Kind {
	return job.Kind{Name: "copy", About: "sequences of tokens that are their own labels", Options: Copy{Episodes: 10000, SeqLen: 16}}
}

// Gives is job.DataOptions'.
func (Copy) Gives() []string { return sequenceFeatures() }

// Padding is job.DataOptions'.
func (Copy) Padding() int { return -1 }

// Resolve is job.Options'.
func (k Copy) Resolve(j *job.Job, given func(string) bool) job.Options {
	holdout(j, given, 0.1)
	return k
}

// Check is job.Options'.
func (k Copy) Check(c *job.Checker) {
	checkMade(c)
	checkSequence(c, k.Episodes, k.SeqLen, 2, "the copy task needs at least 2 words")
	k.TextKeys.check(c)
}

// Open is Options'.
func (k Copy) Open(o *Opening) (*Set, error) {
	n, length, vocab := k.Episodes, k.SeqLen, o.vocabSize()
	held, err := o.HeldOut(n, nil)
	if err != nil {
		return nil, err
	}
	fp := NewFingerprint("copy").Add("recipe", 1).Add("seed", o.Seed).Add("sequences", n).Add("length", length).Add("vocab", vocab).Add("holdout", o.Division())
	meta, err := o.Meta(fp.Sum())
	if err != nil {
		return nil, err
	}
	meta.VocabSize = vocab
	for i := range meta.Spec { // both are tokens
		meta.Spec[i].Shape = []int{length}
	}
	get := func(i int) (Sample, error) {
		tokens := make([]int32, length)
		st := philox.Stream{Seed: o.Seed, Purpose: philox.CopyTask, Sample: uint64(i)}
		for t := range tokens {
			tokens[t] = int32(1 + st.Intn(uint32(t), vocab-1))
		}
		s := Sample{ID: uint64(i), Values: make([]Value, len(meta.Spec))}
		for k := range s.Values { // tokens, and labels that are the same
			s.Values[k].Ints = tokens
		}
		return s, nil
	}
	return NewSet(meta, Samples{N: n, Episodes: n, Held: held, Episode: func(i int) int { return i }, Get: get})
}
