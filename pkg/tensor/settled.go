package tensor

import (
	"sync"

	"github.com/vlaring/vlaring/internal/kernel"
)

// weightTiles is rows [first, first+rows) of a linear layer's weight as products of
// bfloat16 want them, laid out by the first product that asks.
type weightTiles struct {
	first, rows int
	once        sync.Once
	words       []uint16
}

// tilesOf is the one of w's rows, of which all settled tapes make use.
func (s *Params) tilesOf(w *Param, first, rows int) *weightTiles {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range w.tiles {
		if t.first == first && t.rows == rows {
			return t
		}
	}
	t := &weightTiles{first: first, rows: rows}
	w.tiles = append(w.tiles, t)
	return t
}

// of returns the tiles of B of g, whose B the rows are.
func (w *weightTiles) of(rt *Runtime, g *kernel.Gemm) []uint16 {
	w.once.Do(func() {
		w.words = make([]uint16, kernel.TileWords(g.N, g.K))
		pack := columnTask{n: g.N, unit: kernel.TileCols, f: func(lo, hi int, ws *kernel.Workspace) { g.PackB(w.words, lo, hi, ws) }}
		pack.run(rt)
	})
	return w.words
}
