package data

import (
	"math"

	"github.com/vlaring/vlaring/internal/portable"
)

// Looking at a turned or moved part of a picture: one resampling from the
// picture's pixels, or from averages of blocks of them, to the model's.
//
//	model's pixel (j, i) ──crop──> (u, v) ──turn and move back──> (x, y) in the picture
//
// It is linear between pixel centres. Where a pixel of the model is wider than two
// of the picture, blocks of k×k are averaged first, so that it is never wider than
// two of those. Beyond the picture's edge all is black, as in torchvision and
// Pillow. The map is made in float64, whose operations are each rounded, and
// walked in whole numbers of 2⁻³² of a pixel: the same bits everywhere.

// cropUnits is how many places there are in a pixel for a crop to begin.
const cropUnits = 256

// crop is what is seen of n pixels: where it begins and how long it is, in cropUnits.
func crop(n int, side float64, place uint32) (from, length int) {
	length = max(int(math.Floor(float64(float64(side*float64(n))*cropUnits)+0.5)), 1)
	room := n*cropUnits - length
	return int(uint64(place) * uint64(room+1) >> 32), length
}

func (l *glance) turned() bool { return l.angle != 0 || l.dx != 0 || l.dy != 0 }

// fixed is x in 2⁻³², rounded.
func fixed(x float64) int64 { return int64(math.Floor(float64(x*(1<<32)) + 0.5)) }

// warp writes what l shows of pix, [h, w, c] bytes, to the planes of dst, in 0 to 1.
func (r *resizer) warp(dst []float32, pix []byte, h, w int, l *glance) {
	fx, lx := crop(w, l.side, l.x)
	fy, ly := crop(h, l.side, l.y)
	kx, ky := blocks(lx, r.w), blocks(ly, r.h)
	turn := math.Abs(l.angle)
	sin, cos := portable.SinCos(float64(turn * (math.Pi / 180)))
	if l.angle < 0 {
		sin = -sin
	}
	// Pixels of the picture for one of the model, and the first one's centre as it
	// lies from the middle, which stays where it is as all turns around it.
	px, py := float64(lx)/(cropUnits*float64(r.w)), float64(ly)/(cropUnits*float64(r.h))
	cx, cy := float64(float64(w)/2), float64(float64(h)/2)
	u := float64(float64(fx)/cropUnits) + float64(px/2) - cx - float64(l.dx*float64(w))
	v := float64(float64(fy)/cropUnits) + float64(py/2) - cy - float64(l.dy*float64(h))
	m := affine{
		x: fixed((cx + float64(cos*u) + float64(sin*v)) / float64(kx)), xj: fixed(cos * px / float64(kx)), xi: fixed(sin * py / float64(kx)),
		y: fixed((cy - float64(sin*u) + float64(cos*v)) / float64(ky)), yj: fixed(-sin * px / float64(ky)), yi: fixed(cos * py / float64(ky)),
		wide: (int64(w) << 32) / int64(kx), high: (int64(h) << 32) / int64(ky),
	}
	if kx == 1 && ky == 1 {
		sample(dst, pix, h, w, r, &m, 255)
		return
	}
	r.small = averages(r.small, pix, h, w, r.c, ky, kx)
	sample(dst, r.small, (h+ky-1)/ky, (w+kx-1)/kx, r, &m, 255*blockScale)
}

// blocks is how many pixels are averaged where length, in cropUnits, becomes m.
func blocks(length, m int) int { return max((length+2*cropUnits*m-1)/(2*cropUnits*m), 1) }

// blockScale is what an average is counted in, for a byte's 1.
const blockScale = 256

// averages are those of blocks of kh×kw pixels, which at the lower and right edge
// may be smaller.
func averages(dst []uint16, pix []byte, h, w, c, kh, kw int) []uint16 {
	oh, ow := (h+kh-1)/kh, (w+kw-1)/kw
	dst = grow(dst, oh*ow*c)
	sums := make([]uint32, ow*c)
	for y := 0; y < oh; y++ {
		clear(sums)
		rows := min(kh, h-y*kh)
		for j := 0; j < rows; j++ {
			row := pix[(y*kh+j)*w*c:][:w*c]
			for x := 0; x < ow; x++ {
				end := min((x+1)*kw, w) * c
				s := sums[x*c : x*c+c]
				for p := x * kw * c; p < end; p += c {
					for ch := range s {
						s[ch] += uint32(row[p+ch])
					}
				}
			}
		}
		for x := 0; x < ow; x++ {
			n := uint64(rows * min(kw, w-x*kw))
			for ch := 0; ch < c; ch++ {
				dst[(y*ow+x)*c+ch] = uint16((uint64(sums[x*c+ch])*blockScale + n/2) / n)
			}
		}
	}
	return dst
}

// affine is where the model's pixels lie in a picture, in 2⁻³² of its pixels: the
// first one's centre, and how far it is to the next of a row and of a column.
type affine struct {
	x, xj, xi, y, yj, yi int64
	wide, high           int64 // of the picture
}

// sample reads pix, [h, w, c] of values up to full, at the places of m.
func sample[T uint8 | uint16](dst []float32, pix []T, h, w int, r *resizer, m *affine, full float64) {
	const bits = 11 // of a weight
	const one = 1 << bits
	c, plane := r.c, r.h*r.w
	unit := 1 / (full * one * one)
	for i := 0; i < r.h; i++ {
		x, y := m.x+int64(i)*m.xi, m.y+int64(i)*m.yi
		for j := 0; j < r.w; j, x, y = j+1, x+m.xj, y+m.yj {
			at := i*r.w + j
			if x < 0 || y < 0 || x >= m.wide || y >= m.high {
				for ch := 0; ch < c; ch++ {
					dst[ch*plane+at] = 0
				}
				continue
			}
			qx, qy := x-1<<31, y-1<<31 // from the first pixel's centre
			x0, y0 := int(qx>>32), int(qy>>32)
			wx, wy := uint64(uint32(qx))>>(32-bits), uint64(uint32(qy))>>(32-bits)
			x1, y1 := min(x0+1, w-1), min(y0+1, h-1)
			x0, y0 = min(max(x0, 0), w-1), min(max(y0, 0), h-1)
			a, b := pix[(y0*w+x0)*c:][:c], pix[(y0*w+x1)*c:][:c]
			d, e := pix[(y1*w+x0)*c:][:c], pix[(y1*w+x1)*c:][:c]
			wa, wb, wd, we := (one-wx)*(one-wy), wx*(one-wy), (one-wx)*wy, wx*wy
			for ch := range a {
				sum := wa*uint64(a[ch]) + wb*uint64(b[ch]) + wd*uint64(d[ch]) + we*uint64(e[ch])
				dst[ch*plane+at] = float32(float64(sum) * unit)
			}
		}
	}
}
