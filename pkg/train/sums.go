package train

import (
	"fmt"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// sums are the checksums of the weights, of one piece of the slab after the other. An
// update leaves those of what it has just written, which is in the cache still: so the
// checksum that each step is recorded with reads no memory of its own.
//
//	slab   │ piece │ piece │ piece │ rest │
//	update  Step, sum │ Step, sum │ …            a piece a thread
//	record  the pieces that no update has left, then all are joined
type sums struct {
	slab  []float32
	size  int      // of a piece
	of    []uint32 // of pieces
	known []bool   // the piece is as it was when of was written
	ask   []int    // pieces that are to be summed, by
	sum   func(i int)

	joint, rest octets.Joint // of a piece, and of the last one
}

// summed is the floats of a piece: with the gradient and two moments it is 1 MB, which a
// core's own cache holds.
const summed = 1 << 16

func sumsOf(slab []float32, size int) *sums {
	n := max(1, (len(slab)+size-1)/size)
	s := &sums{slab: slab, size: size, of: make([]uint32, n), known: make([]bool, n), ask: make([]int, 0, n)}
	s.sum = func(i int) { s.of[s.ask[i]] = checksum(s.piece(s.ask[i])) }
	s.joint, s.rest = octets.JointOf(4*int64(size)), octets.JointOf(4*int64(len(s.piece(n-1))))
	return s
}

func (s *sums) piece(i int) []float32 {
	return s.slab[i*s.size : min((i+1)*s.size, len(s.slab))]
}

// drop forgets all: the weights are others.
func (s *sums) drop() { clear(s.known) }

// sumWritten forgets the pieces of which an update has written [lo, hi), and sums those
// that lie in it whole.
func (t *Trainer) sumWritten(lo, hi int) {
	s := t.sums
	for i := lo / s.size; i < len(s.of) && i*s.size < hi; i++ {
		s.known[i] = false
		if i*s.size >= lo && i*s.size+len(s.piece(i)) <= hi {
			s.ask = append(s.ask, i)
		}
	}
	t.sumAsked()
}

// sumAsked sums the pieces that are asked for, with the trainer's threads.
func (t *Trainer) sumAsked() {
	s := t.sums
	t.rt.Each(len(s.ask), s.sum)
	for _, i := range s.ask {
		s.known[i] = true
	}
	s.ask = s.ask[:0]
}

// updateWhole does the optimizer's step on a range of the slab, gradients in g, and sums
// the weights as it goes.
func (t *Trainer) updateWhole(r allreduce.Range, g []float32, rate float64, scale float32) {
	w, size := t.params.Values(), t.sums.size*t.rt.Threads()
	for lo, hi := r.Lo, 0; lo < r.Hi; lo = hi {
		hi = min(lo-lo%size+size, r.Hi)
		part := allreduce.Range{Lo: lo, Hi: hi}
		if t.optimize(part, w[lo:hi], g[lo:hi], t.cutSlots(part), rate, scale) {
			t.sumWritten(lo, hi)
		}
	}
}

// WeightsSum names the weights: their checksum in the digits that Digest has of them. Each step of
// a run is recorded with it. It is called between steps, on the goroutine that takes them.
func (t *Trainer) WeightsSum() string {
	s := t.sums
	for i, known := range s.known {
		if !known {
			s.ask = append(s.ask, i)
		}
	}
	t.sumAsked()
	sum := s.of[0]
	for i := 1; i < len(s.of); i++ {
		joint := s.joint
		if i == len(s.of)-1 {
			joint = s.rest
		}
		sum = joint.Sums(sum, s.of[i])
	}
	return fmt.Sprintf("%08x", sum)
}
