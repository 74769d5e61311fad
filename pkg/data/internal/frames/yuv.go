package frames

import "fmt"

// Pixels come as the decoder has them and become RGB here, in integers, so that
// nothing but the decoder decides the bytes: standards define its output to the
// bit, and ffmpeg's conversions differ from CPU to CPU and from flag to flag.
//
// The arithmetic is that of ffmpeg's usual way (swscale, unscaled, x86), which
// PyAV and torchcodec take: frames are, byte for byte, what LeRobot's loader gives.
// Chroma is repeated, not interpolated; products are cut off, not rounded:
//
//	y = (Y−o)·8·cy ≫ 16     R = y + ((V−128)·8·rv ≫ 16)
//	o = 16, or 0 where      G = y + ((U−128)·8·gu ≫ 16) + ((V−128)·8·gv ≫ 16)
//	the range is full       B = y + ((U−128)·8·bu ≫ 16)       each held in 0 … 255

// layout is how a raw frame lies: how often chroma is repeated across and down, or
// RGB already.
type layout struct {
	across, down int
	rgb          bool
	full         bool // of the range, whatever the video says
}

// layouts are the pixel formats that ffmpeg may hand over, by its names.
var layouts = map[string]layout{
	"yuv420p": {2, 2, false, false}, "yuv422p": {2, 1, false, false}, "yuv444p": {1, 1, false, false},
	"yuvj420p": {2, 2, false, true}, "yuvj422p": {2, 1, false, true}, "yuvj444p": {1, 1, false, true},
	"rgb24": {1, 1, true, true},
}

// formats are their names for ffmpeg, which converts what is none of them (10 bits a
// channel, grey) to the one that loses least.
const formats = "yuv420p|yuv422p|yuv444p|yuvj420p|yuvj422p|yuvj444p|rgb24"

// size is the number of bytes of a raw frame.
func (l layout) size(h, w int) int {
	if l.rgb {
		return 3 * h * w
	}
	return h*w + 2*((h+l.down-1)/l.down)*((w+l.across-1)/l.across)
}

// matrices are what U and V add to R, B and take from G, in 1/65536, by ffmpeg's names
// of colour spaces: swscale's table. What a video does not say is BT.601.
var matrices = map[string][4]int{
	"unknown": bt601, "": bt601, "bt470bg": bt601, "smpte170m": bt601,
	"bt709":     {117489, 138438, 13975, 34925},
	"fcc":       {104448, 132798, 24759, 53109},
	"smpte240m": {117579, 136230, 16907, 35559},
	"bt2020nc":  {110013, 140363, 12277, 42626},
	"bt2020c":   {110013, 140363, 12277, 42626},
}

var bt601 = [4]int{104597, 132201, 25675, 53279}

// yuv converts frames of one kind. Its tables are indexed by a byte.
type yuv struct {
	layout
	y, rv, gu, gv, bu [256]int32
}

func newYUV(format, space string, full bool) (*yuv, error) {
	l, ok := layouts[format]
	if !ok {
		return nil, fmt.Errorf("its pixels are %q", format)
	}
	m, ok := matrices[space]
	if !ok && !l.rgb {
		return nil, fmt.Errorf("its colour space is %q, which is not converted", space)
	}
	c := &yuv{layout: l}
	cy, offset := 1<<16, 0
	rv, bu, gu, gv := m[0], m[1], -m[2], -m[3]
	if full || l.full {
		rv, bu, gu, gv = rv*224/255, bu*224/255, gu*224/255, gv*224/255
	} else {
		cy, offset = cy*255/219, 16
	}
	word := func(x int) int { return (x<<13 + 1<<15) >> 16 }
	for i := range 256 {
		of := func(k, coef int) int32 { return int32(k * 8 * word(coef) >> 16) }
		c.y[i] = of(i-offset, cy)
		c.rv[i], c.gu[i], c.gv[i], c.bu[i] = of(i-128, rv), of(i-128, gu), of(i-128, gv), of(i-128, bu)
	}
	return c, nil
}

// convert writes a raw frame of h×w pixels as RGB.
func (c *yuv) convert(dst, raw []byte, h, w int) {
	if c.rgb {
		copy(dst, raw)
		return
	}
	wide, high := (w+c.across-1)/c.across, (h+c.down-1)/c.down
	us := raw[h*w:]
	vs := us[wide*high:]
	for y := range h {
		line, out, at := raw[y*w:][:w], dst[3*y*w:][:3*w], (y/c.down)*wide
		u, v := us[at:][:wide], vs[at:][:wide]
		for x, l := range line {
			k := x / c.across
			g := c.y[l]
			out[3*x] = held(g + c.rv[v[k]])
			out[3*x+1] = held(g + c.gu[u[k]] + c.gv[v[k]])
			out[3*x+2] = held(g + c.bu[u[k]])
		}
	}
}

func held(x int32) byte { return byte(min(max(x, 0), 255)) }
