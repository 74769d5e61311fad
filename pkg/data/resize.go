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
// Of a part of an axis n is its length, in 1/256 pixels, and its beginning is added.
// A picture that is turned or moved, too, is warped: see warp.go.
//
// A resizer keeps scratch space and is not safe for concurrent use.
type resizer struct {
	c, h, w   int
	mean, std [3]float32
	lut       [3][256]float32 // a plain byte's value, for pictures that fit already
	unit      [256]float32    // the same before it is scaled
	ax, ay    axis
	rows      []uint32 // [inH, w, 3] horizontal sums
	sums      []uint64 // [w, 3] of one row of the result
	gray      []byte
	small     []uint16 // see averages

	above, column []float32 // see sharpen
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
			r.unit[x] = share(uint64(x), 1)
			r.lut[ch][x] = (r.unit[x] - mean[ch]) / std[ch]
		}
	}
	return r, nil
}

// share is the weighted sum of bytes s, whose weights sum to d, in 0 to 1.
func share(s, d uint64) float32 { return float32(float64(s) / float64(255*d)) }

// axis is the resampling of n positions, or of length of them from one on, to m.
type axis struct {
	n, m   int
	begin  int // in cropUnits of a position, as length is
	length int
	den    uint32   // sum of each output's weights
	from   []int32  // [m] first input
	w      []uint32 // weights, one run an output
	run    []int32  // [m+1] where the runs start
}

func (a *axis) build(n, m, begin, length int) {
	if a.n == n && a.m == m && a.begin == begin && a.length == length {
		return
	}
	*a = axis{n: n, m: m, begin: begin, length: length, from: grow(a.from, m), run: grow(a.run, m+1), w: a.w[:0]}
	a.run[0] = 0
	const unit = cropUnits
	shrinks := m*unit <= length
	a.den = uint32(length)
	if !shrinks {
		a.den = uint32(2 * m * unit)
	}
	for i := 0; i < m; i++ {
		if shrinks {
			lo := begin*m + i*length // in units of 1/m of 1/unit of a pixel
			hi, pixel := lo+length, m*unit
			first := lo / pixel
			a.from[i] = int32(first)
			for j := first; j*pixel < hi; j++ {
				a.w = append(a.w, uint32(min(hi, (j+1)*pixel)-max(lo, j*pixel)))
			}
		} else {
			pixel := 2 * m * unit
			num := min(max(2*m*begin+(2*i+1)*length-m*unit, 0), pixel*(n-1)) // position times pixel, held inside
			j, f := num/pixel, num%pixel
			a.from[i] = int32(j)
			a.w = append(a.w, uint32(pixel-f))
			if f > 0 {
				a.w = append(a.w, uint32(f))
			}
		}
		a.run[i+1] = int32(len(a.w))
	}
}

// Apply resizes and normalises img, which holds RGB, into dst of C·H·W values.
func (r *resizer) Apply(dst []float32, img Image) error { return r.see(dst, img, &asItIs) }

// see is Apply of what l shows of img.
func (r *resizer) see(dst []float32, img Image, l *glance) error {
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
	switch {
	case l.turned():
		r.warp(dst, pix, img.H, img.W, l)
	case img.H == r.h && img.W == r.w && l.side == 1:
		for ch := range c {
			lut, out := &r.lut[ch], dst[ch*r.h*r.w:(ch+1)*r.h*r.w]
			if l.coloured() {
				lut = &r.unit
			}
			for i := range out {
				out[i] = lut[pix[c*i+ch]]
			}
		}
		if !l.coloured() {
			return nil
		}
	default:
		r.resample(dst, pix, img.H, img.W, l)
	}
	r.colour(dst, l)
	return nil
}

// resample writes what l shows of pix, [h, w, c] bytes, to the planes of dst, in 0 to 1.
func (r *resizer) resample(dst []float32, pix []byte, h, w int, l *glance) {
	c, plane := r.c, r.h*r.w
	begin, length := crop(w, l.side, l.x)
	r.ax.build(w, r.w, begin, length)
	begin, length = crop(h, l.side, l.y)
	r.ay.build(h, r.h, begin, length)
	last := r.ay.run[r.h] - r.ay.run[r.h-1]
	top, end := int(r.ay.from[0]), int(r.ay.from[r.h-1]+last) // rows that are looked at
	r.rows, r.sums = grow(r.rows, h*r.w*c), grow(r.sums, r.w*c)
	for y := top; y < end; y++ {
		in, out := pix[y*w*c:(y+1)*w*c], r.rows[y*r.w*c:(y+1)*r.w*c]
		for x := 0; x < r.w; x++ {
			weights, p := r.ax.w[r.ax.run[x]:r.ax.run[x+1]], int(r.ax.from[x])*c
			if c == 3 {
				var s0, s1, s2 uint32 // ≤ 255·2·MaxImageSide·cropUnits: fits
				for _, w := range weights {
					px := in[p : p+3 : p+3]
					s0, s1, s2 = s0+w*uint32(px[0]), s1+w*uint32(px[1]), s2+w*uint32(px[2])
					p += 3
				}
				o := out[3*x : 3*x+3 : 3*x+3]
				o[0], o[1], o[2] = s0, s1, s2
				continue
			}
			sum := uint32(0)
			for i, w := range weights {
				sum += w * uint32(in[p+i])
			}
			out[x] = sum
		}
	}
	den := uint64(r.ax.den) * uint64(r.ay.den)
	for y := 0; y < r.h; y++ {
		clear(r.sums)
		for i, w := range r.ay.w[r.ay.run[y]:r.ay.run[y+1]] {
			row := r.rows[(int(r.ay.from[y])+i)*r.w*c:][:r.w*c]
			for k, v := range row {
				r.sums[k] += uint64(w) * uint64(v)
			}
		}
		for ch := range c {
			out := dst[ch*plane+y*r.w:][:r.w]
			for x := range out {
				out[x] = share(r.sums[x*c+ch], den)
			}
		}
	}
}

// of is what l shows of a picture that is given as values, [c, h, w], as many of
// them. It is not turned, and its colours stay.
func (l glance) of(x []float32, shape []int) []float32 {
	if l.side == 1 {
		return x
	}
	h, w := shape[1], shape[2]
	var ax, ay axis
	begin, length := crop(w, l.side, l.x)
	ax.build(w, w, begin, length)
	begin, length = crop(h, l.side, l.y)
	ay.build(h, h, begin, length)
	out := make([]float32, len(x))
	den := float64(ax.den) * float64(ay.den)
	for i := range out {
		plane, at := i/(h*w)*h*w, i%(h*w)
		sum := 0.0
		for j, wy := range ay.w[ay.run[at/w]:ay.run[at/w+1]] {
			row := plane + (int(ay.from[at/w])+j)*w + int(ax.from[at%w])
			for k, wx := range ax.w[ax.run[at%w]:ax.run[at%w+1]] {
				sum += float64(float64(wy) * float64(wx) * float64(x[row+k]))
			}
		}
		out[i] = float32(sum / den)
	}
	return out
}

// grow returns s with length n, reallocated only where its capacity is short.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
