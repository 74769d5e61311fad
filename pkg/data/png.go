package data

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"

	"github.com/vlaring/vlaring/pkg/data/internal/jpeg"
)

// pngHead is what is looked at of a PNG when the data is opened.
type pngHead struct {
	h, w        int
	orientation int  // EXIF: 1 upright, 0 not said
	deep        bool // 16 bits of grey without alpha: depth, mostly
}

// readPNG walks a PNG's chunks to the last, so that a file that was cut is found
// before its pixels are needed. Decoding compares their checksums.
func readPNG(file []byte) (*pngHead, error) {
	c, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil && len(file) >= 33 {
		return nil, err // what it says of sizes and kinds
	}
	p := &pngHead{h: c.Height, w: c.Width}
	pixels := false
	for at := len(pngMagic); ; {
		if len(file)-at < 12 {
			return nil, fmt.Errorf("a PNG cut short: its %d bytes end before its last chunk; copy or download it again", len(file))
		}
		n, kind := int64(binary.BigEndian.Uint32(file[at:])), string(file[at+4:at+8])
		if n > int64(len(file)-at-12) {
			return nil, fmt.Errorf("a PNG cut short: its chunk %q at byte %d has %d bytes, the file has %d after it; copy or download it again", kind, at, n, len(file)-at-12)
		}
		body := file[at+8 : at+8+int(n)]
		at += 12 + int(n)
		switch kind {
		case "IHDR":
			p.deep = n >= 10 && body[8] == 16 && body[9] == 0
		case "IDAT":
			pixels = true
		case "eXIf":
			p.orientation = jpeg.Orientation(body)
		case "IEND":
			if !pixels {
				return nil, errors.New("a PNG without pixels: it has no chunk IDAT")
			}
			return p, nil
		}
	}
}

// decode decodes the PNG file that p heads to H·W·3 bytes of RGB. Alpha, in all its forms, is left out: the
// colour under it counts, as in Pillow's convert("RGB"), TensorFlow's
// decode_png(channels=3) and OpenCV's imread.
func (p *pngHead) decode(file []byte) ([]byte, error) {
	m, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	b := m.Bounds()
	w, h := b.Dx(), b.Dy()
	if w != p.w || h != p.h {
		return nil, fmt.Errorf("the pixels are %d×%d", w, h)
	}
	switch m := m.(type) {
	case *image.Gray:
		return grayRGB(m.Pix, m.Stride, 1, w, h), nil
	case *image.Gray16: // big-endian, as all of 16 bits: the upper byte comes first
		return grayRGB(m.Pix, m.Stride, 2, w, h), nil
	case *image.RGBA: // opaque
		return pickRGB(m.Pix, m.Stride, 1, w, h), nil
	case *image.RGBA64: // opaque
		return pickRGB(m.Pix, m.Stride, 2, w, h), nil
	case *image.NRGBA:
		return pickRGB(m.Pix, m.Stride, 1, w, h), nil
	case *image.NRGBA64:
		return pickRGB(m.Pix, m.Stride, 2, w, h), nil
	case *image.Paletted:
		return paletteRGB(m, w, h), nil
	}
	return nil, fmt.Errorf("the decoder gave a %T", m)
}

// grayRGB repeats each of w×h values, step bytes apart, three times.
func grayRGB(pix []byte, stride, step, w, h int) []byte {
	out := make([]byte, 3*w*h)
	i := 0
	for y := range h {
		in := pix[y*stride:]
		for x := range w {
			v := in[x*step]
			out[i], out[i+1], out[i+2] = v, v, v
			i += 3
		}
	}
	return out
}

// pickRGB takes red, green and blue out of w×h pixels of four channels, of which
// each is size bytes long.
func pickRGB(pix []byte, stride, size, w, h int) []byte {
	out := make([]byte, 3*w*h)
	i := 0
	for y := range h {
		in := pix[y*stride:]
		for x := range w {
			p := in[4*size*x:]
			out[i], out[i+1], out[i+2] = p[0], p[size], p[2*size]
			i += 3
		}
	}
	return out
}

func paletteRGB(m *image.Paletted, w, h int) []byte {
	var table [256][3]byte
	for i, c := range m.Palette {
		n := color.NRGBAModel.Convert(c).(color.NRGBA)
		if c, ok := c.(color.NRGBA); ok {
			n = c // Convert loses the colour of what is transparent
		}
		table[i] = [3]byte{n.R, n.G, n.B}
	}
	out := make([]byte, 3*w*h)
	i := 0
	for y := range h {
		for _, v := range m.Pix[y*m.Stride : y*m.Stride+w] {
			copy(out[i:], table[v][:])
			i += 3
		}
	}
	return out
}
