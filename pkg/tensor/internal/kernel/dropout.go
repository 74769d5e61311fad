package kernel

import "github.com/vlaring/vlaring/internal/philox"

// Drop is one dropout: elements whose random word is below Threshold become 0,
// the others are scaled.
type Drop struct {
	Threshold uint32
	Scale     float32
}

// NewDrop returns the dropout of probability p, 0 ≤ p < 1: an element is kept
// with probability 1-p and multiplied by 1/(1-p).
func NewDrop(p float32) Drop {
	return Drop{Threshold: uint32(float64(p) * (1 << 32)), Scale: float32(1 / (1 - float64(p)))}
}

// Apply writes dst = src·scale where kept and 0 elsewhere. Element i of the
// slices is element first+i of the stream.
func (d Drop) Apply(dst, src []float32, s philox.Stream, first uint32) {
	src = src[:len(dst)]
	for i := 0; i < len(dst); {
		e := first + uint32(i)
		w := s.Block(e >> 2)
		for j := e & 3; j < 4 && i < len(dst); j, i = j+1, i+1 {
			if w[j] < d.Threshold {
				dst[i] = 0
			} else {
				dst[i] = src[i] * d.Scale
			}
		}
	}
}
