package data

import "math"

// How a dimension is scaled is decided here, from its statistics alone: by the
// size of its spread beside the size of its values and the steps that float32
// has there. The units do not matter: micrometres are learned as metres are.
//
//	 values of ±1e-6, std 1e-6     learned
//	 0.5 in every sample           constant: nothing to learn
//	 0.5, std 1e-8                 noise: a float32 near 0.5 has steps of 6e-8
//	 0, but 1 in 0.5 % of samples  rare: q01 = q99, so quantile has no scale for it

// Variation is what a scale finds in a dimension.
type Variation int

const (
	Varies   Variation = iota
	Constant           // one value
	Noise              // several, but no farther apart than rounding puts them
	Rare               // it varies, but by less than rounding between the mode's quantiles (quantile and quantile10 only)
)

// String is the word for scripts.
func (v Variation) String() string {
	return [...]string{"varies", "constant", "noise", "rare"}[v]
}

// Scale is how one dimension is normalised: (x - Offset) / By. Where it is not
// learned, By means nothing.
type Scale struct {
	Offset, By float64
	Variation  Variation
}

// Learned says whether the dimension's normalised form varies in training.
func (c Scale) Learned() bool { return c.Variation == Varies }

// noiseSteps is how many float32 steps of its values' size a scale (a standard
// deviation, or half of a range) may have and still be rounding: about four of
// them from the smallest to the largest value, which is what a handful of
// float32 operations leaves.
const noiseSteps = 2

// step is the distance between float32 values of the size of x, at most.
func step(x float64) float64 { return max(math.Abs(x)*0x1p-23, 0x1p-149) }

// steps is a spread in float32 steps of values between lo and hi.
func steps(spread, lo, hi float64) float64 {
	return spread / step(max(math.Abs(lo), math.Abs(hi)))
}

// Scale decides how dimension d is normalised. None has no scale and leaves
// nothing out: what the data has is learned as it is.
func (s *Stats) Scale(d int) Scale {
	lo, hi := s.Min[d], s.Max[d]
	c := Scale{By: 1}
	if s.asIs(d) {
		return c
	}
	small := func() bool { return steps(c.By, lo, hi) <= noiseSteps }
	switch s.Mode {
	case MeanStd:
		c.Offset, c.By = s.Mean[d], s.Std[d]
	case MinMax:
		c.Offset, c.By = (lo+hi)/2, (hi-lo)/2
	case Quantile, Quantile10:
		below, above := s.quantiles(d)
		c.Offset, c.By = (below+above)/2, (above-below)/2
		// The size that counts is that of the quantiles: one spike must not make
		// noise of all else. What float64 would round beside the largest value
		// (the cosine of a right angle, say) is noise all the same.
		small = func() bool {
			return steps(c.By, below, above) <= noiseSteps || c.By <= 8*0x1p-52*max(math.Abs(lo), math.Abs(hi))
		}
	}
	if !small() {
		return s.softened(c)
	}
	switch c.Variation = Noise; {
	case lo == hi:
		c.Variation = Constant
	case (s.Mode == Quantile || s.Mode == Quantile10) && steps((hi-lo)/2, lo, hi) > noiseSteps:
		c.Variation = Rare
	}
	return c
}

// quantiles are those of the mode, of dimension d.
func (s *Stats) quantiles(d int) (below, above float64) {
	if s.Mode == Quantile10 {
		return s.Q10[d], s.Q90[d]
	}
	return s.Q01[d], s.Q99[d]
}

// softened is c with the epsilon in its place: beside std, and in
// 2·(x - lo)/(hi - lo + ε) - 1, which is (x - (lo+hi+ε)/2) / ((hi-lo+ε)/2).
func (s *Stats) softened(c Scale) Scale {
	switch {
	case s.Epsilon == 0: // the bits of the bare formula
	case s.Mode == MeanStd:
		c.By += s.Epsilon
	default:
		c.Offset, c.By = c.Offset+float64(s.Epsilon/2), c.By+float64(s.Epsilon/2)
	}
	return c
}

// Learned says of each dimension whether it is learned.
func (s *Stats) Learned() []bool {
	out := make([]bool, s.Dim())
	for d := range out {
		out[d] = s.Scale(d).Learned()
	}
	return out
}
