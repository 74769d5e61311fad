package film

import (
	"cmp"
	"image"
	"image/color"
	"slices"
)

// histogram counts colours.
type histogram map[[3]uint8]int

func (h histogram) add(m *image.RGBA) {
	for i := 0; i < len(m.Pix); i += 4 {
		h[[3]uint8(m.Pix[i:])]++
	}
}

// counted is a colour and how often it comes.
type counted struct {
	c [3]uint8
	n int
}

// palette is at most n colours for those of h: these themselves where they are so few,
// else the means of boxes of them (median cut). The box that spreads the most is halved,
// where its colours are spread the most.
func (h histogram) palette(n int) color.Palette {
	var all []counted
	for c, k := range h {
		all = append(all, counted{c, k})
	}
	slices.SortFunc(all, func(a, b counted) int { return slices.Compare(a.c[:], b.c[:]) })
	boxes := [][]counted{all}
	for len(boxes) < n {
		widest, axis, most := -1, 0, 0
		for i, b := range boxes {
			if a, spread := widestAxis(b); spread > most {
				widest, axis, most = i, a, spread
			}
		}
		if widest < 0 {
			break
		}
		lo, hi := halves(boxes[widest], axis)
		boxes[widest] = lo
		boxes = append(boxes, hi)
	}
	var p color.Palette
	for _, b := range boxes {
		var sum [3]int
		total := 0
		for _, x := range b {
			total += x.n
			for d, v := range x.c {
				sum[d] += int(v) * x.n
			}
		}
		p = append(p, color.RGBA{uint8((sum[0] + total/2) / total), uint8((sum[1] + total/2) / total), uint8((sum[2] + total/2) / total), 255})
	}
	return p
}

// widestAxis is the channel in which colours differ the most, and by how much.
func widestAxis(b []counted) (axis, spread int) {
	for d := range 3 {
		lo, hi := b[0].c[d], b[0].c[d]
		for _, x := range b {
			lo, hi = min(lo, x.c[d]), max(hi, x.c[d])
		}
		if int(hi-lo) > spread {
			axis, spread = d, int(hi-lo)
		}
	}
	return axis, spread
}

// halves cuts colours in the middle of their range along an axis.
func halves(b []counted, axis int) (lo, hi []counted) {
	slices.SortStableFunc(b, func(x, y counted) int { return cmp.Compare(x.c[axis], y.c[axis]) })
	middle := (int(b[0].c[axis]) + int(b[len(b)-1].c[axis])) / 2
	at := slices.IndexFunc(b, func(x counted) bool { return int(x.c[axis]) > middle })
	return b[:at], b[at:]
}
