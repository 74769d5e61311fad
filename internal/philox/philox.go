// Package philox is the project's only source of randomness: the counter-based
// generator Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel Random
// Numbers: As Easy as 1, 2, 3" (SC 2011), checked against the test vectors of
// their Random123 distribution.
//
// A draw is a pure function of (seed, purpose, site, step, sample, element).
// Nothing depends on rank, time, thread or the order of calls, so any worker
// that is given a micro-batch draws the same numbers for it.
//
//	counter word   0                 1             2           3
//	               element/4         sample        step        purpose<<24 | site
//	key            seed low, seed high
//
// Sample and step are taken modulo 2³²: a job of more steps or samples than
// that would repeat draws, not fail.
package philox

// Purpose separates the uses of randomness, so that two never share a stream.
type Purpose uint8

const (
	Init    Purpose = 1 // parameter initialisation; site = hash of the parameter name, sample and step 0
	Dropout Purpose = 2 // site = index of the dropout on the tape
	Shuffle Purpose = 3 // round keys of the data order's Feistel permutation; step = epoch
	Scene   Purpose = 4 // synthetic episodes; site is the source's own
	Holdout Purpose = 6 // choice of held-out episodes
	// 5 and 7 were of uses that there are none of; a number is not given again.
	CopyTask Purpose = 8  // copy-task sequences
	Mixture  Purpose = 9  // sets of a mixture's positions; step = block of the stream, sample = epoch with which it began
	Noise    Purpose = 11 // that actions are made of; site is the head's own, its bit 23 set where step is not counted
	Augment  Purpose = 12 // looks at a sample's pictures; site = camera where each has its own, step = epoch, sample = its number
	Wording  Purpose = 13 // of a sample's wordings, the one that is shown; step = epoch, sample = its number
)

// Stream names an endless sequence of numbers: one (seed, purpose, site, step, sample).
type Stream struct {
	Seed    uint64
	Purpose Purpose
	Site    uint32 // 24 bits
	Step    uint64
	Sample  uint64
}

const (
	mul0  = 0xD2511F53
	mul1  = 0xCD9E8D57
	weyl0 = 0x9E3779B9
	weyl1 = 0xBB67AE85
)

// Block returns the four 32-bit words of elements 4·block … 4·block+3.
func (s Stream) Block(block uint32) [4]uint32 {
	return rounds([4]uint32{block, uint32(s.Sample), uint32(s.Step), uint32(s.Purpose)<<24 | s.Site&0xFFFFFF},
		[2]uint32{uint32(s.Seed), uint32(s.Seed >> 32)})
}

// Uint32 returns the word of one element.
func (s Stream) Uint32(element uint32) uint32 { return s.Block(element >> 2)[element&3] }

// Uniform returns element's draw in [0, 1): its upper 24 bits times 2⁻²⁴, exact in float32.
func (s Stream) Uniform(element uint32) float32 {
	return float32(s.Uint32(element)>>8) * (1.0 / (1 << 24))
}

// Intn returns element's draw in [0, n) by multiply-shift; the bias is below n/2³².
func (s Stream) Intn(element uint32, n int) int {
	return int(uint64(s.Uint32(element)) * uint64(n) >> 32)
}

// rounds is the bare Philox4x32-10 bijection of a counter under a key.
func rounds(c [4]uint32, k [2]uint32) [4]uint32 {
	for r := 0; r < 10; r++ {
		p0, p1 := uint64(c[0])*mul0, uint64(c[2])*mul1
		c = [4]uint32{uint32(p1>>32) ^ c[1] ^ k[0], uint32(p1), uint32(p0>>32) ^ c[3] ^ k[1], uint32(p0)}
		k[0] += weyl0
		k[1] += weyl1
	}
	return c
}
