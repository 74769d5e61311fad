package models

import "math/bits"

// Cost is what one sample costs, by count, not by measurement.
type Cost struct {
	TrainFLOPs      int64 `json:"train_flops"`      // forward and backward; a multiply-add is two
	ForwardFLOPs    int64 `json:"forward_flops"`    // forward alone
	ActivationBytes int64 `json:"activation_bytes"` // kept from forward for backward
}

// Cost counts the matrix products of one sample of spec, which are nearly all
// of the arithmetic; backward has two for each of forward's, but for the
// first layer's, whose input needs no gradient.
func (m *Model) Cost(spec Spec) Cost {
	c := m.cfg
	d, f := int64(c.DModel), int64(c.DFF)
	var mul, first, act int64 // multiply-adds of forward; those without an input gradient; floats kept
	linear := func(n, in, out int64) { mul += n * in * out }
	stack := func(layers int, t int64, lead int) {
		pairs := c.Attention.pairs(t, lead)
		for range layers {
			linear(t, d, 3*d)
			mul += 2 * pairs * d // scores and weighted values
			linear(t, d, d)
			linear(t, d, f)
			linear(t, f, d)
			act += t * (3*d + d + d + 3*d + 2*f + d + 3*d)
		}
	}
	vision := func(layers int) int64 {
		if c.Vision == VisionCNN {
			return convCost(c, layers, &mul, &first, &act)
		}
		p := int64(c.ImageSize / c.PatchSize)
		n, k := p*p, int64(c.Channels*c.PatchSize*c.PatchSize)
		linear(n, k, d)
		first += n * k * d
		act += n*k + n*d + 2*(n+1)*d
		stack(layers, n+1, 1)
		return n + 1
	}
	fuse := func(layers int, tv, tl, dv, dl int64, lead int) {
		linear(tv, dv, d)
		linear(tl, dl, d)
		act += 3 * (tv + tl) * d
		stack(layers, tv+tl, lead)
		linear(1, d, actionHidden)
		linear(1, actionHidden, int64(c.ActionDim))
	}
	t := int64(spec.Len(Instruction, 0))
	switch c.Kind {
	case VLA:
		tv := vision(c.NLayers / 2)
		if c.VisionTokens != TokensPatch {
			tv = 1
		}
		act += 2 * t * d
		stack(c.NLayers/2, t, 0)
		fuse(c.NLayers/2, tv, t, d, d, 1)
		for range c.Exits {
			linear(1, d, actionHidden)
			linear(1, actionHidden, int64(c.ActionDim))
		}
	case ViT:
		vision(c.NLayers)
		for range 1 + len(c.Exits) {
			linear(1, d, int64(c.ActionDim))
		}
	case CrossModal:
		tv, tl := int64(spec.Len(VisionFeatures, 0)), int64(spec.Len(LanguageFeatures, 0))
		first += tv*int64(c.VisionDim)*d + tl*int64(c.LanguageDim)*d
		fuse(c.NLayers, tv, tl, int64(c.VisionDim), int64(c.LanguageDim), 0)
	case Encoder:
		act += 2 * t * d
		stack(c.NLayers, t, 0)
		for range 1 + len(c.Exits) {
			linear(t, d, int64(c.VocabSize))
			act += 2 * t * int64(c.VocabSize)
		}
	case LSTM:
		act += t * d
		for range c.NLayers {
			linear(t, d, 4*d)
			linear(t, d, 4*d)
			act += t * (8*d + 4*d)
		}
		linear(t, d, int64(c.VocabSize))
		act += 2 * t * int64(c.VocabSize)
	}
	return Cost{ForwardFLOPs: 2 * mul, TrainFLOPs: 2 * (3*mul - first), ActivationBytes: 4 * act}
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
