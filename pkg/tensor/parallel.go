package tensor

import "github.com/vlaring/vlaring/pkg/tensor/internal/kernel"

// cut returns the i-th of n nearly equal parts of total, in multiples of unit.
func cut(i, n, total, unit int) (lo, hi int) {
	units := (total + unit - 1) / unit
	return min(i*units/n*unit, total), min((i+1)*units/n*unit, total)
}

// product is a matrix product cut into tiles for the threads: along the longer
// side of C, so that both operands are packed little more than once.
type product struct {
	g     kernel.Gemm
	tiles int
	rows  bool
}

// Units of a cut: the tile of the widest micro-kernel, 12 × 32.
const (
	tileRows = 12
	tileCols = 32
)

func (p *product) Tile(i int, ws *kernel.Workspace) {
	if p.rows {
		lo, hi := cut(i, p.tiles, p.g.M, tileRows)
		p.g.Run(lo, hi, 0, p.g.N, ws)
		return
	}
	lo, hi := cut(i, p.tiles, p.g.N, tileCols)
	p.g.Run(0, p.g.M, lo, hi, ws)
}

// run computes the product.
func (p *product) run(rt *Runtime) {
	p.tiles, p.rows = rt.threads, p.g.M >= p.g.N
	rt.Run(p, p.tiles)
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
