package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// gemmCase is a Gemm whose operands lie between guards, with gaps of NaN between their rows.
type gemmCase struct {
	Gemm
	a, b, c, bias *fence
}

// newGemm makes a case of m×n×k. Each operand is a matrix, its transpose, or a matrix with both strides above one.
func newGemm(t testing.TB, r *rand.Rand, m, n, k int, wild bool) *gemmCase {
	strides := func(rows, cols int) (row, col, need int) {
		gap := r.IntN(3) * r.IntN(20)
		switch r.IntN(5) {
		case 0, 1:
			row, col = max(cols, 1)+gap, 1
		case 2, 3:
			row, col = 1, max(rows, 1)+gap
		default:
			col = 2 + r.IntN(3)
			row = col*max(cols, 1) + gap
		}
		if rows > 0 && cols > 0 {
			need = (rows-1)*row + (cols-1)*col + 1
		}
		return row, col, need
	}
	g := &gemmCase{Gemm: Gemm{M: m, N: n, K: k, ReLU: r.IntN(3) == 0}}
	fill := func(f *fence, row, col, rows, cols int) {
		x := make([]float32, rows*cols)
		numbers(r, x, wild)
		for i := range rows {
			for j := range cols {
				f.x[i*row+j*col] = x[i*cols+j]
			}
		}
	}
	var need int
	g.ARow, g.ACol, need = strides(m, k)
	g.a = fenced(t, need)
	fill(g.a, g.ARow, g.ACol, m, k)
	g.BRow, g.BCol, need = strides(k, n)
	g.b = fenced(t, need)
	fill(g.b, g.BRow, g.BCol, k, n)
	g.CRow = n + r.IntN(2)*r.IntN(20)
	g.c = fenced(t, max(0, (m-1)*g.CRow+n))
	g.A, g.B, g.C = g.a.x, g.b.x, g.c.x
	switch r.IntN(3) {
	case 0:
		g.Acc = true
		fill(g.c, g.CRow, 1, m, n)
	case 1:
		g.bias = fenced(t, n)
		numbers(r, g.bias.x, wild)
		g.Bias = g.bias.x
	}
	return g
}

func (g *gemmCase) String() string {
	return fmt.Sprintf("%d×%d×%d, A strides %d,%d, B %d,%d, C %d, accumulate %v, bias %v, ReLU %v",
		g.M, g.N, g.K, g.ARow, g.ACol, g.BRow, g.BCol, g.CRow, g.Acc, g.Bias != nil, g.ReLU)
}

// defined is what the definition makes of the case: one chain per element.
func (g *gemmCase) defined() []float32 {
	twin := g.Gemm
	twin.C = slices.Clone(g.C)
	if !g.large() {
		for i := range g.M {
			for j := range g.N {
				twin.genericChain(i, j)
			}
		}
	} else {
		twin.runGeneric(0, g.M, 0, g.N)
	}
	return twin.C
}

// large says that the chains one by one would take too long: plain Go as a whole is the definition then, and is not held against itself.
func (g *gemmCase) large() bool { return g.M*g.N*g.K >= 1<<18 }

// check runs the cases at every level, one in so many in pieces (0: none), and compares each bit with the definition, which is computed
// once for all levels. Words that are no part of C must not change.
func check(t *testing.T, r *rand.Rand, ws *Workspace, pieces int, cases ...*gemmCase) {
	t.Helper()
	var want, before [][]float32
	for _, g := range cases {
		want, before = append(want, g.defined()), append(before, slices.Clone(g.C))
	}
	levels(t, func(t *testing.T) {
		for i, g := range cases {
			if g.large() && Active() == Generic {
				continue
			}
			copy(g.C, before[i])
			g.hold(t, r, ws, pieces > 0 && r.IntN(pieces) == 0, want[i])
		}
	})
}

// hold runs the case and compares it with what is wanted.
func (g *gemmCase) hold(t *testing.T, r *rand.Rand, ws *Workspace, pieces bool, want []float32) {
	t.Helper()
	if pieces {
		m, n := r.IntN(g.M+1), r.IntN(g.N+1)
		g.Run(m, g.M, 0, n, ws)
		g.Run(0, m, 0, n, ws)
		g.Run(0, g.M, n, g.N, ws)
	} else {
		g.Run(0, g.M, 0, g.N, ws)
	}
	if i := differAt(g.C, want); i >= 0 {
		t.Fatalf("%v: C[%d,%d] is %x, want %x", g, i/g.CRow, i%g.CRow, g.C[i], want[i])
	}
	for i := range g.M - 1 {
		for j := g.N; j < g.CRow; j++ {
			if math.Float32bits(g.C[i*g.CRow+j]) != math.Float32bits(canary) {
				t.Fatalf("%v: the gap behind row %d was written", g, i)
			}
		}
	}
	if !g.a.intact() || !g.b.intact() || !g.c.intact() {
		t.Fatalf("%v: words before an operand were written", g)
	}
}

// TestGemmTails takes every M and N of 1…40, each with some K, orientation and epilogue, at every level.
func TestGemmTails(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	ws := NewWorkspace()
	for m := 1; m <= 40; m++ {
		t.Run(fmt.Sprint(m), func(t *testing.T) { // so that its pages go back
			var cases []*gemmCase
			for n := 1; n <= 40; n++ {
				cases = append(cases, newGemm(t, r, m, n, 1+r.IntN(40), r.IntN(4) == 0))
			}
			check(t, r, ws, 4, cases...)
		})
	}
}

