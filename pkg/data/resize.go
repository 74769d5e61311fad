package data

import "fmt"

// resizer is the one way by which decoded pixels become model input: resize to
// a fixed size (each axis by itself, so the aspect ratio is not kept), then
// (x/255 - mean)/std, laid out [C, H, W].
//
// The resize is exact. An axis that shrinks takes the area average, one that
// grows is interpolated linearly between pixel centres, and both have rational
// weights over a common denominator: the weighted sums are integers, and the
// only rounding is in the final division. So there is nothing that a CPU or a
// compiler could round differently.
//
//	area      out i covers in [i·n/m, (i+1)·n/m); weights in units of 1/m, sum n
//	bilinear  out i lies at ((2i+1)·n - m) / 2m in pixel centres; weights sum 2m
//
// A resizer keeps scratch space and is not safe for concurrent use.
type resizer struct {
	c, h, w   int
	mean, std [3]float32
	lut       [3][256]float32 // a plain byte's value, for pictures that fit already
	ax, ay    axis
	rows      []uint32 // [inH, w, 3] horizontal sums
	gray      []byte
}

// newResizer makes a resizer to [c, h, w], with c 3 (RGB) or 1 (grey: Rec. 601
// luma in integers). mean and std are in units of the [0, 1] scale.
func newResizer(c, h, w int, mean, std [3]float32) (*resizer, error) {
	if c != 3 && c != 1 || h < 1 || w < 1 || h > MaxImageSide || w > MaxImageSide {
		return nil, fmt.Errorf("images of [%d, %d, %d] (channels, height, width): channels must be 1 or 3, sides 1 to %d", c, h, w, MaxImageSide)
	}
	r := &resizer{c: c, h: h, w: w, mean: mean, std: std}
	for ch := range r.lut {
		for x := range r.lut[ch] {
			r.lut[ch][x] = r.value(uint64(x), 1, ch)
		}
	}
	return r, nil
}

// value is the normalised value of the weighted sum of bytes s, whose weights sum to d.
func (r *resizer) value(s, d uint64, ch int) float32 {
	x := float32(float64(s) / float64(255*d))
	return (x - r.mean[ch]) / r.std[ch]
}

// axis is the resampling of n positions to m.
type axis struct {
	n, m int
	den  uint32   // sum of each output's weights
	from []int32  // [m] first input
	w    []uint32 // weights, one run an output
	run  []int32  // [m+1] where the runs start
}

func (a *axis) build(n, m int) {
	if a.n == n && a.m == m {
		return
	}
	*a = axis{n: n, m: m, from: make([]int32, m), run: make([]int32, m+1), w: a.w[:0]}
	a.den = uint32(n)
	if m > n {
		a.den = uint32(2 * m)
	}
	for i := 0; i < m; i++ {
		if m <= n {
			lo, hi := i*n, (i+1)*n // in units of 1/m input pixel
			first := lo / m
			a.from[i] = int32(first)
			for j := first; j*m < hi; j++ {
				a.w = append(a.w, uint32(min(hi, (j+1)*m)-max(lo, j*m)))
			}
		} else {
			num := min(max((2*i+1)*n-m, 0), 2*m*(n-1)) // position times 2m, held inside
			j, f := num/(2*m), num%(2*m)
			a.from[i] = int32(j)
			a.w = append(a.w, uint32(2*m-f))
			if f > 0 {
				a.w = append(a.w, uint32(f))
			}
		}
		a.run[i+1] = int32(len(a.w))
	}
}

// Apply resizes and normalises img, which holds RGB, into dst of C·H·W values.
func (r *resizer) Apply(dst []float32, img Image) error {
	if len(dst) != r.c*r.h*r.w {
		return fmt.Errorf("image: destination of %d values for [%d, %d, %d]", len(dst), r.c, r.h, r.w)
	}
	if img.H < 1 || img.W < 1 || img.H > MaxImageSide || img.W > MaxImageSide || len(img.RGB) != 3*img.H*img.W {
		return &ImageError{fmt.Errorf("%d bytes of RGB for %d×%d pixels", len(img.RGB), img.W, img.H)}
	}
	pix, c := img.RGB, r.c
	if c == 1 {
		r.gray = grow(r.gray, img.H*img.W)
		for i := range r.gray {
			r.gray[i] = uint8((299*uint32(pix[3*i]) + 587*uint32(pix[3*i+1]) + 114*uint32(pix[3*i+2]) + 500) / 1000)
		}
		pix = r.gray
	}
	plane := r.h * r.w
	if img.H == r.h && img.W == r.w {
		for ch := 0; ch < c; ch++ {
			lut, out := &r.lut[ch], dst[ch*plane:(ch+1)*plane]
			for i := range out {
				out[i] = lut[pix[c*i+ch]]
			}
		}
		return nil
	}
	r.ax.build(img.W, r.w)
	r.ay.build(img.H, r.h)
	r.rows = grow(r.rows, img.H*r.w*c)
	for y := 0; y < img.H; y++ {
		in, out := pix[y*img.W*c:], r.rows[y*r.w*c:]
		for x := 0; x < r.w; x++ {
			weights := r.ax.w[r.ax.run[x]:r.ax.run[x+1]]
			for ch := 0; ch < c; ch++ {
				sum, p := uint32(0), int(r.ax.from[x])*c+ch
				for _, w := range weights {
					sum += w * uint32(in[p]) // ≤ 255·2·MaxImageSide: fits
					p += c
				}
				out[x*c+ch] = sum
			}
		}
	}
	den := uint64(r.ax.den) * uint64(r.ay.den)
	for y := 0; y < r.h; y++ {
		weights := r.ay.w[r.ay.run[y]:r.ay.run[y+1]]
		for x := 0; x < r.w; x++ {
			for ch := 0; ch < c; ch++ {
				sum, p := uint64(0), (int(r.ay.from[y])*r.w+x)*c+ch
				for _, w := range weights {
					sum += uint64(w) * uint64(r.rows[p])
					p += r.w * c
				}
				dst[ch*plane+y*r.w+x] = r.value(sum, den, ch)
			}
		}
	}
	return nil
}

// grow returns s with length n, reallocated only where its capacity is short.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
