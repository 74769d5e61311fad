package picture

import (
	"fmt"
	"image"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// dpi is the resolution at which lengths in points become pixels.
const dpi = 96

// maxSide bounds a page, in pixels: past it a PNG is of no use to an eye.
const maxSide = 16384

// Bounds of layout, in pixels.
const (
	titleHeight = 36
	barWidth    = 90
	margin      = 8
)

// Panel is one drawing of a page.
type Panel interface {
	plot() (*plot.Plot, error)
}

// Scale is a range of values with its colours.
type Scale struct {
	Label    string
	Min, Max float64
	Colours  Colours
}

// Page is a grid of panels under a title.
type Page struct {
	Title         string
	Panels        [][]Panel // rows; a nil panel leaves its place free
	Width, Height int       // of a panel, in pixels; 0: 320
	Bar           *Scale    // a colour bar that all panels share; nil: none
}

// Size is the page's width and height in pixels.
func (p Page) Size() (w, h int) {
	cols := 0
	for _, r := range p.Panels {
		cols = max(cols, len(r))
	}
	pw, ph := p.panel()
	w, h = 2*margin+cols*pw, 2*margin+len(p.Panels)*ph
	if p.Title != "" {
		h += titleHeight
	}
	if p.Bar != nil {
		w += barWidth
	}
	return w, h
}

func (p Page) panel() (w, h int) {
	w, h = p.Width, p.Height
	if w == 0 {
		w = 320
	}
	if h == 0 {
		h = 320
	}
	return w, h
}

// sans is the one font of a page, compiled in.
func sans(points vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: points}
}

func px(n int) vg.Length { return vg.Length(n) * vg.Inch / dpi }

// Image draws the page.
func (p Page) Image() (image.Image, error) {
	w, h := p.Size()
	if len(p.Panels) == 0 || w > maxSide || h > maxSide {
		return nil, fmt.Errorf("a picture of %d×%d pixels in %d rows: want at least one row and sides of at most %d", w, h, len(p.Panels), maxSide)
	}
	canvas := vgimg.NewWith(vgimg.UseWH(px(w), px(h)), vgimg.UseDPI(dpi))
	all := draw.New(canvas)
	// area is the canvas between pixels counted from its upper left corner.
	area := func(x0, y0, x1, y1 int) draw.Canvas {
		return draw.Crop(all, px(x0), px(x1-w), px(h-y1), -px(y0))
	}
	top := margin
	if p.Title != "" {
		top += titleHeight
		style := text.Style{Color: black, Font: sans(13), XAlign: draw.XCenter, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}
		c := area(margin, margin, w-margin, margin+titleHeight)
		c.FillText(style, c.Center(), p.Title)
	}
	pw, ph := p.panel()
	for i, row := range p.Panels {
		for j, panel := range row {
			if panel == nil {
				continue
			}
			pl, err := panel.plot()
			if err != nil {
				return nil, fmt.Errorf("panel %d of row %d: %w", j+1, i+1, err)
			}
			pl.Draw(area(margin+j*pw+4, top+i*ph+4, margin+(j+1)*pw-4, top+(i+1)*ph-4))
		}
	}
	if p.Bar != nil {
		// A bar as tall as one row is as readable as one that is as tall as the page.
		p.Bar.plot().Draw(area(w-barWidth, top, w-margin, top+max(ph, min(len(p.Panels)*ph, 400))))
	}
	return canvas.Image(), nil
}

// WritePNG draws the page to a file.
func (p Page) WritePNG(path string) error {
	m, err := p.Image()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writePNG(path, m)
}
