package data

// Colours as torchvision changes those of float pictures: each change is a blend
// of two pictures, held within 0 and 1. All of it is float32, each operation
// rounded by itself.

// coloured says that colours are changed.
func (l *glance) coloured() bool {
	return l.brightness != 1 || l.contrast != 1 || l.saturation != 1 || l.sharpness != 1 || l.hue != 0
}

func mul32(x, y float32) float32 { return float32(x * y) }

// held is x within 0 and 1.
func held(x float32) float32 {
	if x < 0 {
		return 0
	}
	if x > 1 {
		return 1
	}
	return x
}

// grey is the brightness of a colour, of weights whose sum is 0.9999.
func grey(r, g, b float32) float32 {
	return float32(mul32(0.2989, r)+mul32(0.587, g)) + mul32(0.114, b)
}

// colour changes the planes of dst, [c, h, w] in 0 to 1, as l says, and scales them
// as the model wants them.
func (z *resizer) colour(dst []float32, l *glance) {
	n := z.h * z.w
	if l.coloured() {
		if z.c == 3 {
			z.colours(dst[:n], dst[n:2*n], dst[2*n:3*n], l)
		} else { // saturation and hue are of colours
			z.greys(dst[:n], l)
		}
		if l.sharpness != 1 {
			for ch := range z.c {
				z.sharpen(dst[ch*n:(ch+1)*n], l.sharpness)
			}
		}
	}
	for ch := range z.c {
		mean, std := z.mean[ch], z.std[ch]
		for i, x := range dst[ch*n : (ch+1)*n] {
			dst[ch*n+i] = (x - mean) / std
		}
	}
}

func (z *resizer) colours(r, g, b []float32, l *glance) {
	sum := 0.0
	if l.brightness != 1 || l.contrast != 1 {
		for i := range r {
			r[i], g[i], b[i] = held(mul32(l.brightness, r[i])), held(mul32(l.brightness, g[i])), held(mul32(l.brightness, b[i]))
			sum += float64(grey(r[i], g[i], b[i]))
		}
	}
	if l.contrast == 1 && l.saturation == 1 && l.hue == 0 {
		return
	}
	far, mean := l.contrast, float32(0)
	if far != 1 {
		mean = mul32(1-far, float32(sum/float64(len(r))))
	}
	sat, turn := l.saturation, 6*l.hue
	for i := range r {
		x, y, z := r[i], g[i], b[i]
		if far != 1 {
			x, y, z = held(mul32(far, x)+mean), held(mul32(far, y)+mean), held(mul32(far, z)+mean)
		}
		if sat != 1 {
			to := mul32(1-sat, grey(x, y, z))
			x, y, z = held(mul32(sat, x)+to), held(mul32(sat, y)+to), held(mul32(sat, z)+to)
		}
		if turn != 0 {
			x, y, z = turned(x, y, z, turn)
		}
		r[i], g[i], b[i] = x, y, z
	}
}

func (z *resizer) greys(x []float32, l *glance) {
	sum := 0.0
	for i := range x {
		x[i] = held(mul32(l.brightness, x[i]))
		sum += float64(x[i])
	}
	if l.contrast != 1 {
		mean := mul32(1-l.contrast, float32(sum/float64(len(x))))
		for i := range x {
			x[i] = held(mul32(l.contrast, x[i]) + mean)
		}
	}
}

// turned is a colour with its hue turned by so many sixths of a turn, at most 3
// either way: the largest and the least of the three stay what they are, of HSV.
func turned(r, g, b, by float32) (float32, float32, float32) {
	hi, lo := r, r
	if g > hi {
		hi = g
	} else if g < lo {
		lo = g
	}
	if b > hi {
		hi = b
	} else if b < lo {
		lo = b
	}
	c := hi - lo
	if c == 0 {
		return r, g, b
	}
	var h float32 // sixths from red
	switch hi {
	case r:
		h = (g - b) / c
	case g:
		h = 2 + (b-r)/c
	default:
		h = 4 + (r-g)/c
	}
	h += by
	if h < 0 {
		h += 6
	}
	if h >= 6 { // what was a hair below 0, too
		h -= 6
	}
	i := int(h)
	f := mul32(c, h-float32(i))
	down, up := hi-f, lo+f
	switch i {
	case 0:
		return hi, up, lo
	case 1:
		return down, hi, lo
	case 2:
		return lo, hi, up
	case 3:
		return lo, down, hi
	case 4:
		return up, lo, hi
	}
	return hi, lo, down
}

// sharpen blends a plane with its blur, the mean over 3×3 pixels in which the
// middle one counts five times. The pixels at the edge stay.
func (z *resizer) sharpen(x []float32, by float32) {
	w := z.w
	if z.h < 3 || w < 3 {
		return
	}
	z.above, z.column = grow(z.above, w), grow(z.column, w)
	above, column := z.above, z.column // the row above as it was, and sums of three rows
	copy(above, x[:w])
	rest := 1 - by
	for y := 1; y < z.h-1; y++ {
		row, below := x[y*w:(y+1)*w], x[(y+1)*w:(y+2)*w]
		for i, v := range row {
			column[i] = above[i] + v + below[i]
			above[i] = v
		}
		left, mid := column[0], column[1]
		for i := 1; i < w-1; i++ {
			right := column[i+1]
			v := row[i]
			blur := float32((left + mid + right + mul32(4, v)) * (1.0 / 13))
			row[i] = held(mul32(by, v) + mul32(rest, blur))
			left, mid = mid, right
		}
	}
}
