package film

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/atomicfile"
)

// Film is pictures in time, all of one size. It repeats for ever.
type Film struct {
	Frames int
	Draw   func(k int) *image.RGBA // frame k; it may be asked for twice
	Hold   func(k int) int         // how long it is shown, in hundredths of a second
}

// Known says whether Write can write a file of that name.
func Known(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".png", ".gif":
		return true
	}
	return false
}

// Write writes f, whole or not at all, in the form that the name ends in: .png or .gif.
func Write(path string, f Film) error {
	if !Known(path) || f.Frames < 1 {
		return fmt.Errorf("%s: a film of %d frames: want a name that ends in .png or .gif, and a frame", path, f.Frames)
	}
	var b bytes.Buffer
	encode := encodeGIF
	if strings.EqualFold(filepath.Ext(path), ".png") {
		encode = encodePNG
	}
	if err := encode(&b, f.shots()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return atomicfile.Write(path, b.Bytes(), 0o644)
}

// sampled is of how many frames the palette is made.
const sampled = 12

// shot is what a frame changes of the one before, and how long it is shown.
type shot struct {
	*image.Paletted // its bounds are the part that changes; the first is whole
	hold            int
}

// shots are the frames in the colours of one palette.
func (f Film) shots() []shot {
	h := histogram{}
	for i := range min(sampled, f.Frames) {
		h.add(f.Draw((f.Frames - 1) * (i + 1) / min(sampled, f.Frames)))
	}
	p := newPicker(h.palette(256))
	var all []shot
	var was *image.Paletted
	for k := range f.Frames {
		m := p.paint(f.Draw(k))
		part := m
		if was != nil {
			part = m.SubImage(changed(was, m)).(*image.Paletted)
		}
		all = append(all, shot{compact(part), f.Hold(k)})
		was = m
	}
	return all
}

// changed is the least rectangle in which two pictures differ; of equal ones a pixel.
func changed(a, b *image.Paletted) image.Rectangle {
	var r image.Rectangle
	for y := b.Rect.Min.Y; y < b.Rect.Max.Y; y++ {
		i, j := b.PixOffset(b.Rect.Min.X, y), b.PixOffset(b.Rect.Max.X, y)
		if bytes.Equal(a.Pix[i:j], b.Pix[i:j]) {
			continue
		}
		for x := i; x < j; x++ {
			if a.Pix[x] != b.Pix[x] {
				r = r.Union(image.Rect(x-i, y, x-i+1, y+1).Add(image.Pt(b.Rect.Min.X, 0)))
			}
		}
	}
	if r.Empty() {
		return image.Rectangle{b.Rect.Min, b.Rect.Min.Add(image.Pt(1, 1))}
	}
	return r
}

// compact is a copy with no other pixels behind it.
func compact(m *image.Paletted) *image.Paletted {
	c := image.NewPaletted(m.Rect, m.Palette)
	for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
		copy(c.Pix[c.PixOffset(m.Rect.Min.X, y):][:m.Rect.Dx()], m.Pix[m.PixOffset(m.Rect.Min.X, y):])
	}
	return c
}

func encodeGIF(b *bytes.Buffer, shots []shot) error {
	first := shots[0]
	g := &gif.GIF{Config: image.Config{ColorModel: first.Palette, Width: first.Rect.Dx(), Height: first.Rect.Dy()}}
	for _, s := range shots {
		g.Image, g.Delay, g.Disposal = append(g.Image, s.Paletted), append(g.Delay, s.hold), append(g.Disposal, gif.DisposalNone)
	}
	return gif.EncodeAll(b, g)
}

// picker paints pictures in the nearest colours of a palette.
type picker struct {
	palette color.Palette
	nearest map[[3]uint8]uint8
}

func newPicker(p color.Palette) *picker { return &picker{p, map[[3]uint8]uint8{}} }

func (p *picker) paint(m *image.RGBA) *image.Paletted {
	out := image.NewPaletted(m.Rect, p.palette)
	for i := range out.Pix {
		c := [3]uint8(m.Pix[4*i:])
		at, ok := p.nearest[c]
		if !ok {
			at = uint8(p.palette.Index(color.RGBA{c[0], c[1], c[2], 255}))
			p.nearest[c] = at
		}
		out.Pix[i] = at
	}
	return out
}
