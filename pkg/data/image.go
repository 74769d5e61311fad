package data

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"

	"github.com/vlaring/vlaring/internal/sniff"
)

// Limits on a picture, checked from its header before its pixels are decoded.
const (
	MaxImageSide   = 16384
	MaxImagePixels = 1 << 25 // 33.5 million: 100 MB as RGB
)

// ImageError says that bytes that should be a picture are not a usable one.
type ImageError struct {
	Err error
}

func (e *ImageError) Error() string { return "image: " + e.Err.Error() }
func (e *ImageError) Unwrap() error { return e.Err }

var (
	pngMagic  = []byte("\x89PNG\r\n\x1a\n")
	jpegMagic = []byte("\xff\xd8\xff")
)

// CheckImage looks at the header of a PNG or JPEG file and returns its size.
// It does not decode the pixels.
func CheckImage(file []byte) (h, w int, err error) {
	var c image.Config
	switch {
	case bytes.HasPrefix(file, pngMagic):
		c, err = png.DecodeConfig(bytes.NewReader(file))
	case bytes.HasPrefix(file, jpegMagic):
		c, err = jpeg.DecodeConfig(bytes.NewReader(file))
	case len(file) == 0:
		err = fmt.Errorf("it is empty")
	default:
		what := sniff.Instead(file, sniff.Picture)
		if what == "" {
			what = fmt.Sprintf("it begins with % x", file[:min(8, len(file))])
		}
		err = fmt.Errorf("neither PNG nor JPEG: %s", what)
	}
	if err != nil {
		return 0, 0, &ImageError{err}
	}
	if c.Width < 1 || c.Height < 1 || c.Width > MaxImageSide || c.Height > MaxImageSide || c.Width*c.Height > MaxImagePixels {
		return 0, 0, &ImageError{fmt.Errorf("%d×%d pixels; a side may have 1 to %d and the picture at most %d", c.Width, c.Height, MaxImageSide, MaxImagePixels)}
	}
	return c.Height, c.Width, nil
}

// DecodeImage decodes a PNG or JPEG file to H·W·3 bytes of RGB. Transparent
// pixels come out over black; 16-bit channels keep their upper byte.
// Everything on the way is integer arithmetic, hence the same on every CPU; a
// different Go release may decode JPEG differently by a unit or so.
func DecodeImage(file []byte) (Image, error) {
	h, w, err := CheckImage(file)
	if err != nil {
		return Image{}, err
	}
	decode := jpeg.Decode
	if bytes.HasPrefix(file, pngMagic) {
		decode = png.Decode
	}
	m, err := decode(bytes.NewReader(file))
	if err != nil {
		return Image{}, &ImageError{fmt.Errorf("a picture of %d×%d does not decode: %w", w, h, err)}
	}
	b := m.Bounds()
	if b.Dx() != w || b.Dy() != h {
		return Image{}, &ImageError{fmt.Errorf("the header says %d×%d, the pixels are %d×%d", w, h, b.Dx(), b.Dy())}
	}
	out := Image{RGB: make([]byte, 3*w*h), H: h, W: w}
	i := 0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			var r, g, bl uint8
			switch m := m.(type) {
			case *image.YCbCr:
				yi, ci := m.YOffset(x, y), m.COffset(x, y)
				r, g, bl = color.YCbCrToRGB(m.Y[yi], m.Cb[ci], m.Cr[ci])
			case *image.Gray:
				r = m.Pix[m.PixOffset(x, y)]
				g, bl = r, r
			case *image.RGBA:
				p := m.PixOffset(x, y)
				r, g, bl = m.Pix[p], m.Pix[p+1], m.Pix[p+2]
			default:
				r16, g16, b16, _ := m.At(x, y).RGBA()
				r, g, bl = uint8(r16>>8), uint8(g16>>8), uint8(b16>>8)
			}
			out.RGB[i], out.RGB[i+1], out.RGB[i+2] = r, g, bl
			i += 3
		}
	}
	return out, nil
}
