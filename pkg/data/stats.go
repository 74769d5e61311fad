package data

import (
	"fmt"
	"math"
	"slices"
)

// Normalisation modes. Each is exact unless Stats.Epsilon and Stats.Clip say
// otherwise: nothing is added to what is divided by and nothing is clipped.
// Denormalize gives the physical value back wherever nothing was clipped. Scale
// says which dimensions have no scale; those become 0, and come back as their offset.
const (
	None       = "none"       // x
	MeanStd    = "mean_std"   // (x - mean) / std, population standard deviation
	MinMax     = "min_max"    // 2·(x - min)/(max - min) - 1
	Quantile   = "quantile"   // 2·(x - q01)/(q99 - q01) - 1; a hundredth of the values lies beyond ±1 on each side
	Quantile10 = "quantile10" // 2·(x - q10)/(q90 - q10) - 1; a tenth
)

// Modes lists the normalisation modes.
func Modes() []string { return []string{None, MeanStd, MinMax, Quantile, Quantile10} }

// ComputeStats measures n actions of dim values, of which at(i) returns the i-th.
//
// Mean and standard deviation (population) are taken in float64, in two passes,
// in the order of i. Quantiles are exact: with the values sorted, the quantile q
// lies at rank h = q·(n-1), and between two ranks it is interpolated linearly
// (the default of numpy.quantile).
func ComputeStats(mode string, n, dim int, at func(i int) []float32) (*Stats, error) {
	if mode == "" {
		mode = MeanStd
	}
	if !slices.Contains(Modes(), mode) {
		return nil, fmt.Errorf("data.normalize is %q; it can be %v", mode, Modes())
	}
	if n < 1 {
		return nil, fmt.Errorf("action statistics need at least one training sample")
	}
	s := &Stats{Mode: mode, Count: n}
	l := numbered(dim)
	s.Names, s.Units = l.Names, l.Units
	col := make([]float32, n)
	for d := 0; d < dim; d++ {
		sum := 0.0
		for i := range col {
			v := at(i)[d]
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return nil, fmt.Errorf("the action of training sample %d has %v in dimension %d (%s)", i, v, d, s.Names[d])
			}
			col[i] = v
			sum = float64(sum + float64(v))
		}
		mean := sum / float64(n)
		sq := 0.0
		for _, v := range col {
			x := float64(v) - mean
			sq = float64(sq + float64(x*x))
		}
		slices.Sort(col)
		s.Mean = append(s.Mean, mean)
		s.Std = append(s.Std, math.Sqrt(sq/float64(n)))
		s.Min = append(s.Min, float64(col[0]))
		s.Max = append(s.Max, float64(col[n-1]))
		s.Q01 = append(s.Q01, quantile(col, 1))
		s.Q10 = append(s.Q10, quantile(col, 10))
		s.Q90 = append(s.Q90, quantile(col, 90))
		s.Q99 = append(s.Q99, quantile(col, 99))
	}
	return s, nil
}

// quantile returns the percent-th percentile of sorted values. The rank
// percent·(n-1)/100 is split in integers, so it is exact for any n.
func quantile(sorted []float32, percent int) float64 {
	num := percent * (len(sorted) - 1)
	i, frac := num/100, num%100
	v := float64(sorted[i])
	if frac > 0 {
		v = float64(v + float64((float64(sorted[i+1])-v)*float64(frac))/100)
	}
	return v
}

// Dim is the number of action dimensions.
func (s *Stats) Dim() int { return len(s.Mean) }

// Normalize writes the normalised form of the physical action x to dst; both
// have Dim values, and may be the same slice.
func (s *Stats) Normalize(dst, x []float32) {
	for d := range dst {
		c := s.Scale(d)
		switch {
		case s.asIs(d):
			dst[d] = x[d]
		case !c.Learned():
			dst[d] = 0
		default:
			dst[d] = float32((float64(x[d]) - c.Offset) / c.By)
			if clip := float32(s.Clip); clip > 0 {
				dst[d] = min(max(dst[d], -clip), clip)
			}
		}
	}
}

// Denormalize is the inverse of Normalize where that clipped nothing: it turns what a model puts out into
// physical units. A dimension that is not learned comes back as its offset,
// whatever x says. Both slices have Dim values and may be the same.
func (s *Stats) Denormalize(dst, x []float32) {
	for d := range dst {
		c := s.Scale(d)
		switch {
		case s.asIs(d):
			dst[d] = x[d]
		case !c.Learned():
			dst[d] = float32(c.Offset)
		default:
			dst[d] = float32(c.Offset + float64(float64(x[d])*c.By))
		}
	}
}

// check refuses statistics that a checkpoint could not have written.
func (s *Stats) check() error {
	if !slices.Contains(Modes(), s.Mode) {
		return fmt.Errorf("mode is %q; it can be %v", s.Mode, Modes())
	}
	dim := len(s.Mean)
	if len(s.Names) != dim || len(s.Units) != dim {
		return fmt.Errorf("%d names and %d units for %d dimensions", len(s.Names), len(s.Units), dim)
	}
	for _, f := range []struct {
		name string
		v    []float64
	}{{"mean", s.Mean}, {"std", s.Std}, {"min", s.Min}, {"max", s.Max}, {"q01", s.Q01}, {"q99", s.Q99}, {"q10", s.Q10}, {"q90", s.Q90}} {
		if f.v == nil && (f.name == "q10" || f.name == "q90") && s.Mode != Quantile10 {
			continue // of a release that knew them not
		}
		if len(f.v) != dim {
			return fmt.Errorf("%s has %d values for %d dimensions", f.name, len(f.v), dim)
		}
		for d, x := range f.v {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fmt.Errorf("%s of dimension %d is %v", f.name, d, x)
			}
		}
	}
	return s.checkScaling()
}
