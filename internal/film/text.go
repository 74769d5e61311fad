package film

import (
	"image"
	"image/color"
	"image/draw"
	"strings"
	"sync"

	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Pen writes text of one size.
type Pen struct {
	mu   sync.Mutex // a face is of one user at a time
	face font.Face
	size int
}

// NewPen writes letters that are size pixels high.
func NewPen(size int) (*Pen, error) {
	f, err := opentype.Parse(liberationsansregular.TTF)
	if err != nil {
		return nil, err
	}
	face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: float64(size), DPI: 72, Hinting: font.HintingFull})
	return &Pen{face: face, size: size}, err
}

// Height is that of a line.
func (p *Pen) Height() int { return p.size * 5 / 4 }

// Lines breaks a text into lines of at most width pixels; a word that is wider has one
// of its own.
func (p *Pen) Lines(text string, width int) (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range strings.Fields(text) {
		if n := len(lines); n > 0 {
			if longer := lines[n-1] + " " + w; font.MeasureString(p.face, longer).Ceil() <= width {
				lines[n-1] = longer
				continue
			}
		}
		lines = append(lines, w)
	}
	return lines
}

// Write writes a line whose upper left corner is at.
func (p *Pen) Write(m draw.Image, at image.Point, c color.Color, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := font.Drawer{Dst: m, Src: image.NewUniform(c), Face: p.face, Dot: fixed.P(at.X, at.Y+p.size)}
	d.DrawString(line)
}
