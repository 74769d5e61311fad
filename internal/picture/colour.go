package picture

import (
	"image"
	"image/color"
	"math"

	"gonum.org/v1/plot"
)

var black = color.Gray{}

// Colours is a run of colours from the least value to the greatest.
type Colours []color.RGBA

// Colour runs.
var (
	// RedBlue is ColorBrewer's RdYlBu, the reference text's: red, yellow, blue.
	RedBlue = Colours{
		{165, 0, 38, 255}, {215, 48, 39, 255}, {244, 109, 67, 255}, {253, 174, 97, 255}, {254, 224, 144, 255}, {255, 255, 191, 255},
		{224, 243, 248, 255}, {171, 217, 233, 255}, {116, 173, 209, 255}, {69, 117, 180, 255}, {49, 54, 149, 255}}
	// Heat is matplotlib's magma at nine places: as bright as the value is great,
	// so that it also reads in grey.
	Heat = Colours{
		{0, 0, 4, 255}, {28, 16, 68, 255}, {79, 18, 123, 255}, {129, 37, 129, 255}, {181, 54, 122, 255}, {229, 80, 100, 255},
		{251, 135, 97, 255}, {254, 194, 135, 255}, {252, 253, 191, 255}}
)

// at is the colour of x in [0, 1]: linear between the run's colours.
func (c Colours) at(x float64) color.RGBA {
	x = min(max(x, 0), 1) * float64(len(c)-1)
	i := min(int(x), len(c)-2)
	f := x - float64(i)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-f) + float64(b)*f)) }
	a, b := c[i], c[i+1]
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}

// At is the colour of a value. One that is not a number is grey.
func (s Scale) at(v float64) color.Color {
	if math.IsNaN(v) {
		return color.Gray{128}
	}
	if !(s.Max > s.Min) {
		return s.Colours.at(0.5)
	}
	return s.Colours.at((v - s.Min) / (s.Max - s.Min))
}

// shades is how many colours a bar shows.
const shades = 256

func (s Scale) plot() *plot.Plot {
	p := titled("", "", s.Label)
	if !(s.Max > s.Min) {
		s.Max = s.Min + 1
	}
	m := image.NewRGBA(image.Rect(0, 0, 1, shades))
	for i := range shades {
		m.SetRGBA(0, i, s.Colours.at(1-float64(i)/(shades-1)))
	}
	p.Add(&cells{m})
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, s.Min, s.Max
	p.HideX()
	return p
}
