package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// lay makes both operands of a case dense, each as it is or transposed: the layouts that training uses.
func (g *gemmCase) lay(t *testing.T, r *rand.Rand, aT, bT bool) {
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
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(21, 22))
		ws := NewWorkspace()
		for _, s := range shapes {
			for o := range 4 {
				t.Run(fmt.Sprint(s, o), func(t *testing.T) {
					g := newGemm(t, r, s[0], s[1], s[2], false)
					g.lay(t, r, o&1 != 0, o&2 != 0)
					g.check(t, r, ws, r.IntN(3) == 0)
				})
			}
		}
	})
}
