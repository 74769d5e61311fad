package models

import "math/bits"

// Cost is what one sample costs, by count, not by measurement.
type Cost struct {
	TrainFLOPs      int64 `json:"train_flops"`      // forward and backward; a multiply-add is two
	ForwardFLOPs    int64 `json:"forward_flops"`    // forward alone
	ActivationBytes int64 `json:"activation_bytes"` // kept from forward for backward
}

// Cost counts one sample of spec in training: of a head that answers in several
// steps, one. Frozen parts have a forward alone, of which nothing is kept; where their
// results are kept it is what a sample costs that was not seen before.
func (m *Model) Cost(spec Spec) Cost {
	c := m.net.Cost(spec)
	for _, a := range m.parts(spec).list {
		var n Tally
		a.chain.count(&n, a.Steps)
		once, uses := n.Cost(), int64(len(a.uses))
		c.TrainFLOPs -= uses * (once.TrainFLOPs - once.ForwardFLOPs)
		c.ActivationBytes -= uses * once.ActivationBytes
		// What is left are its results, and the tape on which one step after the other
		// shares memory.
		c.ActivationBytes += uses*4*int64(a.Floats) + once.ActivationBytes/int64(a.Steps)
	}
	if m.layers != nil {
		var n Tally
		m.layers.Cost(&n)
		more := n.Cost()
		c.TrainFLOPs += more.TrainFLOPs
		c.ForwardFLOPs += more.ForwardFLOPs
		c.ActivationBytes += more.ActivationBytes
	}
	return c
}

// stack counts so many blocks over t tokens, the first lead of which see all.
func (c Config) stack(n *Tally, layers int, t int64, lead int) {
	d, f := int64(c.DModel), int64(c.DFF)
	pairs := c.Attention.pairs(t, lead)
	for range layers {
		n.Linear(t, d, 3*d)
		n.Products += 2 * pairs * d // scores and weighted values
		n.Linear(t, d, d)
		n.Linear(t, d, f)
		n.Linear(t, f, d)
		n.Floats += t * (3*d + d + d + 3*d + 2*f + d + 3*d)
	}
}

// vision counts an encoder of images, and returns the tokens of its sequence.
func (c Config) vision(n *Tally, layers int) int64 {
	if b := c.Vision.Backbone; b != nil {
		return b.count(n, c.ImageSize, 0)
	}
	if c.Vision.Kind == VisionCNN {
		return convCost(c, layers, &n.Products, &n.First, &n.Floats)
	}
	d, p := int64(c.DModel), int64(c.ImageSize/c.PatchSize)
	patches, k := p*p, int64(c.Channels*c.PatchSize*c.PatchSize)
	n.Linear(patches, k, d)
	n.First += patches * k * d
	n.Floats += patches*k + patches*d + 2*(patches+1)*d
	c.stack(n, layers, patches+1, 1)
	return patches + 1
}

// fuse counts a cross-modal transformer of tv vision tokens dv wide, tl language
// tokens dl wide, and the states that c sees.
func (c Config) fuse(n *Tally, layers int, tv, tl, dv, dl int64, lead int) {
	c.stack(n, layers, c.join(n, tv, tl, dv, dl), lead)
	c.act(n)
}

// join counts the projections of what is joined, and returns how many tokens that
// is.
func (c Config) join(n *Tally, tv, tl, dv, dl int64) (tokens int64) {
	d, ts := int64(c.DModel), int64(0)
	n.Linear(tv, dv, d)
	n.Linear(tl, dl, d)
	if c.Sees.State {
		ts = int64(c.Sees.history())
		n.Linear(ts, int64(c.StateDim), d)
	}
	tokens = tv + ts + tl
	n.Floats += 3 * tokens * d
	return tokens
}

// act counts an action head.
func (c Config) act(n *Tally) {
	n.Linear(1, int64(c.DModel), actionHidden)
	n.Linear(1, actionHidden, int64(c.Sees.chunk()*c.ActionDim))
}

// name counts a head that names a word for each of t tokens.
func (c Config) name(n *Tally, t int64) {
	n.Linear(t, int64(c.DModel), int64(c.VocabSize))
	n.Floats += 2 * t * int64(c.VocabSize)
}

// convCost adds the convolutions of a ConvEncoder with layers residual blocks,
// and returns the tokens of its sequence.
func convCost(c Config, layers int, mul, first, act *int64) int64 {
	d, side, in := int64(c.DModel), int64(c.ImageSize), int64(c.Channels)
	conv := func(out, side int64) {
		*mul += side * side * 9 * in * out
		*act += side * side * (9*in + out)
		in = out
	}
	n := bits.Len(uint(c.PatchSize)) - 1
	for i := range n {
		out := max(leastChannels, d>>(n-1-i))
		if i == 0 {
			side /= 2
			*first += side * side * 9 * in * out
			conv(out, side)
			continue
		}
		conv(out, side) // at full size, and then the maximum
		side /= 2
		*act += side * side * out
	}
	for range layers {
		conv(d, side)
		conv(d, side)
		*act += 3 * side * side * d
	}
	*mul += 3 * d * d
	*act += side * side * d
	return 1 + side*side
}
