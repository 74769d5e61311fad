package data

// shrinker makes pictures smaller as the resizer does, exactly, to bytes.
type shrinker struct {
	ax, ay axis
	rows   []uint32
}

// shrink writes the h×w area averages of RGB of inH×inW into dst, rounded to the
// nearest byte, and returns it. h and w are at most inH and inW.
func (s *shrinker) shrink(dst, rgb []byte, inH, inW, h, w int) []byte {
	if h == inH && w == inW {
		return append(dst[:0], rgb...)
	}
	s.ax.build(inW, w, 0, inW*cropUnits)
	s.ay.build(inH, h, 0, inH*cropUnits)
	s.rows, dst = grow(s.rows, inH*w*3), grow(dst, h*w*3)
	for y := range inH {
		in, out := rgb[3*y*inW:], s.rows[3*y*w:]
		for x := range w {
			weights, p := s.ax.w[s.ax.run[x]:s.ax.run[x+1]], 3*int(s.ax.from[x])
			var r, g, b uint32
			for _, k := range weights {
				r, g, b, p = r+k*uint32(in[p]), g+k*uint32(in[p+1]), b+k*uint32(in[p+2]), p+3
			}
			out[3*x], out[3*x+1], out[3*x+2] = r, g, b
		}
	}
	den := uint64(s.ax.den) * uint64(s.ay.den)
	for y := range h {
		weights := s.ay.w[s.ay.run[y]:s.ay.run[y+1]]
		for x := range 3 * w {
			sum, p := uint64(0), 3*w*int(s.ay.from[y])+x
			for _, k := range weights {
				sum, p = sum+uint64(k)*uint64(s.rows[p]), p+3*w
			}
			dst[3*w*y+x] = byte((2*sum + den) / (2 * den))
		}
	}
	return dst
}
