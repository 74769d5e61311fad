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
	if err := o.lacks("images", "actions", "features"); err != nil {
		return nil, err
	}
	n, length, distance, vocab := o.cfg.Episodes, o.cfg.SeqLen, o.cfg.Distance, o.needs.VocabSize
	switch {
	case n < 1 || n > maxEpisodes:
		return nil, fmt.Errorf("data.episodes is %d; it can be 1 to %d", n, maxEpisodes)
	case length < 2 || length > 1<<20:
		return nil, fmt.Errorf("data.seq_len is %d; it can be 2 to %d", length, 1<<20)
	case distance < 1 || distance >= length:
		return nil, fmt.Errorf("data.distance is %d; it can be 1 to data.seq_len-1 = %d", distance, length-1)
	case o.needs.MaxTokens > 0 && length > o.needs.MaxTokens:
		return nil, fmt.Errorf("data.seq_len is %d, model.max_len is %d", length, o.needs.MaxTokens)
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
	meta.Spec.Tokens, meta.Spec.Labels, meta.VocabSize = length, o.needs.Labels, vocab
	keys := recallKeys(vocab)
	get := func(i int) (Sample, error) {
		s := Sample{ID: uint64(i), Tokens: make([]int32, length)}
		st := philox.Stream{Seed: o.seed, Purpose: philox.CopyTask, Site: 1, Sample: uint64(i)}
		for t := range s.Tokens {
			s.Tokens[t] = int32(2 + keys + st.Intn(uint32(t), vocab-2-keys))
		}
		at := length - 1 - distance
		s.Tokens[at] = int32(2 + st.Intn(uint32(at), keys))
		s.Tokens[length-1] = question
		if meta.Spec.Labels {
			s.Labels = make([]int32, length)
			for t := range s.Labels {
				s.Labels[t] = models.NoLabel
			}
			s.Labels[length-1] = s.Tokens[at]
		}
		return s, nil
	}
	return newSet(meta, n, n, held, func(i int) int { return i }, get, nil)
}
