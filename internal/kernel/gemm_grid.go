package kernel

// Tile sizes that cuts of a Gemm should be multiples of: those of the widest micro-kernel.
const (
	TileRows = 12
	TileCols = 32
)

// Grid cuts C into rows × cols parts of about equal work, one for each thread. Parts of one column pack the same panels of B, and parts
// of one row the same strips of A, so the cut that repeats least is chosen.
func (g *Gemm) Grid(threads int) (rows, cols int) {
	best := 0.0
	for c := threads; c >= 1; c-- { // more columns if it is all the same: they share no cache line
		if threads%c != 0 {
			continue
		}
		if t := g.partCost(threads/c, c); rows == 0 || t < best {
			rows, cols, best = threads/c, c, t
		}
	}
	return rows, cols
}

// partCost estimates the time of the largest part, in multiply-adds of a vector. Packing an element costs about as much as one where it
// comes from L3, and half of that where it is fetched in time; see docs/performance.md.
func (g *Gemm) partCost(rows, cols int) float64 {
	m := float64((g.M+TileRows*rows-1)/(TileRows*rows)) * TileRows
	n := float64((g.N+TileCols*cols-1)/(TileCols*cols)) * TileCols
	packA := 0.1
	if g.ARow == 1 {
		packA = 0.5
	}
	blocks := float64((int(n) + blockN - 1) / blockN)
	return (m*n/TileCols + n + packA*m*blocks) * float64(g.K)
}
