package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// trainingGemm makes a case of m×n×k whose operands are dense, each as it is or transposed: the layouts that training uses.
func trainingGemm(t *testing.T, r *rand.Rand, m, n, k int, aT, bT bool) *gemmCase {
	g := newGemm(t, r, m, n, 0, false) // C and what begins it
	g.K = k
	dense := func(rows, cols int, transposed bool) (f *fence, row, col int) {
		f = fenced(t, rows*cols)
		numbers(r, f.x, false)
		if transposed {
			return f, 1, rows
		}
		return f, cols, 1
	}
	g.a, g.ARow, g.ACol = dense(g.M, g.K, aT)
	g.b, g.BRow, g.BCol = dense(g.K, g.N, bT)
	g.A, g.B = g.a.x, g.b.x
	return g
}

// TestGemmWays takes each way to feed the micro-kernels over its edges, in the orientations of training: packed with A in place, in
// strips and in groups; direct with shallow blocks; turned.
func TestGemmWays(t *testing.T) {
	shapes := [][3]int{
		{300, 290, 460},                             // groups: a last group of one strip, two blocks of depth
		{12 * groupStrips * 2, groupColumns, 4},     // whole groups, parts of one step
		{directRows + 1, 70, setFloats},             // strips
		{directRows + 2, blockN + 33, 20},           // in place
		{40, 2048, 150},                             // direct, rows of B that share L2 sets
		{64, 4*turnedRows + 1, 700}, {9, 130, 1030}, // turned
		{13, 120, 96}, {13, 120, 96}, {13, 120, 96}, // with each beginning, by chance
	}
	r := rand.New(rand.NewPCG(21, 22))
	ws := NewWorkspace()
	for _, s := range shapes {
		for o := range 4 {
			if testing.Short() && s[0]*s[1]*s[2] > 1<<23 && o%3 != 0 { // an emulated CPU takes the large ones in two orientations
				continue
			}
			t.Run(fmt.Sprint(s, o), func(t *testing.T) {
				check(t, r, ws, 3, trainingGemm(t, r, s[0], s[1], s[2], o&1 != 0, o&2 != 0))
			})
		}
	}
}

// TestGemmThen checks that each element is handed on once, and not before it is final.
func TestGemmThen(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	ws := NewWorkspace()
	large := [3]int{300, 560, 620}
	if testing.Short() { // an emulated CPU: still groups, and two blocks of depth
		large[1] = 70
	}
	for _, s := range [][3]int{large, {300, 70, 9}, {20, 90, 600}, {9, 130, 1030}, {5, 3, 0}} {
		for _, bT := range []bool{false, true} {
			g := trainingGemm(t, r, s[0], s[1], s[2], false, bT)
			want, before := g.defined(), slices.Clone(g.C)
			g.Then = func(m0, m1, n0, n1 int) {
				for i := m0; i < m1; i++ {
					for j := n0; j < n1; j++ {
						g.C[i*g.CRow+j] = -2*g.C[i*g.CRow+j] + 1 // once and on the final value, or it shows
					}
				}
			}
			for i := range g.M {
				for j := range g.N {
					want[i*g.CRow+j] = -2*want[i*g.CRow+j] + 1
				}
			}
			levels(t, func(t *testing.T) {
				if g.large() && Active() == Generic {
					return
				}
				copy(g.C, before)
				g.Run(0, g.M, 0, g.N/2, ws)
				g.Run(0, g.M, g.N/2, g.N, ws)
				if i := differAt(g.C, want); i >= 0 {
					t.Fatalf("%v: C[%d,%d] is %x, want %x", g, i/g.CRow, i%g.CRow, g.C[i], want[i])
				}
			})
		}
	}
}
