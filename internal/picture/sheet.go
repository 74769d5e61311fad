package picture

import (
	"fmt"
	"image"
	"image/color"
	stddraw "image/draw"
	"image/png"
	"math"
	"os"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Sheet is a page of cards, one below the other: photographs on the left, tables of
// curves beside them.
//
//	┌──────────────────────────────────────────────┐
//	│ title                                        │
//	│ notes, warnings                              │
//	├──────────────────────────────────────────────┤
//	│ card: title, text                            │
//	│ ┌─────┐┌─────┐  state              action    │
//	│ │photo││photo│  q0  | 0.2          x  ~~~~ 1 │
//	│ └─────┘└─────┘  q1 |  0.1          y  ~~~~ 2 │
//	├──────────────────────────────────────────────┤
//	│ the next card                                │
//
// Tables stand one below the other where there is room for them. No text reaches into
// another: notes go on in the next line, and what else is too long for its place ends
// in an ellipsis.
type Sheet struct {
	Title    string
	Notes    []string // lines
	Warnings []string // lines, in another colour
	Cards    []Card
}

// Card is what a sheet shows of one thing.
type Card struct {
	Title, Text string
	Photos      [][]Photo // groups of them, which begin a line where they do not fit into the one before
	Tables      []Table
}

// Photo is a photograph with a line over it. Small ones are enlarged.
type Photo struct {
	Title string
	Image image.Image
}

// Table is rows of values over a common heading.
type Table struct {
	Title string
	Heads [2]string // of Row.Texts
	Rows  []Row
}

// Row is a named value, or a run of them, before the range that such values have.
type Row struct {
	Name   string
	Values []float64  // one: a mark from left to right; several: a curve. What is not finite is left out
	Lo, Hi float64    // the range
	Band   [2]float64 // the part of it in which most lie
	Texts  [2]string  // right of it
}

// Of a sheet's layout, in pixels.
const (
	sheetMargin = 20
	cardGap     = 14
	lineHeight  = 17
	photoSide   = 192 // least side of a photograph, and half of the most
	photosWide  = 4   // in a line
	photoGap    = 8
	rowHeight   = 20
	nameWidth   = 130
	curveWidth  = 180
	valueWidth  = 96
	tableGap    = 24
	tableWidth  = nameWidth + curveWidth + 2*valueWidth + 18
)

var (
	grey     = color.RGBA{95, 95, 95, 255}
	orange   = color.RGBA{176, 80, 0, 255}
	paper    = color.RGBA{250, 250, 248, 255}
	track    = color.RGBA{232, 232, 230, 255}
	trackMid = color.RGBA{206, 214, 222, 255}
)

// shown is how many pixels a photograph takes: a whole number of them for each of its
// own, or of its own for each.
func shown(m image.Image) (w, h, zoom, shrink int) {
	b := m.Bounds()
	side := max(b.Dx(), b.Dy(), 1)
	zoom = max(1, photoSide/side)
	shrink = (side + 2*photoSide - 1) / (2 * photoSide)
	return max(1, b.Dx()*zoom/shrink), max(1, b.Dy()*zoom/shrink), zoom, shrink
}

// lines are the card's photographs as they stand on the page.
func (c *Card) lines() (out [][]Photo) {
	for _, l := range c.Photos {
		if n := len(out) - 1; n >= 0 && len(out[n])+len(l) <= photosWide {
			out[n] = append(out[n], l...)
			continue
		}
		for ; len(l) > photosWide; l = l[photosWide:] {
			out = append(out, l[:photosWide:photosWide])
		}
		if len(l) > 0 {
			out = append(out, l[:len(l):len(l)])
		}
	}
	return out
}

// photos are the width and the height of the card's photographs.
func (c *Card) photos() (w, h int) {
	for _, l := range c.lines() {
		x, y := 0, 0
		for _, p := range l {
			pw, ph, _, _ := shown(p.Image)
			x, y = x+pw+photoGap, max(y, ph)
		}
		w, h = max(w, x), h+y+lineHeight+photoGap
	}
	return w, h
}

func (c *Card) height(stacked bool) int {
	_, h := c.photos()
	sum := 0
	for i := range c.Tables {
		own := c.Tables[i].height()
		if sum += own; !stacked {
			h = max(h, own)
		}
	}
	if stacked {
		h = max(h, sum)
	}
	return 2*lineHeight + 8 + h
}

func (t *Table) height() int { return lineHeight + 4 + rowHeight*len(t.Rows) + lineHeight }

// Size is the width and the height in pixels.
func (s *Sheet) Size() (w, h int) {
	w, h, _, _ = s.layout()
	return w, h
}

// layout is the size of the sheet, the width of its photographs, and whether tables
// stand one below the other, the same for all cards.
func (s *Sheet) layout() (w, h, photos int, stacked bool) {
	tables := 0
	stacked = true
	for i := range s.Cards {
		c := &s.Cards[i]
		pw, ph := c.photos()
		photos, tables = max(photos, pw), max(tables, len(c.Tables))
		sum := 0
		for k := range c.Tables {
			sum += c.Tables[k].height()
		}
		stacked = stacked && sum <= max(ph, 2*photoSide)
	}
	if stacked {
		tables = min(tables, 1)
	}
	w = max(2*sheetMargin+photos+tables*(tableWidth+tableGap), 800)
	h = 2*sheetMargin + 10 + lineHeight*(1+len(s.wrapped(s.Notes, w))+len(s.wrapped(s.Warnings, w)))
	for i := range s.Cards {
		h += s.Cards[i].height(stacked) + cardGap
	}
	return w, h, photos, stacked
}

// wrapped are lines as they stand on a sheet of that width.
func (s *Sheet) wrapped(lines []string, w int) (out []string) {
	fits := fitting(noteStyle(grey), float64(w-2*sheetMargin))
	for _, l := range lines {
		for !fits(l) {
			head, at := fitted(l, fits), 0
			if at = strings.LastIndexByte(strings.TrimSuffix(head, "…"), ' '); strings.TrimSpace(l[:max(at, 0)]) == "" {
				break // one long word, which is cut
			}
			out, l = append(out, l[:at]), "    "+l[at+1:]
		}
		out = append(out, l)
	}
	return out
}

func noteStyle(colour color.Color) text.Style {
	return text.Style{Color: colour, Font: sans(9), YAlign: draw.YTop, Handler: plot.DefaultTextHandler}
}

// fitting says whether a text is no wider than so many pixels.
func fitting(style text.Style, width float64) func(string) bool {
	return func(s string) bool { return style.Width(s) <= vg.Length(width)*vg.Inch/dpi }
}

// pen draws on a sheet in pixels from its upper left corner.
type pen struct {
	c draw.Canvas
	h int
}

func (p pen) at(x, y float64) vg.Point {
	return vg.Point{X: vg.Length(x) * vg.Inch / dpi, Y: vg.Length(float64(p.h)-y) * vg.Inch / dpi}
}

func (p pen) box(x, y, w, h float64, fill color.Color) {
	p.c.FillPolygon(fill, []vg.Point{p.at(x, y), p.at(x+w, y), p.at(x+w, y+h), p.at(x, y+h)})
}

func (p pen) line(points []vg.Point, width float64, colour color.Color) {
	p.c.StrokeLines(draw.LineStyle{Color: colour, Width: px(1) * vg.Length(width)}, points)
}

// write puts a line of text into a place of that width, whose top is y. What does not
// fit ends in an ellipsis.
func (p pen) write(x, y, width float64, points vg.Length, colour color.Color, right bool, s string) {
	style := noteStyle(colour)
	style.Font = sans(points)
	if s = fitted(s, fitting(style, width)); right {
		style.XAlign, x = draw.XRight, x+width
	}
	p.c.FillText(style, p.at(x, y), s)
}

// fitted is s, or as much of its beginning as fits with an ellipsis.
func fitted(s string, fits func(string) bool) string {
	if fits(s) {
		return s
	}
	r := []rune(s)
	lo, hi := 0, len(r)
	for lo < hi { // the most runes that fit
		if n := (lo + hi + 1) / 2; fits(string(r[:n]) + "…") {
			lo = n
		} else {
			hi = n - 1
		}
	}
	return string(r[:lo]) + "…"
}

// Image draws the sheet.
func (s *Sheet) Image() (image.Image, error) {
	w, h, left, stacked := s.layout()
	if len(s.Cards) == 0 || w > maxSide || h > maxSide {
		return nil, fmt.Errorf("a sheet of %d×%d pixels with %d cards: want at least one and sides of at most %d", w, h, len(s.Cards), maxSide)
	}
	canvas := vgimg.NewWith(vgimg.UseWH(px(w), px(h)), vgimg.UseDPI(dpi))
	p := pen{draw.New(canvas), h}
	wide := float64(w - 2*sheetMargin)
	y := sheetMargin
	p.write(sheetMargin, float64(y), wide, 13, black, false, s.Title)
	y += lineHeight + 6
	for _, l := range s.wrapped(s.Notes, w) {
		p.write(sheetMargin, float64(y), wide, 9, grey, false, l)
		y += lineHeight
	}
	for _, l := range s.wrapped(s.Warnings, w) {
		p.write(sheetMargin, float64(y), wide, 9, orange, false, l)
		y += lineHeight
	}
	out := canvas.Image()
	for i := range s.Cards {
		s.Cards[i].draw(p, out, y, w, left, stacked)
		y += s.Cards[i].height(stacked) + cardGap
	}
	return out, nil
}

// draw puts the card at y on a sheet of that width, its tables behind left.
func (c *Card) draw(p pen, out stddraw.Image, y, w, left int, stacked bool) {
	p.box(sheetMargin-10, float64(y), float64(w-2*sheetMargin+20), float64(c.height(stacked)), paper)
	wide := float64(w - 2*sheetMargin)
	y += 6
	p.write(sheetMargin, float64(y), wide, 11, black, false, c.Title)
	y += lineHeight
	p.write(sheetMargin, float64(y), wide, 8.5, grey, false, c.Text)
	y += lineHeight + 2
	tx, ty := sheetMargin+left+tableGap/2, y
	for i := range c.Tables {
		t := &c.Tables[i]
		if t.draw(p, float64(tx), float64(ty)); stacked {
			ty += t.height()
		} else {
			tx += tableWidth + tableGap
		}
	}
	for _, l := range c.lines() {
		x, high := sheetMargin, 0
		for _, photo := range l {
			pw, ph, zoom, shrink := shown(photo.Image)
			p.write(float64(x), float64(y), float64(pw), 8.5, grey, false, photo.Title)
			place(out, photo.Image, x, y+lineHeight, pw, ph, zoom, shrink)
			x, high = x+pw+photoGap, max(high, ph)
		}
		y += high + lineHeight + photoGap
	}
}

// place puts a photograph on the sheet, enlarged or, by the mean of its pixels, made
// smaller.
func place(out stddraw.Image, m image.Image, x0, y0, w, h, zoom, shrink int) {
	b := m.Bounds()
	for y := range h {
		for x := range w {
			var sum [3]uint32
			for dy := range shrink {
				for dx := range shrink {
					r, g, bl, _ := m.At(min(b.Min.X+x/zoom*shrink+dx, b.Max.X-1), min(b.Min.Y+y/zoom*shrink+dy, b.Max.Y-1)).RGBA()
					sum[0], sum[1], sum[2] = sum[0]+r>>8, sum[1]+g>>8, sum[2]+bl>>8
				}
			}
			n := uint32(shrink * shrink)
			out.Set(x0+x, y0+y, color.RGBA{uint8(sum[0] / n), uint8(sum[1] / n), uint8(sum[2] / n), 255})
		}
	}
}

// draw puts the table at (x, y).
func (t *Table) draw(p pen, x, y float64) {
	p.write(x, y, nameWidth+curveWidth, 9.5, black, false, t.Title)
	columns := [2]float64{x + nameWidth + curveWidth + 12, x + nameWidth + curveWidth + valueWidth + 18}
	for k, h := range t.Heads {
		p.write(columns[k], y, valueWidth, 8, grey, false, h)
	}
	y += lineHeight + 4
	for _, r := range t.Rows {
		p.write(x, y+2, nameWidth-8, 8.5, black, true, r.Name)
		if r.Values != nil {
			r.draw(p, x+nameWidth, y+2, curveWidth, rowHeight-4)
		}
		for k, s := range r.Texts {
			p.write(columns[k], y+2, valueWidth, 8.5, []color.Color{black, grey}[k], false, s)
		}
		y += rowHeight
	}
}

// draw puts the values into a box.
func (r *Row) draw(p pen, x, y, w, h float64) {
	share := func(v float64) float64 { // of the range, a little beyond it at most
		if !(r.Hi > r.Lo) {
			return 0.5
		}
		return min(max((v-r.Lo)/(r.Hi-r.Lo), -0.02), 1.02)
	}
	a, b := share(r.Band[0]), share(r.Band[1])
	p.box(x, y, w, h, track)
	if len(r.Values) == 1 {
		p.box(x+a*w, y, (b-a)*w, h, trackMid)
		if v := r.Values[0]; finite(v) {
			p.box(x+share(v)*w-1.5, y-1, 3, h+2, lineColours[0])
		}
		return
	}
	p.box(x, y+(1-b)*h, w, (b-a)*h, trackMid)
	var run []vg.Point
	flush := func() {
		if len(run) == 1 {
			c := run[0]
			run = []vg.Point{{X: c.X - px(1), Y: c.Y}, {X: c.X + px(1), Y: c.Y}}
		}
		if run != nil {
			p.line(run, 1.6, lineColours[0])
		}
		run = nil
	}
	for i, v := range r.Values {
		if !finite(v) {
			flush()
			continue
		}
		run = append(run, p.at(x+2+(w-4)*float64(i)/math.Max(float64(len(r.Values)-1), 1), y+(1-share(v))*h))
	}
	flush()
}

// WritePNG draws the sheet to a file.
func (s *Sheet) WritePNG(path string) error {
	m, err := s.Image()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writePNG(path, m)
}

func writePNG(path string, m image.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := png.Encode(f, m); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Close()
}
