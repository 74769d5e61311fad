package data

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/philox"
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

func openRecall(o *opening) (*set, error) {
	if err := o.has(models.Instruction, models.Labels); err != nil {
		return nil, err
	}
	n, length, distance, vocab := o.cfg.Episodes, o.cfg.SeqLen, o.cfg.Distance, o.vocabSize()
	most := o.longest()
	switch {
	case n < 1 || n > maxEpisodes:
		return nil, fmt.Errorf("data.episodes is %d; it can be 1 to %d", n, maxEpisodes)
	case length < 2 || length > 1<<20:
		return nil, fmt.Errorf("data.seq_len is %d; it can be 2 to %d", length, 1<<20)
	case distance < 1 || distance >= length:
		return nil, fmt.Errorf("data.distance is %d; it can be 1 to data.seq_len-1 = %d", distance, length-1)
	case most > 0 && length > most:
		return nil, fmt.Errorf("data.seq_len is %d, model.max_len is %d", length, most)
	case vocab < 6:
		return nil, fmt.Errorf("model.vocab_size is %d; the recall task needs it, and at least 6 (padding, the question, two keys, two others)", vocab)
	}
	held, err := heldOut(o.cfg.Holdout, o.seed, n, nil)
	if err != nil {
		return nil, err
	}
	fp := newPrint("recall").add("recipe", 1).add("seed", o.seed).add("sequences", n).add("length", length).add("distance", distance).add("vocab", vocab).add("holdout", o.holdoutLabel())
	meta, err := o.base(fp.sum())
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
		st := philox.Stream{Seed: o.seed, Purpose: philox.CopyTask, Site: 1, Sample: uint64(i)}
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
	return newSet(meta, n, n, held, func(i int) int { return i }, get, nil)
}
