package data

import (
	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The recall task: a key early in the sequence must be named at its end,
// across distance tokens that have nothing to do with it. Only the last token
// is a target.
//
//	tokens   n n n K n n n … n n ?      0 padding · 1 the question, ?
//	labels   . . . . . . . … . . K      2 … K+1 keys · K+2 … vocab-1 others, n
//	               └──distance──┘       half of the words that are left are keys
//
// Sequence i is a pure function of the seed and i; an episode is one sequence.

const question = 1

// recallKeys is how many of a vocabulary's words are keys.
func recallKeys(vocab int) int { return (vocab - 2) / 2 }

// Recall is the options of recall data.
type Recall struct {
	Episodes int `yaml:"episodes,omitempty"` // sequences in an epoch
	SeqLen   int `yaml:"seq_len,omitempty"`  // tokens in a sequence
	Distance int `yaml:"distance,omitempty"` // tokens from the key to its recall
	TextKeys `yaml:",inline"`
}

func recallKind() job.Kind {
	return job.Kind{Name: "recall", About: "sequences of tokens with a key to remember", Options: Recall{Episodes: 10000, SeqLen: 16}}
}

// Gives is job.DataOptions'.
func (Recall) Gives() []string { return sequenceFeatures() }

// Padding is job.DataOptions'.
func (Recall) Padding() int { return -1 }

// Resolve is job.Options'. The key comes first, unless told otherwise.
func (k Recall) Resolve(j *job.Job, given func(string) bool) job.Options {
	switch {
	case given("data.distance") && !given("data.seq_len"):
		k.SeqLen = k.Distance + 1
	case !given("data.distance"):
		k.Distance = k.SeqLen - 1
	}
	holdout(j, given, 0.1)
	return k
}

// Check is job.Options'.
func (k Recall) Check(c *job.Checker) {
	checkMade(c)
	checkSequence(c, k.Episodes, k.SeqLen, 6, "recall needs padding, a question, two keys and two others: at least 6")
	if k.Distance < 1 || k.Distance >= k.SeqLen {
		c.Bad("data.distance data.seq_len", "%d is not within the sequence; want 1 to data.seq_len-1 = %d", k.Distance, k.SeqLen-1)
	}
	k.TextKeys.check(c)
}

// Open is Options'.
func (k Recall) Open(o *Opening) (*Set, error) {
	n, length, distance, vocab := k.Episodes, k.SeqLen, k.Distance, o.vocabSize()
	held, err := o.HeldOut(n, nil)
	if err != nil {
		return nil, err
	}
	fp := NewFingerprint("recall").Add("recipe", 1).Add("seed", o.Seed).Add("sequences", n).Add("length", length).Add("distance", distance).Add("vocab", vocab).Add("holdout", o.Division())
	meta, err := o.Meta(fp.Sum())
	if err != nil {
		return nil, err
	}
	meta.VocabSize = vocab
	for i := range meta.Spec { // both are tokens
		meta.Spec[i].Shape = []int{length}
	}
	keys := recallKeys(vocab)
	get := func(i int) (Sample, error) {
		tokens := make([]int32, length)
		st := philox.Stream{Seed: o.Seed, Purpose: philox.CopyTask, Site: 1, Sample: uint64(i)}
		for t := range tokens {
			tokens[t] = int32(2 + keys + st.Intn(uint32(t), vocab-2-keys))
		}
		at := length - 1 - distance
		tokens[at] = int32(2 + st.Intn(uint32(at), keys))
		tokens[length-1] = question
		s := Sample{ID: uint64(i), Values: make([]Value, len(meta.Spec))}
		for k, f := range meta.Spec {
			v := tokens
			if f.Role == models.Target {
				v = make([]int32, length)
				for t := range v {
					v[t] = models.NoLabel
				}
				v[length-1] = tokens[at]
			}
			s.Values[k].Ints = v
		}
		return s, nil
	}
	return NewSet(meta, Samples{N: n, Episodes: n, Held: held, Episode: func(i int) int { return i }, Get: get})
}
