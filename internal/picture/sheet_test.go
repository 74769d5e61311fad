package picture

import (
	"bytes"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func plainPhoto(w, h int, c color.RGBA) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.SetRGBA(i%w, i/w, c)
	}
	return m
}

// boxOf is the smallest rectangle that has all pixels of exactly the colour c.
func boxOf(m image.Image, c color.RGBA) (r image.Rectangle) {
	b := m.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if color.RGBAModel.Convert(m.At(x, y)) == c {
				r = r.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	return r
}

// A sheet has each photograph whole, small ones enlarged and large ones made smaller,
// marks at their shares of the range, and the same bytes again. However long its texts
// are, none leaves its place: the sheet without them differs from it nowhere else.
func TestSheet(t *testing.T) {
	red, green, blue := color.RGBA{250, 1, 2, 255}, color.RGBA{3, 240, 4, 255}, color.RGBA{5, 6, 230, 255}
	long := strings.Repeat("observation.images.ünd so weiter ", 20)
	sheet := func(text string) *Sheet {
		return &Sheet{Title: text, Notes: []string{text}, Cards: []Card{{
			Title: text, Text: text,
			Photos: [][]Photo{{{text, plainPhoto(10, 5, red)}, {text, plainPhoto(900, 400, green)}}, {{text, plainPhoto(64, 64, blue)}}},
			Tables: []Table{{Title: text, Heads: [2]string{text, text}, Rows: []Row{
				{Name: text, Values: []float64{3}, Lo: 1, Hi: 5, Band: [2]float64{2, 4}, Texts: [2]string{text, text}},
				{Name: text, Values: []float64{1, math.NaN(), 5}, Lo: 1, Hi: 5, Band: [2]float64{2, 4}},
				{Name: text, Values: []float64{7}, Lo: 7, Hi: 7, Band: [2]float64{7, 7}},
				{Name: text},
			}}},
		}}}
	}
	s := sheet("short")
	dir := t.TempDir()
	path := filepath.Join(dir, "a.png")
	if err := s.WritePNG(path); err != nil {
		t.Fatal(err)
	}
	m := open(t, path)
	if w, h := s.Size(); m.Bounds().Dx() != w || m.Bounds().Dy() != h {
		t.Errorf("%v, want %d×%d", m.Bounds(), w, h)
	}
	for _, c := range []struct {
		of   color.RGBA
		w, h int
	}{{red, 190, 95}, {green, 300, 133}, {blue, 192, 192}} {
		if b := boxOf(m, c.of); b.Dx() != c.w || b.Dy() != c.h || count(m, m.Bounds(), c.of) != c.w*c.h {
			t.Errorf("a photograph is shown at %v with %d pixels, want %d×%d", b, count(m, m.Bounds(), c.of), c.w, c.h)
		}
	}
	mid := boxOf(m, trackMid)
	if share := float64(mid.Dx()) / curveWidth; share < 0.95 || share > 1.05 { // of the second row, whose band is a strip
		t.Errorf("bands are %v wide", mid)
	}
	again := filepath.Join(dir, "b.png")
	if err := sheet("short").WritePNG(again); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(path)
	if b, _ := os.ReadFile(again); !bytes.Equal(a, b) {
		t.Error("the same sheet has other bytes")
	}

	full, err := sheet(long).Image()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []color.RGBA{red, green, blue} { // no text over a photograph
		if n, want := count(full, full.Bounds(), c), count(m, m.Bounds(), c); n != want {
			t.Errorf("long texts leave %d of %d pixels of a photograph", n, want)
		}
	}
	// Nor over a bar: the track is as much seen as before, but for edges that fall between two pixels.
	if n, want := count(full, full.Bounds(), track), count(m, m.Bounds(), track); n < want*97/100 {
		t.Errorf("long texts leave %d of %d pixels of the bars", n, want)
	}
	if _, err := (&Sheet{}).Image(); err == nil {
		t.Error("a sheet without a card is drawn")
	}
}

// What does not fit ends in an ellipsis, and is never cut within a letter.
func TestFitted(t *testing.T) {
	atMost := func(n int) func(string) bool {
		return func(s string) bool { return utf8.RuneCountInString(s) <= n }
	}
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{{"grüße", 5, "grüße"}, {"grüße", 4, "grü…"}, {"grüße", 1, "…"}, {"", 0, ""}, {"x", 0, "…"}} {
		if got := fitted(c.s, atMost(c.n)); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.s, c.n, got, c.want)
		}
	}
}

// A long note goes on in the next lines, with all of its words.
func TestNotesAreWrapped(t *testing.T) {
	s := &Sheet{}
	note := strings.Repeat("word ", 200) + "end"
	lines := s.wrapped([]string{"short", note, strings.Repeat("x", 2000)}, 800)
	if len(lines) < 5 || lines[0] != "short" || strings.Join(strings.Fields(strings.Join(lines[1:len(lines)-1], " ")), " ") != note {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	fits := fitting(noteStyle(grey), 800-2*sheetMargin)
	for _, l := range lines[:len(lines)-1] {
		if !fits(l) {
			t.Errorf("too long: %q", l)
		}
	}
}