// TestGemmDepths takes every K of 0…40 with shapes of each micro-kernel.
func TestGemmDepths(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	ws := NewWorkspace()
	for k := 0; k <= 40; k++ {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			var cases []*gemmCase
			for _, m := range []int{1, 5, 6, 12, 13, 27} {
				cases = append(cases, newGemm(t, r, m, 1+r.IntN(70), k, r.IntN(4) == 0))
			}
			check(t, r, ws, 0, cases...)
		})
	}
}

// TestGemmBlocks crosses every blocking limit: depth, rows, columns, rows read in place or packed, rows that share a cache set.
func TestGemmBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	ws := NewWorkspace()
	shapes := [][3]int{{25, 33, 2*blockK + 5}, {247, 40, 21}, {directTile/64 + 1, 64, 9}, {7, blockN + 35, 30}, {directRows + 1, 70, 13}, {13, 70, setFloats}, {setFloats, 67, 5}}
	for _, s := range shapes {
		for range 3 {
			t.Run("", func(t *testing.T) {
				check(t, r, ws, 2, newGemm(t, r, s[0], s[1], s[2], false))
			})
		}
	}
	// Rows, and columns, exactly a cache set apart: the A that is packed.
	for range 2 {
		for _, transposed := range []bool{false, true} {
			g := newGemm(t, r, 40, 70, 24, false)
			if g.ARow, g.ACol = setFloats, 1; transposed {
				g.ARow, g.ACol = 1, setFloats
			}
			g.a = fenced(t, (40-1)*g.ARow+(24-1)*g.ACol+1)
			numbers(r, g.a.x, false)
			g.A = g.a.x
			check(t, r, ws, 0, g)
		}
	}
}

// TestGemmClose holds the products against gonum in float64.
func TestGemmClose(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 10))
		ws := NewWorkspace()
		for _, s := range [][3]int{{1, 1, 1}, {7, 33, 19}, {64, 48, 100}, {30, 50, 700}} {
			g := newGemm(t, r, s[0], s[1], s[2], false)
			a, b := mat.NewDense(g.M, g.K, nil), mat.NewDense(g.K, g.N, nil)
			for i := range g.M {
				for k := range g.K {
					a.Set(i, k, float64(g.A[i*g.ARow+k*g.ACol]))
				}
			}
			for k := range g.K {
				for j := range g.N {
					b.Set(k, j, float64(g.B[k*g.BRow+j*g.BCol]))
				}
			}
			var c mat.Dense
			c.Mul(a, b)
			for i := range g.M {
				for j := range g.N {
					c.Set(i, j, c.At(i, j)+float64(g.start(i, j)))
				}
			}
			g.Run(0, g.M, 0, g.N, ws)
			for i := range g.M {
				for j := range g.N {
					want := c.At(i, j)
					if g.ReLU {
						want = max(want, 0)
					}
					// A chain of K roundings: K/2 ulp of its largest partial sum, which is below 16·K; in practice √K of it.
					if got := float64(g.C[i*g.CRow+j]); math.Abs(got-want) > 1e-6*16*math.Sqrt(float64(g.K)) {
						t.Fatalf("%v: C[%d,%d] is %v, gonum says %v", g, i, j, got, want)
					}
				}
			}
		}
	})
}

// TestGemmChecks: an operand too short for its strides is found before anything is read.
func TestGemmChecks(t *testing.T) {
	ws := NewWorkspace()
	good := func() Gemm {
		return Gemm{M: 2, N: 3, K: 4, A: make([]float32, 8), ARow: 4, ACol: 1, B: make([]float32, 12), BRow: 3, BCol: 1, C: make([]float32, 6), CRow: 3}
	}
	for name, spoil := range map[string]func(g *Gemm){
		"A":        func(g *Gemm) { g.A = g.A[:7] },
		"B":        func(g *Gemm) { g.B = g.B[:11] },
		"C":        func(g *Gemm) { g.C = g.C[:5] },
		"CRow":     func(g *Gemm) { g.CRow = 2 },
		"stride":   func(g *Gemm) { g.ARow = -1 },
		"bias":     func(g *Gemm) { g.Bias = make([]float32, 2) },
		"bias+acc": func(g *Gemm) { g.Bias = make([]float32, 3); g.Acc = true },
		"K":        func(g *Gemm) { g.K = -1 },
		"rows":     func(g *Gemm) { g.M = 1 },
	} {
		func() {
			defer func() {
				if _, ok := recover().(*ShapeError); !ok {
					t.Errorf("%s: want a *ShapeError", name)
				}
			}()
			g := good()
			spoil(&g)
			g.Run(0, 2, 0, 3, ws)
		}()
	}
	g := good()
	g.Run(0, 2, 0, 3, ws)
	g.Run(1, 1, 0, 3, ws)
	(&Gemm{}).Run(0, 0, 0, 0, ws)
}

func BenchmarkGenericGemm(b *testing.B) {
	n := 128
	g := Gemm{M: n, N: n, K: n, A: AlignedFloats(n * n), ARow: n, ACol: 1, B: AlignedFloats(n * n), BRow: n, BCol: 1, C: AlignedFloats(n * n), CRow: n}
	for i := range g.A {
		g.A[i] = float32(i%37) * .31
		g.B[i] = float32(i%51)*.17 - 3
	}
	for b.Loop() {
		g.runGeneric(0, n, 0, n)
	}
	b.ReportMetric(2*float64(n*n*n)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
}
