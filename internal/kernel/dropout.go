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

// dropChunk bounds the elements of one call of assembly; a multiple of four.
const dropChunk = 1 << 15

// Apply writes dst = src·scale where kept and 0 elsewhere. Element i of the
// slices is element first+i of the stream. dst may be src itself.
func (d Drop) Apply(dst, src []float32, s philox.Stream, first uint32) {
	src = src[:len(dst)]
	if row == nil {
		d.plain(dst, src, nil, s, first)
		return
	}
	head := min(int(-first&3), len(dst)) // up to where the stream's blocks of four begin
	d.plain(dst[:head], src[:head], nil, s, first)
	for i := head; i < len(dst); i += dropChunk {
		row.drop(&dst[i], &src[i], min(dropChunk, len(dst)-i), (first+uint32(i))>>2,
			uint32(s.Sample), uint32(s.Step), uint32(s.Purpose)<<24|s.Site&0xFFFFFF, uint32(s.Seed), uint32(s.Seed>>32), d.Threshold, d.Scale)
	}
}

// Add writes dst = x + y where Apply was done to y first: a residual.
func (d Drop) Add(dst, x, y []float32, s philox.Stream, first uint32) {
	x, y = x[:len(dst)], y[:len(dst)]
	if row == nil {
		d.plain(dst, y, x, s, first)
		return
	}
	head := min(int(-first&3), len(dst))
	d.plain(dst[:head], y[:head], x[:head], s, first)
	for i := head; i < len(dst); i += dropChunk {
		row.dropAdd(&dst[i], &y[i], &x[i], min(dropChunk, len(dst)-i), (first+uint32(i))>>2,
			uint32(s.Sample), uint32(s.Step), uint32(s.Purpose)<<24|s.Site&0xFFFFFF, uint32(s.Seed), uint32(s.Seed>>32), d.Threshold, d.Scale)
	}
}

// ApplyTwo is Apply of src to dst, and of also in place: both lose the same elements.
func (d Drop) ApplyTwo(dst, src, also []float32, s philox.Stream, first uint32) {
	src, also = src[:len(dst)], also[:len(dst)]
	head := len(dst)
	if row != nil {
		head = min(int(-first&3), len(dst))
	}
	d.plain(dst[:head], src[:head], nil, s, first)
	d.plain(also[:head], also[:head], nil, s, first)
	for i := head; i < len(dst); i += dropChunk {
		row.dropTwo(&dst[i], &src[i], &also[i], min(dropChunk, len(dst)-i), (first+uint32(i))>>2,
			uint32(s.Sample), uint32(s.Step), uint32(s.Purpose)<<24|s.Site&0xFFFFFF, uint32(s.Seed), uint32(s.Seed>>32), d.Threshold, d.Scale)
	}
}

// plain is the definition of both; add is nil for none.
func (d Drop) plain(dst, src, add []float32, s philox.Stream, first uint32) {
	for i := 0; i < len(dst); {
		e := first + uint32(i)
		w := s.Block(e >> 2)
		for j := e & 3; j < 4 && i < len(dst); j, i = j+1, i+1 {
			x := float32(0)
			if w[j] >= d.Threshold {
				x = float32(src[i] * d.Scale)
			}
			if add != nil {
				x += add[i]
			}
			dst[i] = x
		}
	}
}
