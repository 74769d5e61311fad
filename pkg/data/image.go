package data

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/sniff"
	"github.com/vlaring/vlaring/pkg/data/internal/jpeg"
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

// imageHead is what a look at a picture finds without decoding it.
type imageHead struct {
	h, w        int
	orientation int  // EXIF: 1 upright, 0 not said
	deep        bool // 16-bit greyscale
	decode      func(file []byte) ([]byte, error)
}

// readImage looks at all of a picture but its pixels: kind, size, features and
// whether its end is there. What it passes, decodeImage refuses only where the
// coded pixels themselves are damaged.
func readImage(file []byte) (imageHead, error) {
	var m imageHead
	switch {
	case bytes.HasPrefix(file, pngMagic):
		p, err := readPNG(file)
		if err != nil {
			return m, &ImageError{err}
		}
		m = imageHead{h: p.h, w: p.w, orientation: p.orientation, deep: p.deep, decode: p.decode}
	case bytes.HasPrefix(file, jpegMagic):
		j, err := jpeg.Read(file)
		if err != nil {
			return m, &ImageError{err}
		}
		m = imageHead{h: j.H, w: j.W, orientation: j.Orientation, decode: j.RGB}
	default:
		return m, &ImageError{notAPicture(file)}
	}
	if m.w < 1 || m.h < 1 || m.w > MaxImageSide || m.h > MaxImageSide || m.w*m.h > MaxImagePixels {
		return m, &ImageError{fmt.Errorf("%d×%d pixels; a side may have 1 to %d and the picture at most %d", m.w, m.h, MaxImageSide, MaxImagePixels)}
	}
	return m, nil
}

// notAPicture says what a file is that is neither PNG nor JPEG.
func notAPicture(file []byte) error {
	if len(file) == 0 {
		return errors.New("it is empty")
	}
	what := sniff.Instead(file, sniff.Picture)
	switch {
	case bytes.HasPrefix(file, []byte("BM")) && sniff.Of(file) != sniff.BMP: // a BMP whose header is odd, or chance
		what = "it begins with \"BM\", as a BMP picture does: save it as PNG or JPEG"
	case what == "":
		what = fmt.Sprintf("it begins with % x", file[:min(8, len(file))])
	}
	return fmt.Errorf("neither PNG nor JPEG: %s", what)
}

// checkImage looks at a PNG or JPEG file and returns its size. It does not
// decode the pixels, but finds whatever else decodeImage refuses: other formats
// and kinds of JPEG, and files that were cut.
func checkImage(file []byte) (h, w int, err error) {
	m, err := readImage(file)
	if err != nil {
		return 0, 0, err
	}
	return m.h, m.w, nil
}

// decodeImage decodes a PNG or JPEG file to H·W·3 bytes of RGB, as Pillow's
// convert("RGB") does but for what docs/formats.md says: alpha is left out, grey
// repeated, 16-bit channels keep their upper byte, EXIF does not turn a picture.
// Everything on the way is integer arithmetic, hence the same on every CPU.
func decodeImage(file []byte) (Image, error) {
	m, err := readImage(file)
	if err != nil {
		return Image{}, err
	}
	rgb, err := m.decode(file)
	if err != nil {
		return Image{}, &ImageError{fmt.Errorf("a picture of %d×%d does not decode: %w", m.w, m.h, err)}
	}
	return Image{RGB: rgb, H: m.h, W: m.w}, nil
}
