package data

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
)

// pictureTally is what the heads of the pictures tell, as they pass by.
type pictureTally struct {
	n            int
	turned, deep seen // EXIF orientation other than 1; 16-bit greyscale
	orientation  int  // of the first that is turned
	low, high    int  // values of the first that is deep; high -1: it does not decode
}

// seen counts pictures and names the first.
type seen struct {
	n     int
	first string
}

func (s *seen) add(where func() string) {
	if s.n == 0 {
		s.first = where()
	}
	s.n++
}

// picture looks at a picture that the data has at where.
func (o *Opening) picture(file []byte, where func() string) error {
	m, err := readImage(file)
	if err != nil {
		return err
	}
	t := &o.pictures
	t.n++
	if m.orientation > 1 {
		t.turned.add(where)
		if t.turned.n == 1 {
			t.orientation = m.orientation
		}
	}
	if m.deep {
		t.deep.add(where)
		if t.deep.n == 1 {
			t.low, t.high = grayRange(file)
		}
	}
	return nil
}

// findPictures tells of pictures that are used otherwise than people may think.
func (o *Opening) findPictures() {
	t := &o.pictures
	if t.turned.n > 0 {
		o.find("exif_orientation", "", `they are used as they are stored, as Pillow and TensorFlow use them (OpenCV turns them); "magick mogrify -auto-orient" turns them for good`,
			"%d of %d pictures have an EXIF orientation that is not upright (the first is %d, of %s)", t.turned.n, t.n, t.orientation, t.turned.first)
	}
	if t.deep.n > 0 {
		become := ""
		if t.high >= 0 {
			become = fmt.Sprintf(": the first, %s, has %d to %d, which become %d to %d", t.deep.first, t.low, t.high, t.low>>8, t.high>>8)
		}
		o.find("deep_greyscale", "", "if they are depth, scale the range that counts to 0 to 255 (8 bits) or 0 to 65535 before training",
			"%d of %d pictures are 16-bit greyscale, of which the upper 8 bits are used%s", t.deep.n, t.n, become)
	}
}

// grayRange is the least and the largest value of a 16-bit greyscale PNG.
func grayRange(file []byte) (low, high int) {
	m, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return 0, -1
	}
	low, high = 1<<16, -1
	add := func(b []byte) {
		v := int(b[0])<<8 | int(b[1])
		low, high = min(low, v), max(high, v)
	}
	switch m := m.(type) {
	case *image.Gray16:
		for i := 0; i < len(m.Pix); i += 2 {
			add(m.Pix[i:])
		}
	case *image.NRGBA64: // one value is transparent
		for i := 0; i < len(m.Pix); i += 8 {
			add(m.Pix[i:])
		}
	}
	return low, high
}
