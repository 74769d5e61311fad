package data

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/models"
)

// The copy task: sequences of seq_len tokens, uniform in 1 … vocab-1 (0 is
// padding), whose labels are themselves. Sequence i is a pure function of the
// seed and i. An episode is one sequence.

const (
	defaultCopyEpisodes = 10000
	defaultSeqLen       = 16
	maxEpisodes         = 1 << 24 // of a synthetic source
)

func openCopy(o *opening) (*set, error) {
	if err := o.has(models.Instruction, models.Labels); err != nil {
		return nil, err
	}
	n, length, vocab := o.cfg.Episodes, o.cfg.SeqLen, o.vocabSize()
	most := o.longest()
	if n == 0 {
		n = defaultCopyEpisodes
	}
	if length == 0 {
		length = defaultSeqLen
	}
	switch {
	case n < 1 || n > maxEpisodes:
		return nil, fmt.Errorf("data.episodes is %d; it can be 1 to %d", n, maxEpisodes)
	case length < 1 || length > 1<<20:
		return nil, fmt.Errorf("data.seq_len is %d; it can be 1 to %d", length, 1<<20)
	case most > 0 && length > most:
		return nil, fmt.Errorf("data.seq_len is %d, model.max_len is %d", length, most)
	case vocab < 2:
		return nil, fmt.Errorf("model.vocab_size is %d; the copy task needs it, and at least 2 (token 0 is padding)", vocab)
	}
	held, err := heldOut(o.cfg.Holdout, o.seed, n, nil)
	if err != nil {
		return nil, err
	}
	fp := newPrint("copy").add("recipe", 1).add("seed", o.seed).add("sequences", n).add("length", length).add("vocab", vocab).add("holdout", o.holdoutLabel())
	meta, err := o.base(fp.sum())
	if err != nil {
		return nil, err
	}
	meta.VocabSize = vocab
	for i := range meta.Spec { // both are tokens
		meta.Spec[i].Shape = []int{length}
	}
	get := func(i int) (Sample, error) {
		tokens := make([]int32, length)
		st := philox.Stream{Seed: o.seed, Purpose: philox.CopyTask, Sample: uint64(i)}
		for t := range tokens {
			tokens[t] = int32(1 + st.Intn(uint32(t), vocab-1))
		}
		s := Sample{ID: uint64(i), Values: make([]Value, len(meta.Spec))}
		for k := range s.Values { // tokens, and labels that are the same
			s.Values[k].Ints = tokens
		}
		return s, nil
	}
	return newSet(meta, n, n, held, func(i int) int { return i }, get, nil)
}
