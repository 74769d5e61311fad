package data

import (
	"fmt"
	"math/bits"

	"github.com/vlaring/vlaring/internal/philox"
)

// Order says which sample stands at which position of a job's endless stream.
// It is five numbers of the job (seven, once its data has changed) and a pure function: it has no state, holds no
// table and knows nothing of ranks or world size. A run resumes from its step
// number alone, and a change of workers neither loses nor repeats a sample.
//
//	stream    |<------ epoch 0 ------>|<------ epoch 1 ------>| …
//	position   0 1 2 …             N-1 N N+1 …
//	step       |<- step 0: G ->|<- step 1: G ->|<- step 2 …
//	micro      |m0|m1|m2|…     |
//
// A step may straddle two epochs, and may be longer than one.
type Order struct {
	Seed    uint64
	N       int  // samples of the training split
	Global  int  // samples a step
	Micro   int  // samples a micro-batch; divides Global
	Shuffle bool // false: every epoch runs 0, 1, … N-1

	// Where the data has changed on the way: position Start begins epoch Epoch.
	// Zeros: nothing has. Earlier positions, which nobody asks for any more,
	// are as if it had not.
	Start, Epoch uint64
}

// Validate returns an error that names the field that makes no order.
func (o Order) Validate() error {
	switch {
	case o.N < 1:
		return fmt.Errorf("data order: the training split has %d samples; it needs at least one", o.N)
	case o.Global < 1 || o.Micro < 1:
		return fmt.Errorf("data order: batch.global is %d and batch.micro is %d; both must be at least 1", o.Global, o.Micro)
	case o.Global%o.Micro != 0:
		return fmt.Errorf("data order: batch.micro %d does not divide batch.global %d", o.Micro, o.Global)
	}
	return nil
}

// Micros is the number of micro-batches in a step.
func (o Order) Micros() int { return o.Global / o.Micro }

// Sample returns the sample, in [0, N), at position pos of the stream.
// Each epoch of N positions holds every sample once.
func (o Order) Sample(pos uint64) int {
	first := uint64(0)
	if pos >= o.Start {
		pos, first = pos-o.Start, o.Epoch
	}
	epoch, p := first+pos/uint64(o.N), pos%uint64(o.N)
	if !o.Shuffle {
		return int(p)
	}
	return int(permute(philox.Stream{Seed: o.Seed, Purpose: philox.Shuffle, Step: epoch}, uint64(o.N), p))
}

// Slice appends the samples of micro-batch m of step (both from 0) to dst, in order.
func (o Order) Slice(step uint64, m int, dst []int) []int {
	pos := step*uint64(o.Global) + uint64(m)*uint64(o.Micro)
	for i := 0; i < o.Micro; i++ {
		dst = append(dst, o.Sample(pos+uint64(i)))
	}
	return dst
}

// feistelRounds is even, so that the two halves, which may differ by one bit
// in width, are back in their places at the end.
const feistelRounds = 8

// permute maps x in [0, n) to its place under the permutation that s names.
//
// It is a Feistel network on the smallest number of bits that holds n values,
// with Philox itself as the round function, walked along its cycle until it
// lands below n again: at most 2n values are in the domain, so two walks are
// the average at worst, and the walk of a bijection restricted to [0, n) is a
// bijection of [0, n).
func permute(s philox.Stream, n, x uint64) uint64 {
	b := bits.Len64(n - 1)
	low := uint(b) / 2
	for {
		// x = left (b-low bits) · right (low bits); the widths swap each round.
		lw, rw := uint(b)-low, low
		for r := uint32(0); r < feistelRounds; r++ {
			left, right := x>>rw, x&(1<<rw-1)
			s.Site = r
			f := uint64(s.Block(uint32(right))[0])
			x = right<<lw | (left^f)&(1<<lw-1)
			lw, rw = rw, lw
		}
		if x < n {
			return x
		}
	}
}
