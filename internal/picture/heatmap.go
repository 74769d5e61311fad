package picture

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Heatmap shows a matrix as coloured cells, row 0 on top, column 0 on the left.
type Heatmap struct {
	Title, X, Y string
	Rows, Cols  int
	Values      []float32 // [Rows, Cols]
	Scale       Scale     // its colours; Min = Max: the range of Values, nil Colours: Heat
	XTicks      []string  // a name for each column; nil: numbers
	YTicks      []string  // a name for each row; nil: numbers
	Upwards     bool      // row 0 at the bottom instead
}

// Range is the least and the greatest of values, NaNs apart.
func Range(values []float32) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if x := float64(v); x == x {
			lo, hi = min(lo, x), max(hi, x)
		}
	}
	if lo > hi {
		return 0, 0
	}
	return lo, hi
}

func (h *Heatmap) scale() Scale {
	s := h.Scale
	if s.Min == s.Max {
		s.Min, s.Max = Range(h.Values)
	}
	if s.Colours == nil {
		s.Colours = Heat
	}
	return s
}

func (h *Heatmap) plot() (*plot.Plot, error) {
	if h.Rows < 1 || h.Cols < 1 || len(h.Values) != h.Rows*h.Cols {
		return nil, fmt.Errorf("heat map %q: %d values for %d×%d", h.Title, len(h.Values), h.Rows, h.Cols)
	}
	s := h.scale()
	m := image.NewRGBA(image.Rect(0, 0, h.Cols, h.Rows))
	for i, v := range h.Values {
		y := i / h.Cols
		if h.Upwards {
			y = h.Rows - 1 - y
		}
		m.Set(i%h.Cols, y, s.at(float64(v)))
	}
	p := titled(h.Title, h.X, h.Y)
	p.Add(&cells{m})
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, float64(h.Cols), 0, float64(h.Rows)
	p.X.Tick.Marker = cellTicks{h.Cols, h.XTicks, false}
	p.Y.Tick.Marker = cellTicks{h.Rows, h.YTicks, !h.Upwards}
	if long(h.XTicks) {
		p.X.Tick.Label.Rotation = math.Pi / 2
		p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YCenter
	}
	return p, nil
}

func long(names []string) bool {
	for _, n := range names {
		if len(n) > 2 {
			return true
		}
	}
	return false
}

func titled(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.TextStyle.Font = sans(10)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Padding = 0
		a.Label.TextStyle.Font = sans(9)
		a.Tick.Label.Font = sans(8)
	}
	return p
}

// cells draws an image over the whole of the axes with a sharp edge to each
// pixel, however large it comes out.
type cells struct{ m image.Image }

func (c *cells) Plot(dc draw.Canvas, p *plot.Plot) {
	b := c.m.Bounds()
	tx, ty := p.Transforms(&dc)
	for y := range b.Dy() {
		for x := 0; x < b.Dx(); {
			to := x + 1 // a run of one colour is one rectangle, without seams
			for to < b.Dx() && c.m.At(b.Min.X+to, b.Min.Y+y) == c.m.At(b.Min.X+x, b.Min.Y+y) {
				to++
			}
			scale := func(x float64) float64 { return p.X.Min + x/float64(b.Dx())*(p.X.Max-p.X.Min) }
			row := func(y float64) float64 { return p.Y.Max - y/float64(b.Dy())*(p.Y.Max-p.Y.Min) }
			// Snapped to whole pixels: between two cells no background shines through.
			dc.SetColor(c.m.At(b.Min.X+x, b.Min.Y+y))
			dc.Fill(rectangle(snap(tx(scale(float64(x)))), snap(ty(row(float64(y+1)))), snap(tx(scale(float64(to)))), snap(ty(row(float64(y))))))
			x = to
		}
	}
}

func snap(l vg.Length) vg.Length {
	return vg.Length(math.Round(float64(l/vg.Inch*dpi))) * vg.Inch / dpi
}

