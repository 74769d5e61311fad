package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, path string) image.Image {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// count is how many pixels of m have exactly the colour c.
func count(m image.Image, r image.Rectangle, c color.RGBA) (n int) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if got := color.RGBAModel.Convert(m.At(x, y)); got == c {
				n++
			}
		}
	}
	return n
}

// A written page has its size, its panels at their places, each cell in the
// colour of its value, row 0 on top; and the same page is the same bytes.
func TestHeatmapPixels(t *testing.T) {
	s := Scale{Label: "v", Min: 0, Max: 1, Colours: Heat}
	page := Page{Title: "two maps", Width: 200, Height: 150, Bar: &s, Panels: [][]Panel{
		{&Heatmap{Title: "a", X: "x", Y: "y", Rows: 2, Cols: 2, Values: []float32{1, 0, 0, 0}, Scale: s}, nil},
		{nil, &Heatmap{Rows: 2, Cols: 2, Values: []float32{0, 0, 0, 1}, Scale: s}},
	}}
	dir := t.TempDir()
	one, two := filepath.Join(dir, "1.png"), filepath.Join(dir, "2.png")
	for _, p := range []string{one, two} {
		if err := page.WritePNG(p); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := os.ReadFile(one)
	b, _ := os.ReadFile(two)
	if !bytes.Equal(a, b) {
		t.Error("the same page gave two files")
	}
	m := open(t, one)
	w, h := page.Size()
	if got := m.Bounds(); got.Dx() != w || got.Dy() != h || w != 2*200+2*margin+barWidth || h != 2*150+2*margin+titleHeight {
		t.Fatalf("the picture is %v, the page %d×%d", got, w, h)
	}
	high, low := Heat[len(Heat)-1], Heat[0]
	// The cell that is 1 lies in the upper left of panel (0, 0) and in the lower right of panel (1, 1).
	mid := image.Pt(margin+200, margin+titleHeight+150)
	first, second := image.Rect(margin, margin+titleHeight, mid.X, mid.Y), image.Rect(mid.X, mid.Y, mid.X+200, mid.Y+150)
	n, m2 := count(m, first, high), count(m, second, high)
	if n < 1000 || m2 < 1000 || count(m, first, low) < 2*n || count(m, second, low) < 2*m2 {
		t.Errorf("cells of value 1 cover %d and %d pixels, those of 0 %d and %d", n, m2, count(m, first, low), count(m, second, low))
	}
	centre := func(r image.Rectangle) image.Point { // of the pixels of value 1
		x, y, k := 0, 0, 0
		for j := r.Min.Y; j < r.Max.Y; j++ {
			for i := r.Min.X; i < r.Max.X; i++ {
				if color.RGBAModel.Convert(m.At(i, j)) == high {
					x, y, k = x+i-r.Min.X, y+j-r.Min.Y, k+1
				}
			}
		}
		return image.Pt(x/k, y/k)
	}
	if c := centre(first); c.X > 120 || c.Y > 75 {
		t.Errorf("value [0,0] is drawn around %v of its panel", c)
	}
	if c := centre(second); c.X < 100 || c.Y < 75 {
		t.Errorf("value [1,1] is drawn around %v of its panel", c)
	}
	for _, r := range []image.Rectangle{image.Rect(mid.X, first.Min.Y, mid.X+200, mid.Y), image.Rect(margin, mid.Y, mid.X, mid.Y+150)} {
		if got := count(m, r, color.RGBA{255, 255, 255, 255}); got != r.Dx()*r.Dy() {
			t.Errorf("a place without a panel has %d pixels that are not white", r.Dx()*r.Dy()-got)
		}
	}
	if bar := image.Rect(w-barWidth, 0, w, h); count(m, bar, high) == 0 || count(m, bar, low) == 0 {
		t.Error("the colour bar lacks its ends")
	}
}

// Where the map is least the photograph stays (in grey, dimmed), where it is
// greatest the map's colour covers most of it.
func TestOverlay(t *testing.T) {
	photo := image.NewRGBA(image.Rect(0, 0, 64, 64))
	for i := range photo.Pix {
		photo.Pix[i] = 255
	}
	o := &Overlay{Photo: photo, Rows: 2, Cols: 2, Values: []float32{0, 0, 0, 1}}
	m := o.Blend()
	if m.Rect.Dx() != 192 || m.Rect.Dy() != 192 {
		t.Fatalf("a photograph of 64 pixels came out as %v", m.Rect)
	}
	if c := m.RGBAAt(10, 10); c != (color.RGBA{128, 128, 128, 255}) { // white, halved
		t.Errorf("where the map is least: %v", c)
	}
	top := Heat[len(Heat)-1]
	if c := m.RGBAAt(180, 180); c.R < top.R-2 || int(c.B) != int(0.25*255+0.75*float64(top.B)+0.5) {
		t.Errorf("where the map is greatest: %v, its colour is %v", c, top)
	}
	if m.RGBAAt(95, 180) != m.RGBAAt(10, 10) || m.RGBAAt(96, 96) != m.RGBAAt(180, 180) {
		t.Error("cells have no sharp edges")
	}
	plain := (&Overlay{Photo: photo}).Blend()
	if c := plain.RGBAAt(5, 5); c != (color.RGBA{255, 255, 255, 255}) {
		t.Errorf("the photograph alone: %v", c)
	}
}

func TestLines(t *testing.T) {
	nan := func() float64 { z := 0.0; return z / z }()
	page := Page{Width: 300, Panels: [][]Panel{{
		&Lines{Title: "t", LogX: true, LogY: true, Lines: []Line{{Name: "a", X: []float64{1, 10, 0}, Y: []float64{1, 100, 5}}, {Name: "empty"}}},
		&Lines{Zero: true, Lines: []Line{{Name: "b", X: []float64{1, 2, 3}, Y: []float64{5, nan, 5}, Spread: []float64{1, 1, 1}}}},
	}}}
	m, err := page.Image()
	if err != nil {
		t.Fatal(err)
	}
	half := m.Bounds().Dx() / 2
	for i, r := range []image.Rectangle{image.Rect(0, 0, half, m.Bounds().Dy()), image.Rect(half, 0, m.Bounds().Dx(), m.Bounds().Dy())} {
		if count(m, r, lineColours[0]) < 50 {
			t.Errorf("panel %d has no curve", i)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		page Page
		want string
	}{
		"nothing":       {Page{}, "at least one row"},
		"too large":     {Page{Width: 20000, Panels: [][]Panel{{nil}}}, "16384"},
		"wrong size":    {Page{Panels: [][]Panel{{&Heatmap{Title: "h", Rows: 2, Cols: 2, Values: []float32{1}}}}}, "1 values for 2×2"},
		"no points":     {Page{Panels: [][]Panel{{&Lines{Title: "l"}}}}, "no point"},
		"uneven curve":  {Page{Panels: [][]Panel{{&Lines{Lines: []Line{{Name: "c", X: []float64{1}}}}}}}, `"c"`},
		"wrong overlay": {Page{Panels: [][]Panel{{&Overlay{Title: "o", Photo: image.NewGray(image.Rect(0, 0, 2, 2)), Rows: 1, Cols: 1, Values: []float32{}}}}}, "0 values for 1×1"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.page.Image(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
	if err := (Page{Panels: [][]Panel{{nil}}}).WritePNG(filepath.Join(t.TempDir(), "no", "where.png")); err == nil || !strings.Contains(err.Error(), "where.png") {
		t.Errorf("a directory that is not there: %v", err)
	}
}
