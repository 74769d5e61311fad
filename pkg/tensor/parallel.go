package tensor

import "github.com/vlaring/vlaring/pkg/tensor/internal/kernel"

// cut returns the i-th of n nearly equal parts of total, in multiples of unit.
func cut(i, n, total, unit int) (lo, hi int) {
	units := (total + unit - 1) / unit
	return min(i*units/n*unit, total), min((i+1)*units/n*unit, total)
}

// product is a matrix product cut into tiles for the threads, one each, in
// the grid that packs least twice.
type product struct {
	g          kernel.Gemm
	rows, cols int // tiles
}

func (p *product) Tile(i int, ws *kernel.Workspace) {
	m0, m1 := cut(i/p.cols, p.rows, p.g.M, kernel.TileRows)
	n0, n1 := cut(i%p.cols, p.cols, p.g.N, kernel.TileCols)
	p.g.Run(m0, m1, n0, n1, ws)
}

// run computes the product.
func (p *product) run(rt *Runtime) {
	p.rows, p.cols = p.g.Grid(rt.threads)
	rt.Run(p, p.rows*p.cols)
}

// rowTask runs f on parts of n rows; f is made once, when its operation is recorded.
type rowTask struct {
	n     int
	tiles int
	f     func(lo, hi int, ws *kernel.Workspace)
}

func (r *rowTask) Tile(i int, ws *kernel.Workspace) {
	if lo, hi := cut(i, r.tiles, r.n, 1); lo < hi {
		r.f(lo, hi, ws)
	}
}

func (r *rowTask) run(rt *Runtime) {
	r.tiles = rt.threads
	rt.Run(r, r.tiles)
}

// columnTask runs f on parts of n columns, in units of a cache line.
type columnTask struct {
	n     int
	tiles int
	f     func(lo, hi int, ws *kernel.Workspace)
}

func (c *columnTask) Tile(i int, ws *kernel.Workspace) {
	if lo, hi := cut(i, c.tiles, c.n, slabAlign); lo < hi {
		c.f(lo, hi, ws)
	}
}

func (c *columnTask) run(rt *Runtime) {
	c.tiles = rt.threads
	rt.Run(c, c.tiles)
}

// columnSums adds the rows of x [rows, cols], in order, to dst [cols], or
// begins it with them.
func columnSums(dst, x []float32, rows, cols, lo, hi int, accumulate bool) {
	if !accumulate {
		clear(dst[lo:hi])
	}
	kernel.AddRows(dst[lo:hi], x[lo:], rows, cols)
}
