package jpeg

// RGB decodes the file that j heads to H·W·3 bytes.
func (j *Head) RGB(file []byte) ([]byte, error) {
	p, err := j.planes(file)
	if err != nil {
		return nil, err
	}
	merge := mergeYCC
	switch {
	case len(p) == 1:
		merge = mergeGray
	case len(p) == 3 && j.rgb():
		merge = mergeRGB
	case len(p) == 4 && j.adobe > 0:
		merge = mergeYCCK
	case len(p) == 4:
		merge = mergeCMYK
	}
	return mergePlanes(p, j.W, j.H, merge), nil
}

// plane is one component of a JPEG: w×h samples, of which the picture's width
// has hr and its height vr times as many.
type plane struct {
	pix    []byte
	stride int
	w, h   int
	hr, vr int
	sums   []int32 // [w] scratch: a row between two rows, times four
}

// newPlane is a plane of a picture of w×h pixels.
func newPlane(pix []byte, stride, w, h, hr, vr int) plane {
	return plane{pix: pix, stride: stride, w: (w + hr - 1) / hr, h: (h + vr - 1) / vr, hr: hr, vr: vr, sums: make([]int32, (w+hr-1)/hr)}
}

func (p *plane) line(y int) []byte { return p.pix[y*p.stride : y*p.stride+p.w] }

// row gives row y of the picture. It uses buf, of at least w·hr bytes, where
// samples are missing. Between samples lies a triangle filter, as libjpeg has it:
//
//	one axis halved   the nearer sample counts 3/4, the farther 1/4
//	both axes halved  9/16, 3/16, 3/16, 1/16
//	other ratios, and planes at most two samples wide: the sample is repeated
//
// The last bit is rounded up and down in turns, by the place of the pixel, so
// that no shift of brightness comes about. Beyond the edges the outermost
// samples count again.
func (p *plane) row(buf []byte, y int) []byte {
	own := y / p.vr
	switch {
	case p.hr == 1 && p.vr == 1:
		return p.line(y)
	case p.hr == 1 && p.vr == 2:
		a, b, bias := p.line(own), p.line(p.near(y)), 1+y&1
		buf = buf[:p.w]
		for x := range buf {
			buf[x] = byte((3*int(a[x]) + int(b[x]) + bias) >> 2)
		}
	case p.hr == 2 && p.vr == 1 && p.w > 2:
		for x, v := range p.line(own) {
			p.sums[x] = int32(v)
		}
		p.double(buf, 2, 1, 2)
	case p.hr == 2 && p.vr == 2 && p.w > 2:
		a, b := p.line(own), p.line(p.near(y))
		for x := range a {
			p.sums[x] = 3*int32(a[x]) + int32(b[x])
		}
		p.double(buf, 4, 8, 7)
	default:
		i := 0
		for _, v := range p.line(own) {
			for range p.hr {
				buf[i] = v
				i++
			}
		}
	}
	return buf
}

// near is the row of the plane that is second nearest to the picture's row y.
func (p *plane) near(y int) int {
	return min(max(y/2-1+y&1*2, 0), p.h-1)
}

// double makes two pixels of each of p.sums: (3·own + neighbour + bias) / 2^shift,
// with the bias left to the left and right to the right.
func (p *plane) double(buf []byte, shift uint, left, right int32) {
	s := p.sums
	n := len(s)
	buf = buf[:2*n]
	last := s[0]
	for x, own := range s {
		next := s[min(x+1, n-1)]
		buf[2*x] = byte((3*own + last + left) >> shift)
		buf[2*x+1] = byte((3*own + next + right) >> shift)
		last = own
	}
}

// mergePlanes makes H·W·3 bytes of RGB out of the planes of a picture of w×h.
func mergePlanes(p []plane, w, h int, merge func(out []byte, in [4][]byte)) []byte {
	out := make([]byte, 3*w*h)
	var bufs, in [4][]byte
	for i := range p {
		if p[i].hr > 1 || p[i].vr > 1 {
			bufs[i] = make([]byte, p[i].w*p[i].hr)
		}
	}
	for y := range h {
		for i := range p {
			in[i] = p[i].row(bufs[i], y)
		}
		merge(out[3*w*y:3*w*(y+1)], in)
	}
	return out
}

func mergeGray(out []byte, in [4][]byte) {
	for i, x := 0, 0; i < len(out); i, x = i+3, x+1 {
		v := in[0][x]
		out[i], out[i+1], out[i+2] = v, v, v
	}
}

func mergeRGB(out []byte, in [4][]byte) {
	for i, x := 0, 0; i < len(out); i, x = i+3, x+1 {
		out[i], out[i+1], out[i+2] = in[0][x], in[1][x], in[2][x]
	}
}

func mergeYCC(out []byte, in [4][]byte) {
	n := len(out) / 3
	ys, bs, rs := in[0][:n], in[1][:n], in[2][:n]
	for x, y := range ys {
		o := out[3*x : 3*x+3 : 3*x+3]
		o[0], o[1], o[2] = yccRGB(int32(y), int32(bs[x])-128, int32(rs[x])-128)
	}
}

// yccRGB is libjpeg's conversion: constants in units of 2⁻¹⁶, rounded sums.
func yccRGB(y, cb, cr int32) (r, g, b byte) {
	return clip(y + (91881*cr+1<<15)>>16), clip(y + (-22554*cb-46802*cr+1<<15)>>16), clip(y + (116130*cb+1<<15)>>16)
}

func clip(x int32) byte {
	if uint32(x) > 255 {
		x = ^(x >> 31) // below 0: 0, above 255: all ones
	}
	return byte(x)
}

// mergeCMYK turns inks to colours as Pillow does: the file is taken to hold 255
// minus the ink, which is Adobe's way and everybody's.
func mergeCMYK(out []byte, in [4][]byte) {
	for i, x := 0, 0; i < len(out); i, x = i+3, x+1 {
		k := in[3][x]
		out[i], out[i+1], out[i+2] = underBlack(255-in[0][x], k), underBlack(255-in[1][x], k), underBlack(255-in[2][x], k)
	}
}

func mergeYCCK(out []byte, in [4][]byte) {
	for i, x := 0, 0; i < len(out); i, x = i+3, x+1 {
		c, m, y := yccRGB(int32(in[0][x]), int32(in[1][x])-128, int32(in[2][x])-128)
		k := in[3][x]
		out[i], out[i+1], out[i+2] = underBlack(c, k), underBlack(m, k), underBlack(y, k)
	}
}

// underBlack is the light that an ink leaves of light k: k − k·ink/255, rounded.
func underBlack(ink, light byte) byte {
	t := uint32(ink)*uint32(light) + 128
	return byte(int32(light) - int32((t>>8+t)>>8))
}
