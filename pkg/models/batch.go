package models

// Batch is one micro-batch, ready for a model: N samples of the Spec's
// features. A Batch is owned by whoever built it; a Program copies what it
// needs in Load.
type Batch struct {
	N      int
	IDs    []uint64 // [N] sample ids, the RNG's sample word
	Sets   []int    // [N] of a mixture of data, which set each sample is of; nil: nobody says
	Spec   Spec
	Values []Column // of the Spec's features, in their order
}

// Column is one feature of all samples of a batch, row-major [N, shape…]. One
// of the two is set: Ints of tokens, Floats of all else.
type Column struct {
	Floats []float32
	Ints   []int32
}

// NewBatch allocates a batch of n samples of spec.
func NewBatch(n int, spec Spec) *Batch {
	b := &Batch{N: n, IDs: make([]uint64, n), Sets: make([]int, n), Spec: spec, Values: make([]Column, len(spec))}
	for i, f := range spec {
		if f.Type == Token {
			b.Values[i].Ints = make([]int32, n*f.Size())
		} else {
			b.Values[i].Floats = make([]float32, n*f.Size())
		}
	}
	return b
}

// Bytes is the memory of the values.
func (b *Batch) Bytes() (n int64) {
	for _, c := range b.Values {
		n += 4 * int64(len(c.Floats)+len(c.Ints))
	}
	return n
}

// Floats is the feature called name, of pictures or numbers; nil where the
// batch has none.
func (b *Batch) Floats(name string) []float32 {
	if i := b.Spec.Index(name); i >= 0 {
		return b.Values[i].Floats
	}
	return nil
}

// Ints is the feature called name, of tokens; nil where the batch has none.
func (b *Batch) Ints(name string) []int32 {
	if i := b.Spec.Index(name); i >= 0 {
		return b.Values[i].Ints
	}
	return nil
}
