package data

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/vlaring/vlaring/internal/philox"
)

// Order says which sample stands at which position of a job's endless stream.
// It is a few numbers of the job and its data, and a pure function: it has no state, holds no
// table and knows nothing of ranks or world size. A run resumes from its step
// number alone, and a change of workers neither loses nor repeats a sample.
//
//	stream    |<------ epoch 0 ------>|<------ epoch 1 ------>| …
//	position   0 1 2 …             N-1 N N+1 …
//	step       |<- step 0: G ->|<- step 1: G ->|<- step 2 …
//	micro      |m0|m1|m2|…     |
//
// A step may straddle two epochs, and may be longer than one. In a mixture each
// set has epochs of its own: see Part.
type Order struct {
	Seed    uint64
	N       int    // samples of the training split
	Parts   []Part // of a mixture, whose training split is theirs one after the other; nil: it is one set
	Global  int    // samples a step
	Micro   int    // samples a micro-batch; divides Global
	Shuffle bool   // false: every epoch runs 0, 1, … N-1

	// Where the data has changed on the way: position Start begins epoch Epoch.
	// Zeros: nothing has. Earlier positions, which nobody asks for any more,
	// are as if it had not.
	Start, Epoch uint64
}

// Part is a set of a mixture: its samples, and its share of the stream's
// positions, in units of which all parts together have whole.
//
// The stream is cut into blocks. How many positions of the blocks before it a set
// has had is its share of them, rounded down, of what the sets listed before it
// have left: so after any block a set is fewer positions from its share than there
// are sets. The positions of a block are dealt out among its sets by a keyed shuffle. The k-th
// position of a set in the stream, from 0, is sample k mod N of the set's epoch
// k div N.
//
//	block      |<- 64 ->|<- 64 ->| …       shares 2 : 1
//	set         ABAABABA AABBAABA …        within a block in any order
//	draw of A   0 12 3 4 56  78 9 …        k counts on from block to block
type Part struct {
	N     int
	Share uint64 // above 0
}

// whole is the sum of the shares of a mixture, and block the positions among
// which its sets are shuffled.
const (
	whole = 1 << 32
	block = 64
)

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
	n, share := 0, uint64(0)
	for i, p := range o.Parts {
		if p.N < 1 || p.Share < 1 || p.Share > whole {
			return fmt.Errorf("data order: set %d of the mixture has %d samples and the share %d of %d", i, p.N, p.Share, uint64(whole))
		}
		n, share = n+p.N, share+p.Share
	}
	if len(o.Parts) > 0 && (n != o.N || share != whole) {
		return fmt.Errorf("data order: the sets of the mixture have %d samples of %d, and the shares %d of %d", n, o.N, share, uint64(whole))
	}
	return nil
}

// Micros is the number of micro-batches in a step.
func (o Order) Micros() int { return o.Global / o.Micro }

// Sample returns the sample, in [0, N), at position pos of the stream.
func (o Order) Sample(pos uint64) int {
	i, _ := o.At(pos)
	return i
}

// At returns the sample, in [0, N), at position pos of the stream, and the epoch in
// which it stands there: an epoch of the data, or of the set of a mixture that the
// sample is of, holds each of its samples once.
func (o Order) At(pos uint64) (sample int, epoch uint64) {
	first := uint64(0)
	if pos >= o.Start {
		pos, first = pos-o.Start, o.Epoch
	}
	s := philox.Stream{Seed: o.Seed, Purpose: philox.Shuffle}
	n, begin := o.N, 0
	if o.Parts != nil {
		var set int
		set, pos = o.draw(pos, first)
		for _, p := range o.Parts[:set] {
			begin += p.N
		}
		n, s.Sample = o.Parts[set].N, uint64(set)
	}
	epoch, pos = first+pos/uint64(n), pos%uint64(n)
	if o.Shuffle {
		s.Step = epoch
		pos = permute(s, uint64(n), pos)
	}
	return begin + int(pos), epoch
}

// draw says which set of the mixture position pos since the epoch first has, and
// which of the set's draws it is.
func (o Order) draw(pos, first uint64) (set int, k uint64) {
	b := pos / block
	had, has := o.drawn(b*block), o.drawn((b+1)*block)
	var deal [block]int // the sets of the block's positions
	i := 0
	for d := range had {
		for range has[d] - had[d] {
			deal[i] = d
			i++
		}
	}
	if o.Shuffle { // Fisher and Yates's
		s := philox.Stream{Seed: o.Seed, Purpose: philox.Mixture, Step: b, Sample: first}
		for i := block - 1; i > 0; i-- {
			j := s.Intn(uint32(i), i+1)
			deal[i], deal[j] = deal[j], deal[i]
		}
	}
	at := pos % block
	set = deal[at]
	k = had[set]
	for _, d := range deal[:at] {
		if d == set {
			k++
		}
	}
	return set, k
}

// drawn is how many of the first n positions each set of the mixture has, where n
// is a multiple of block.
func (o Order) drawn(n uint64) []uint64 {
	out, left := make([]uint64, len(o.Parts)), uint64(whole)
	for d, p := range o.Parts {
		hi, lo := bits.Mul64(n, p.Share)
		out[d], _ = bits.Div64(hi, lo, left)
		n, left = n-out[d], left-p.Share
	}
	return out
}

// begun is the number of the first epoch of which no sample stands before
// position pos.
func (o Order) begun(pos uint64) uint64 {
	parts, had := o.Parts, []uint64{pos - min(o.Start, pos)}
	if parts == nil {
		parts = []Part{{N: max(o.N, 1)}}
	} else {
		had = o.drawn((had[0] + block - 1) / block * block)
	}
	epochs := uint64(0)
	for d, p := range parts {
		epochs = max(epochs, (had[d]+uint64(p.N)-1)/uint64(p.N))
	}
	if pos >= o.Start {
		epochs += o.Epoch
	}
	return epochs
}

// sharesOf divides whole among sets by their weights, which are above 0: by the
// largest remainder, and at least 1 each, at the expense of the largest.
func sharesOf(weights []float64) []uint64 {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	shares, left := make([]uint64, len(weights)), int64(whole)
	order, rest := make([]int, len(weights)), make([]float64, len(weights))
	largest := 0
	for d, w := range weights {
		exact := float64(w / sum * whole) // rounded by itself, on every machine
		shares[d] = max(1, uint64(exact))
		order[d], rest[d] = d, exact-math.Floor(exact)
		left -= int64(shares[d])
		if shares[d] > shares[largest] {
			largest = d
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rest[b], rest[a]) })
	for i := 0; left > 0; i++ {
		shares[order[i%len(order)]]++
		left--
	}
	shares[largest] -= uint64(-left) // 0, but where a set got more than its weight says
	return shares
}

// Slice appends the samples of micro-batch m of step (both from 0) to dst, in order.
func (o Order) Slice(step uint64, m int, dst []int) []int {
	pos := o.position(step, m)
	for i := 0; i < o.Micro; i++ {
		dst = append(dst, o.Sample(pos+uint64(i)))
	}
	return dst
}

// position is that of the first sample of micro-batch m of step.
func (o Order) position(step uint64, m int) uint64 {
	return step*uint64(o.Global) + uint64(m)*uint64(o.Micro)
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
