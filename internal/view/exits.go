package view

import (
	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/pkg/eval"
)

// PlotExits draws accuracy against latency to a PNG file.
func PlotExits(path string, r eval.ExitReport, title string) error {
	y := "mean squared error"
	if r.Tokens {
		y = "share of tokens named wrong"
	}
	line := func(name string, rows []eval.ExitRow) (l picture.Line) {
		l.Name = name
		for _, row := range rows {
			l.X, l.Y = append(l.X, row.Millis), append(l.Y, row.Error)
		}
		return l
	}
	lines := []picture.Line{line("a fixed exit", r.Fixed)}
	if len(r.Thresholds) > 0 {
		lines = append(lines, line("a threshold of doubt", r.Thresholds))
	}
	page := picture.Page{Panels: [][]picture.Panel{{&picture.Lines{Title: title, X: "milliseconds a sample", Y: y, Lines: lines}}}, Width: 640, Height: 420}
	return page.WritePNG(path)
}
