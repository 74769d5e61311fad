package models

import (
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/portable"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// PositionalEncoding is the fixed table of sines and cosines,
//
//	pe[t, 2i]   = sin(t·f(i))      f(i) = 10000^(-2i/D)
//	pe[t, 2i+1] = cos(t·f(i))
//
// computed as the reference does: frequency and angle in float32, so that the
// table agrees with PyTorch's to the last bits also at far positions.
type PositionalEncoding struct {
	d, maxLen int
}

// NewPositionalEncoding returns the encoding of width d, which must be even,
// for up to maxLen positions.
func NewPositionalEncoding(d, maxLen int) (*PositionalEncoding, error) {
	if d < 2 || d%2 != 0 {
		return nil, errors.New(oddWidth(d))
	}
	if maxLen < 1 {
		return nil, fmt.Errorf("%d positions; want at least 1", maxLen)
	}
	return &PositionalEncoding{d, maxLen}, nil
}

// Table returns the first n rows, [n, D]. n beyond the table's length panics
// with *tensor.ShapeError: Model.Program refuses such batches before.
func (e *PositionalEncoding) Table(n int) []float32 {
	if n < 0 || n > e.maxLen {
		panic(&tensor.ShapeError{Op: "PositionalEncoding", Want: sprintf("at most %d positions", e.maxLen), Got: sprintf("%d", n)})
	}
	const ln10000 = 9.210340371976184
	step := float32(-ln10000 / float64(e.d))
	freq := make([]float32, e.d/2)
	for i := range freq {
		freq[i] = portable.Exp32(float32(float32(2*i) * step))
	}
	pe := make([]float32, n*e.d)
	for t := range n {
		row := pe[t*e.d : (t+1)*e.d]
		for i, f := range freq {
			s, c := portable.SinCos(float64(float32(float32(t) * f)))
			row[2*i], row[2*i+1] = float32(s), float32(c)
		}
	}
	return pe
}
