package picture

import (
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Line is one curve. A point that is not finite is left out.
type Line struct {
	Name   string
	X, Y   []float64
	Spread []float64 // half the height of an error bar at each point; nil: none
}

// Lines shows curves over common axes.
type Lines struct {
	Title, X, Y string
	Lines       []Line
	LogX, LogY  bool
	Zero        bool // the y axis begins at 0
}

// lineColours are Okabe and Ito's, which people of every colour vision tell apart.
var lineColours = []color.RGBA{
	{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}, {0, 0, 0, 255}}

func (l *Lines) plot() (*plot.Plot, error) {
	p := titled(l.Title, l.X, l.Y)
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font = sans(9)
	var xs []float64
	for i, line := range l.Lines {
		if len(line.X) != len(line.Y) || line.Spread != nil && len(line.Spread) != len(line.Y) {
			return nil, fmt.Errorf("curve %q: %d x, %d y and %d spreads", line.Name, len(line.X), len(line.Y), len(line.Spread))
		}
		var pts errorPoints
		for j, x := range line.X {
			y := line.Y[j]
			if !finite(x) || !finite(y) || l.LogX && x <= 0 || l.LogY && y <= 0 {
				continue
			}
			pts.XYs = append(pts.XYs, plotter.XY{X: x, Y: y})
			xs = append(xs, x)
			if line.Spread != nil {
				pts.YErrors = append(pts.YErrors, struct{ Low, High float64 }{line.Spread[j], line.Spread[j]})
			}
		}
		if len(pts.XYs) == 0 {
			continue
		}
		colour := lineColours[i%len(lineColours)]
		curve, points, err := plotter.NewLinePoints(pts.XYs)
		if err != nil {
			return nil, fmt.Errorf("curve %q: %w", line.Name, err)
		}
		curve.Color, points.Color = colour, colour
		curve.Width = vg.Points(1.5)
		points.Shape, points.Radius = draw.CircleGlyph{}, vg.Points(2.5)
		p.Add(curve, points)
		if pts.YErrors != nil {
			bars, err := plotter.NewYErrorBars(pts)
			if err != nil {
				return nil, fmt.Errorf("curve %q: %w", line.Name, err)
			}
			bars.Color = colour
			p.Add(bars)
		}
		p.Legend.Add(line.Name, curve, points)
	}
	if len(xs) == 0 {
		return nil, fmt.Errorf("plot %q has no point", l.Title)
	}
	if l.Zero && !l.LogY {
		p.Y.Min = 0
	}
	if p.Y.Max == p.Y.Min {
		p.Y.Max++
	}
	if l.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, pointTicks(xs)
	}
	if l.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
	}
	if room := p.Y.Max - p.Y.Min; !l.LogY { // for the legend
		p.Y.Max += 0.05 * room * float64(1+len(l.Lines))
	} else {
		p.Y.Max *= math.Pow(p.Y.Max/p.Y.Min, 0.05*float64(1+len(l.Lines)))
	}
	return p, nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

type errorPoints struct {
	plotter.XYs
	plotter.YErrors
}

// decades labels a logarithmic axis at powers of ten, at most eight of them.
type decades struct{}

func (decades) Ticks(lo, hi float64) (out []plot.Tick) {
	first, last := int(math.Floor(math.Log10(lo))), int(math.Ceil(math.Log10(hi)))
	step := max(1, (last-first+7)/8)
	for e := first; e <= last; e++ {
		label := ""
		if (e-first)%step == 0 {
			label = "1e" + strconv.Itoa(e)
			if e >= -3 && e <= 5 {
				label = strconv.FormatFloat(math.Pow10(e), 'f', -1, 64)
			}
		}
		out = append(out, plot.Tick{Value: math.Pow10(e), Label: label})
	}
	return out
}

// pointTicks labels a logarithmic axis at the points themselves, of which
// measured curves have few.
type pointTicks []float64

func (t pointTicks) Ticks(_, _ float64) []plot.Tick {
	seen := map[float64]bool{}
	var out []plot.Tick
	for _, x := range t {
		if !seen[x] {
			seen[x] = true
			out = append(out, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'g', 4, 64)})
		}
	}
	return out
}
