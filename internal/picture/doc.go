// Package picture draws what the commands have to show: heat maps, maps laid
// over a photograph, and curves, alone or in a grid, as PNG.
//
//	page := picture.Page{Title: "…", Panels: [][]picture.Panel{{
//		&picture.Heatmap{Title: "head 0", X: "key", Y: "query", Rows: 4, Cols: 4, Values: w},
//	}}}
//	err := page.WritePNG("maps.png")
//
// A page is laid out so:
//
//	┌───────────────────────────────┐
//	│             title             │
//	├─────────┬─────────┬─────────┬─┤
//	│ panel   │ panel   │ panel   │ │  every panel of Width × Height pixels
//	├─────────┼─────────┼─────────┤ │  the colour bar stands on the right,
//	│ panel   │ panel   │ (none)  │ │  where Bar is set
//	└─────────┴─────────┴─────────┴─┘
//
// The same input gives the same bytes: fonts are compiled in, and nothing here
// reads a clock or the environment.
package picture
