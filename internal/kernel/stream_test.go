package kernel

import (
	"math/rand/v2"
	"testing"
)

// TestCopyRows checks that rows are copied, and nothing beside them is touched, wherever they begin.
func TestCopyRows(t *testing.T) {
	const rows, dstRow, srcRow = 5, 96, 80
	levels(t, func(t *testing.T) {
		for _, at := range []int{0, 1, 16, 17} {
			for _, cols := range []int{0, 1, 15, 16, 48, 64, 79} {
				src, dst := AlignedFloats(rows*srcRow), AlignedFloats(rows*dstRow+32)
				for i := range src {
					src[i] = float32(i + 1)
				}
				FetchFloats(src[3 : 3+cols])
				CopyRows(dst[at:], dstRow, src[1:], srcRow, rows, cols, true)
				for i, got := range dst {
					want := float32(0)
					if r, c := (i-at)/dstRow, (i-at)%dstRow; i >= at && r < rows && c < cols {
						want = src[1+r*srcRow+c]
					}
					if got != want {
						t.Fatalf("%d columns from %d on: element %d is %g, want %g", cols, at, i, got, want)
					}
				}
			}
		}
	})
}

// TestStream checks that a product written past the caches has the same bits, whatever else is asked of it, and only its own elements.
func TestStream(t *testing.T) {
	r := rand.New(rand.NewPCG(47, 48))
	ws := NewWorkspace()
	const m, n, k, row = 300, 300, 70, 320
	a, b, bias := AlignedFloats(m*k), AlignedFloats(n*k), AlignedFloats(n)
	for _, x := range [][]float32{a, b, bias} {
		for i := range x {
			x[i] = r.Float32() - 0.5
		}
	}
	levels(t, func(t *testing.T) {
		for _, c := range []struct {
			name string
			set  func(g *Gemm)
		}{
			{"alone", func(*Gemm) {}},
			{"bias and ReLU", func(g *Gemm) { g.Bias, g.ReLU = bias, true }},
			{"added", func(g *Gemm) { g.Acc = true }},
			{"then", func(g *Gemm) {
				g.Then = func(m0, m1, n0, n1 int) {
					for i := m0; i < m1; i++ {
						for j := n0; j < n1; j++ {
							g.C[i*row+j] *= 2
						}
					}
				}
			}},
		} {
			var got [2][]float32
			for i, stream := range []bool{false, true} {
				g := &Gemm{M: m, N: n, K: k, A: a, ARow: k, ACol: 1, B: b, BRow: 1, BCol: k, C: AlignedFloats(m * row), CRow: row, BF16: true, Stream: stream}
				for j := range g.C {
					g.C[j] = float32(j % 7)
				}
				c.set(g)
				g.Run(0, m, 0, 64, ws)
				g.Run(0, 96, 64, n, ws)
				g.Run(96, m, 64, n, ws)
				got[i] = g.C
			}
			for i, want := range got[0] {
				if !sameBits(got[1][i], want) {
					t.Fatalf("%s: element %d is %x, want %x", c.name, i, got[1][i], want)
				}
			}
		}
	})
}

// BenchmarkCopyRows writes 100 MiB.
func BenchmarkCopyRows(b *testing.B) {
	const rows, cols = 100 << 10, 256
	dst, src := AlignedFloats(rows*cols), AlignedFloats(cols)
	for _, past := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "past the caches"}[past], func(b *testing.B) {
			b.SetBytes(4 * rows * cols)
			for b.Loop() {
				CopyRows(dst, cols, src, 0, rows, cols, past)
			}
		})
	}
}
