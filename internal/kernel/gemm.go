package kernel

// Gemm describes C = start + A·B in float32, optionally followed by ReLU.
//
//	       N                      N
//	  ┌─────────┐            ┌─────────┐
//	K │    B    │     M, K   │         │
//	  └─────────┘   ┌─────┐  │         │
//	              M │  A  │  │    C    │ M
//	                └─────┘  └─────────┘
//
// A[i,k] = A[i·ARow + k·ACol], B[k,j] = B[k·BRow + j·BCol], C[i,j] = C[i·CRow + j]: so every operand may be a matrix, its
// transpose or a part of a larger one. The three products of training are
//
//	Y  = X·Wᵀ    A = X,   ACol 1        B = W, BRow 1
//	dX = dY·W    A = dY,  ACol 1        B = W, BCol 1
//	dW = dYᵀ·X   A = dY,  ARow 1        B = X, BCol 1
//
// Every element of C is one chain of fused multiply-adds, k from 0 to K-1, that begins at its old value (Acc), at Bias[j], or at 0:
//
//	c := start
//	for k := 0; k < K; k++ { c = fma32(A[i,k], B[k,j], c) }
//	if ReLU && c < 0 { c = 0 }
//
// Nothing else is specified, so no tiling, blocking or level can change a bit.
type Gemm struct {
	M, N, K    int
	A          []float32
	ARow, ACol int
	B          []float32
	BRow, BCol int
	C          []float32
	CRow       int
	Acc        bool      // chains begin at the old C; excludes Bias
	Bias       []float32 // [N]: chains begin at the bias; nil: at 0
	ReLU       bool      // negative results become 0; NaN stays NaN

	// Out, if not nil, is given tiles of C instead of memory at C, which is not used: row i of the tile begins at c[(i-m0)·row]. It may change them.
	// A product of bfloat16 alone has it, and it excludes Acc. Of each column the tiles come in the order of their rows. ws is that of Run: its Floats
	// are free.
	Out func(m0, m1, n0, n1 int, c []float32, row int, ws *Workspace)

	// Stream says that C is not read before the caches hold something else: it may be written past them.
	Stream bool

	// BF16 makes it a product of bfloat16: operands are rounded, and chains run in blocks. See tiles.go. Only then AWords or BWords may stand
	// for A or B: what is rounded already.
	BF16           bool
	AWords, BWords []uint16
	// BTiles, if not nil, is what PackB made of B: it is read in its place.
	BTiles []uint16

	// Then, if not nil, is called for tiles of C when they are final, in the thread that ran them, while they are still in its cache: for
	// what else is to be done to each element, such as GELU, a residual or dropout. Every element is in one tile. It must not
	// change what other tiles read.
	Then func(m0, m1, n0, n1 int)
}

// Run computes rows [m0,m1) and columns [n0,n1) of C. Runs of disjoint tiles may go on at once, each with its own workspace.
// It panics with a *ShapeError when an operand is too short for its strides.
func (g *Gemm) Run(m0, m1, n0, n1 int, ws *Workspace) {
	g.check(m0, m1, n0, n1)
	if m0 == m1 || n0 == n1 {
		return
	}
	if g.BF16 && g.K > 0 {
		g.runTiles(m0, m1, n0, n1, ws)
		return
	}
	if vec != nil && g.K > 0 {
		g.runVector(vec, m0, m1, n0, n1, ws)
		return
	}
	g.runGeneric(m0, m1, n0, n1)
	if g.Then != nil {
		g.Then(m0, m1, n0, n1)
	}
}

func (g *Gemm) check(m0, m1, n0, n1 int) {
	if m0 < 0 || m1 < m0 || m1 > g.M || n0 < 0 || n1 < n0 || n1 > g.N || g.K < 0 {
		panic(&ShapeError{Op: "gemm", Want: sprintf("a tile of %d×%d×%d", g.M, g.N, g.K), Got: sprintf("rows %d:%d, columns %d:%d", m0, m1, n0, n1)})
	}
	if g.M == 0 || g.N == 0 {
		return
	}
	if g.ARow < 0 || g.ACol < 0 || g.BRow < 0 || g.BCol < 0 || g.CRow < g.N && g.M > 1 && g.Out == nil {
		panic(&ShapeError{Op: "gemm", Want: "strides ≥ 0 and CRow ≥ N", Got: sprintf("A %d,%d B %d,%d C %d for N %d", g.ARow, g.ACol, g.BRow, g.BCol, g.CRow, g.N)})
	}
	if g.Out != nil && (!g.BF16 || g.Acc || g.Then != nil || g.K == 0) {
		panic(&ShapeError{Op: "gemm", Want: "BF16, K above 0 and neither Acc nor Then beside Out", Got: sprintf("BF16 %v, Acc %v, K %d", g.BF16, g.Acc, g.K)})
	}
	if n := (g.M-1)*g.CRow + g.N; g.Out == nil && len(g.C) < n {
		panic(&ShapeError{Op: "gemm", Want: sprintf("C of %d elements (%d×%d, stride %d)", n, g.M, g.N, g.CRow), Got: sprintf("%d", len(g.C))})
	}
	if g.Bias != nil && (g.Acc || len(g.Bias) < g.N) {
		panic(&ShapeError{Op: "gemm", Want: sprintf("a bias of %d elements and no accumulation", g.N), Got: sprintf("%d elements, Acc %v", len(g.Bias), g.Acc)})
	}
	if g.K == 0 {
		return
	}
	if g.BTiles != nil && (!g.BF16 || len(g.BTiles) != TileWords(g.N, g.K)) {
		panic(&ShapeError{Op: "gemm", Want: sprintf("BF16 and %d words of tiles of B", TileWords(g.N, g.K)), Got: sprintf("BF16 %v, %d", g.BF16, len(g.BTiles))})
	}
	if !g.BF16 && (g.AWords != nil || g.BWords != nil) {
		panic(&ShapeError{Op: "gemm", Want: "BF16 where operands are bfloat16", Got: "float32"})
	}
	if n, have := (g.M-1)*g.ARow+(g.K-1)*g.ACol+1, max(len(g.A), len(g.AWords)); have < n {
		panic(&ShapeError{Op: "gemm", Want: sprintf("A of %d elements (%d×%d, strides %d,%d)", n, g.M, g.K, g.ARow, g.ACol), Got: sprintf("%d", have)})
	}
	if n, have := (g.K-1)*g.BRow+(g.N-1)*g.BCol+1, max(len(g.B), len(g.BWords)); have < n {
		panic(&ShapeError{Op: "gemm", Want: sprintf("B of %d elements (%d×%d, strides %d,%d)", n, g.K, g.N, g.BRow, g.BCol), Got: sprintf("%d", have)})
	}
}

// start returns the value that the chain of C[i,j] begins at.
func (g *Gemm) start(i, j int) float32 {
	switch {
	case g.Acc:
		return g.C[i*g.CRow+j]
	case g.Bias != nil:
		return g.Bias[j]
	}
	return 0
}

func (g *Gemm) finish(i, j int, c float32) {
	if g.ReLU && c < 0 {
		c = 0
	}
	g.C[i*g.CRow+j] = c
}
