package kernel

import "testing"

func TestGridCutsWhereLeastIsPackedTwice(t *testing.T) {
	for _, c := range []struct {
		name          string
		g             Gemm
		threads, r, c int
	}{
		{"one thread", Gemm{M: 1576, N: 1536, K: 512, ACol: 1}, 1, 1, 1},
		{"forward: B is packed, A is not", Gemm{M: 1576, N: 1536, K: 512, ACol: 1}, 2, 1, 2},
		{"few rows", Gemm{M: 64, N: 512, K: 2048, ACol: 1}, 2, 1, 2},
		{"a narrow gradient of weights: A is packed again for each part", Gemm{M: 2048, N: 512, K: 1576, ARow: 1}, 2, 2, 1},
		{"a wide one", Gemm{M: 512, N: 2048, K: 1576, ARow: 1}, 2, 1, 2},
		{"one column", Gemm{M: 1576, N: 7, K: 512, ACol: 1}, 4, 4, 1},
		{"one row", Gemm{M: 8, N: 512, K: 512, ACol: 1}, 3, 1, 3},
		{"four threads", Gemm{M: 1576, N: 512, K: 512, ACol: 1}, 4, 1, 4},
		{"sixteen threads", Gemm{M: 1576, N: 512, K: 512, ACol: 1}, 16, 2, 8},
	} {
		if rows, cols := c.g.Grid(c.threads); rows != c.r || cols != c.c {
			t.Errorf("%s: %d threads get a grid of %d×%d, want %d×%d", c.name, c.threads, rows, cols, c.r, c.c)
		}
	}
}