func rectangle(x0, y0, x1, y1 vg.Length) vg.Path {
	var p vg.Path
	p.Move(vg.Point{X: x0, Y: y0})
	p.Line(vg.Point{X: x1, Y: y0})
	p.Line(vg.Point{X: x1, Y: y1})
	p.Line(vg.Point{X: x0, Y: y1})
	p.Close()
	return p
}

// mostNames is how many cells of an axis can carry their names.
const mostNames = 24

// cellTicks labels cells at their middles: all of them where there is room,
// else every 2nd, 5th, 10th and so on.
type cellTicks struct {
	n     int
	names []string
	down  bool // the first cell is at the greatest value
}

func (c cellTicks) Ticks(_, _ float64) []plot.Tick {
	step := 1
	for _, k := range []int{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000} {
		step = k
		if (c.n+k-1)/k <= mostNames/2 || c.names != nil && c.n <= mostNames {
			break
		}
	}
	var t []plot.Tick
	for i := 0; i < c.n; i += step {
		at := float64(i) + 0.5
		if c.down {
			at = float64(c.n) - at
		}
		label := strconv.Itoa(i)
		if i < len(c.names) {
			label = c.names[i]
		}
		t = append(t, plot.Tick{Value: at, Label: label})
	}
	return t
}

// Overlay shows a photograph with a map of cells laid over it: the photograph
// in grey where the map is least, glowing in the map's colours where it is great.
type Overlay struct {
	Title      string
	Photo      image.Image
	Rows, Cols int
	Values     []float32 // [Rows, Cols]; nil: the photograph alone
	Scale      Scale     // Min = Max: the range of Values, nil Colours: Heat
}

// strength is how much of the picture the greatest value covers.
const strength = 0.75

func (o *Overlay) plot() (*plot.Plot, error) {
	b := o.Photo.Bounds()
	if b.Empty() || o.Values != nil && (o.Rows < 1 || o.Cols < 1 || len(o.Values) != o.Rows*o.Cols) {
		return nil, fmt.Errorf("overlay %q: %d values for %d×%d over a picture of %v", o.Title, len(o.Values), o.Rows, o.Cols, b)
	}
	p := titled(o.Title, "", "")
	img := plotter.NewImage(o.Blend(), 0, 0, float64(b.Dx()), float64(b.Dy()))
	p.Add(img)
	p.HideAxes()
	return p, nil
}

// Blend is the picture without title.
func (o *Overlay) Blend() *image.RGBA {
	const least = 192 // small photographs are enlarged, so that cells keep sharp edges
	b := o.Photo.Bounds()
	zoom := max(1, (least+b.Dx()-1)/b.Dx())
	out := image.NewRGBA(image.Rect(0, 0, zoom*b.Dx(), zoom*b.Dy()))
	h := Heatmap{Values: o.Values, Scale: o.Scale}
	s := h.scale()
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			r, g, bl, _ := o.Photo.At(b.Min.X+x/zoom, b.Min.Y+y/zoom).RGBA()
			px := [3]float64{float64(r >> 8), float64(g >> 8), float64(bl >> 8)}
			if o.Values != nil {
				v := float64(o.Values[y*o.Rows/out.Rect.Dy()*o.Cols+x*o.Cols/out.Rect.Dx()])
				w := 0.0
				if s.Max > s.Min {
					w = min(max((v-s.Min)/(s.Max-s.Min), 0), 1)
				}
				grey := 0.299*px[0] + 0.587*px[1] + 0.114*px[2]
				hot := s.Colours.at(w)
				over := [3]float64{float64(hot.R), float64(hot.G), float64(hot.B)}
				for i := range px {
					px[i] = (1-strength*w)*(0.6*grey+0.4*px[i])*(0.5+0.5*w) + strength*w*over[i]
				}
			}
			out.SetRGBA(x, y, color.RGBA{uint8(px[0] + 0.5), uint8(px[1] + 0.5), uint8(px[2] + 0.5), 255})
		}
	}
	return out
}
