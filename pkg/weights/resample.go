package weights

import "math"

// Resampling is how positions of one grid are made of those of another: as
// torch.nn.functional.interpolate does it with align_corners=False.
type Resampling struct {
	Linear    bool    // bilinear; else bicubic
	A         float64 // of bicubic: -0.75, and -0.5 where antialias is
	Antialias bool    // where the grid shrinks each point is a mean over all that it stands for
	Offset    float64 // added to the new side where the steps between points follow from it: scale_factor=(to+Offset)/from
}

// tap is a point of the old grid along one axis, and its weight.
type tap struct {
	at int
	w  float64
}

// Resample makes dst [to, to, d] of src [from, from, d], in float64, each operation
// rounded by itself.
func (r Resampling) Resample(dst, src []float32, to, from, d int) {
	axis := make([][]tap, to)
	for i := range axis {
		axis[i] = r.taps(i, to, from)
	}
	sum := make([]float64, d)
	for y := range to {
		for x := range to {
			clear(sum)
			for _, v := range axis[y] {
				for _, h := range axis[x] {
					w := float64(v.w * h.w)
					for c, s := range src[(v.at*from+h.at)*d : (v.at*from+h.at+1)*d] {
						sum[c] += float64(w * float64(s))
					}
				}
			}
			for c, s := range sum {
				dst[(y*to+x)*d+c] = float32(s)
			}
		}
	}
}

// kernel is the weight at distance u ≥ 0, and the distance where it ends.
func (r Resampling) kernel(u float64) float64 {
	if r.Linear {
		return max(0, 1-u)
	}
	return cubic(u, r.A)
}

func (r Resampling) reach() float64 {
	if r.Linear {
		return 1
	}
	return 2
}

// taps are those of point i of the new grid.
func (r Resampling) taps(i, to, from int) (t []tap) {
	x := float64((float64(i)+0.5)*float64(from))/float64(float64(to)+r.Offset) - 0.5
	if !r.Antialias { // the border is repeated
		first := math.Floor(x)
		n := int(2 * r.reach())
		for k := range n {
			at := int(first) + 1 - n/2 + k
			t = append(t, tap{min(max(at, 0), from-1), r.kernel(math.Abs(x - float64(at)))})
		}
		return t
	}
	step := max(1, float64(from)/float64(float64(to)+r.Offset))
	support := float64(r.reach() * step)
	sum := 0.0
	for at := max(0, int(x+0.5-support+0.5)); at < min(from, int(x+0.5+support+0.5)); at++ {
		w := r.kernel(math.Abs(float64(at)-x) / step)
		t, sum = append(t, tap{at, w}), sum+w
	}
	for k := range t {
		t[k].w /= sum
	}
	return t
}

// cubic is Keys' kernel with the parameter a at distance u ≥ 0, each operation
// rounded by itself.
func cubic(u, a float64) float64 {
	switch {
	case u <= 1:
		return float64(float64(float64((a+2)*u)-(a+3))*float64(u*u)) + 1
	case u < 2:
		return float64(float64(float64(float64(float64(a*u)-float64(5*a))*u)+float64(8*a))*u) - float64(4*a)
	}
	return 0
}
