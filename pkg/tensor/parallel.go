package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// cut returns the i-th of n nearly equal parts of total, in multiples of unit.
func cut(i, n, total, unit int) (lo, hi int) {
	units := (total + unit - 1) / unit
	return min(i*units/n*unit, total), min((i+1)*units/n*unit, total)
}

// product is a matrix product cut into tiles for the threads, one each, in
// the grid that packs least twice.
type product struct {
	g          kernel.Gemm
	whole      bool // every tile has all rows: their order matters to Out
	rows, cols int  // tiles
}

func (p *product) Tile(i int, ws *kernel.Workspace) {
	if i >= p.rows*p.cols { // of a together
		return
	}
	m0, m1 := cut(i/p.cols, p.rows, p.g.M, kernel.TileRows)
	n0, n1 := cut(i%p.cols, p.cols, p.g.N, kernel.TileCols)
	p.g.Run(m0, m1, n0, n1, ws)
}

// run computes the product.
func (p *product) run(rt *Runtime) {
	p.prepare(rt)
	rt.Run(p, p.rows*p.cols)
}

func (p *product) prepare(rt *Runtime) {
	if p.whole {
		p.rows, p.cols = 1, rt.threads
		return
	}
	p.rows, p.cols = p.g.Grid(rt.threads)
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
	r.prepare(rt)
	rt.Run(r, r.tiles)
}

func (r *rowTask) prepare(rt *Runtime) { r.tiles = rt.threads }

// columnTask runs f on parts of n columns, in units of a cache line, or of unit.
type columnTask struct {
	n, unit int
	tiles   int
	f       func(lo, hi int, ws *kernel.Workspace)
}

func (c *columnTask) Tile(i int, ws *kernel.Workspace) {
	if lo, hi := cut(i, c.tiles, c.n, max(slabAlign, c.unit)); lo < hi {
		c.f(lo, hi, ws)
	}
}

func (c *columnTask) run(rt *Runtime) {
	c.prepare(rt)
	rt.Run(c, c.tiles)
}

func (c *columnTask) prepare(rt *Runtime) { c.tiles = rt.threads }

// together is tasks that do not wait for one another, run as one, with one
// barrier at the end. Each has a tile for every thread.
type together struct{ tasks []part }

type part interface {
	Task
	prepare(*Runtime)
}

func (g *together) Tile(i int, ws *kernel.Workspace) {
	for _, t := range g.tasks {
		t.Tile(i, ws)
	}
}

// run runs tasks; it keeps the list, so that a replay allocates nothing.
func (g *together) run(rt *Runtime, tasks ...part) {
	g.tasks = append(g.tasks[:0], tasks...)
	for _, t := range g.tasks {
		t.prepare(rt)
	}
	rt.Run(g, rt.threads)
}

// columnSums adds the rows of x [rows, cols], in order, to dst [cols], or
// begins it with them.
func columnSums(dst, x []float32, rows, cols, lo, hi int, accumulate bool) {
	if !accumulate {
		clear(dst[lo:hi])
	}
	kernel.AddRows(dst[lo:hi], x[lo:], rows, cols)
}

// MatMul computes one product on all threads, cut as the operations of a tape
// cut theirs. Its argument's type is internal: it is there for package measure.
func (r *Runtime) MatMul(g *kernel.Gemm) {
	p := product{g: *g}
	p.run(r)
}
