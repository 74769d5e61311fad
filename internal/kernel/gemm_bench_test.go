package kernel

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// gemmShapes are the products of the models: T tokens of B samples (8 × 197, 8 × 8, 8 × 9; small: 32 × 17), d 512 or 128, attention heads
// of 64 or 32; ViT-S/16's (vits), d 384; and the squares that libraries are compared by.
var gemmShapes = []struct {
	name    string
	m, n, k int
	orient  string
}{
	{"square512", 512, 512, 512, "XW"},
	{"square1024", 1024, 1024, 1024, "XW"},
	{"square1024", 1024, 1024, 1024, "XWt"},
	{"square1024", 1024, 1024, 1024, "XtW"},
	{"square2048", 2048, 2048, 2048, "XW"},
	{"vit/qkv", 1576, 1536, 512, "XWt"},
	{"vit/qkv/dX", 1576, 512, 1536, "XW"},
	{"vit/qkv/dW", 1536, 512, 1576, "XtW"},
	{"vit/ff1", 1576, 2048, 512, "XWt"},
	{"vit/ff1/dX", 1576, 512, 2048, "XW"},
	{"vit/ff1/dW", 2048, 512, 1576, "XtW"},
	{"vit/ff2", 1576, 512, 2048, "XWt"},
	{"vit/ff2/dX", 1576, 2048, 512, "XW"},
	{"vit/ff2/dW", 512, 2048, 1576, "XtW"},
	{"vit/out", 1576, 512, 512, "XWt"},
	{"patch", 1568, 512, 768, "XWt"},
	{"vits/qkv", 1576, 1152, 384, "XWt"},
	{"vits/out", 1576, 384, 384, "XWt"},
	{"vits/ff1", 1576, 1536, 384, "XWt"},
	{"vits/ff2", 1576, 384, 1536, "XWt"},
	{"text/qkv", 64, 1536, 512, "XWt"},
	{"text/ff1", 64, 2048, 512, "XWt"},
	{"text/ff2", 64, 512, 2048, "XWt"},
	{"text/ff2/dX", 64, 2048, 512, "XW"},
	{"text/ff1/dW", 2048, 512, 64, "XtW"},
	{"head", 8, 512, 512, "XWt"},
	{"head/dW", 512, 512, 8, "XtW"},
	{"head7", 8, 7, 512, "XWt"},
	{"att/QK", 197, 197, 64, "XWt"},
	{"att/PV", 197, 64, 197, "XW"},
	{"att/dV", 197, 64, 197, "XtW"},
	{"att9/QK", 9, 9, 64, "XWt"},
	{"att9/PV", 9, 64, 9, "XW"},
	{"small/qkv", 544, 384, 128, "XWt"},
	{"small/ff1", 544, 512, 128, "XWt"},
	{"small/ff1/dW", 512, 128, 544, "XtW"},
	{"small/ff2", 544, 128, 512, "XWt"},
	{"small/ff2/dX", 544, 512, 128, "XW"},
	{"small/att/QK", 17, 17, 32, "XWt"},
	{"small/att/PV", 17, 32, 17, "XW"},
}

func benchGemm(m, n, k int, orient string) *Gemm {
	g := &Gemm{M: m, N: n, K: k, A: AlignedFloats(m * k), ARow: k, ACol: 1, B: AlignedFloats(k * n), BRow: n, BCol: 1, C: AlignedFloats(m * n), CRow: n}
	switch orient {
	case "XWt":
		g.BRow, g.BCol = 1, k
	case "XtW":
		g.ARow, g.ACol = 1, m
	}
	for i := range g.A {
		g.A[i] = float32(i%37)*0.31 - 5
	}
	for i := range g.B {
		g.B[i] = float32(i%51)*0.17 - 3
	}
	return g
}

// BenchmarkGemm prints for each shape the median of its runs, and of its shares of the FMA peak measured beside each run: other
// load and the clock move both alike.
func BenchmarkGemm(b *testing.B) {
	ws := NewWorkspace()
	for _, s := range gemmShapes {
		b.Run(fmt.Sprintf("%s/%s/%dx%dx%d", s.name, s.orient, s.m, s.n, s.k), func(b *testing.B) {
			g := benchGemm(s.m, s.n, s.k, s.orient)
			flops := 2 * float64(s.m) * float64(s.n) * float64(s.k)
			inner := max(1, int(1e8/flops)) // the clock is too coarse for the small ones
			var rates, shares []float64
			g.Run(0, s.m, 0, s.n, ws)
			for b.Loop() {
				peak := PeakFlops(2)
				t := time.Now()
				for range inner {
					g.Run(0, s.m, 0, s.n, ws)
				}
				rate := flops * float64(inner) / time.Since(t).Seconds()
				rates, shares = append(rates, rate), append(shares, rate/max(peak, PeakFlops(2)))
			}
			slices.Sort(rates)
			slices.Sort(shares)
			b.ReportMetric(rates[len(rates)/2]/1e9, "GFLOP/s")
			b.ReportMetric(100*shares[len(shares)/2], "%peak")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func BenchmarkPeak(b *testing.B) {
	best := 0.0
	for b.Loop() {
		best = max(best, PeakFlops(1))
	}
	b.ReportMetric(best/1e9, "GFLOP/s")
}

// BenchmarkTiles is BenchmarkGemm of products of bfloat16, packing included, without the peak.
func BenchmarkTiles(b *testing.B) {
	ws := NewWorkspace()
	for _, s := range gemmShapes {
		b.Run(fmt.Sprintf("%s/%s/%dx%dx%d", s.name, s.orient, s.m, s.n, s.k), func(b *testing.B) {
			g := benchGemm(s.m, s.n, s.k, s.orient)
			g.BF16 = true
			flops := 2 * float64(s.m) * float64(s.n) * float64(s.k)
			inner := max(1, int(3e8/flops))
			var rates []float64
			g.Run(0, s.m, 0, s.n, ws)
			for b.Loop() {
				t := time.Now()
				for range inner {
					g.Run(0, s.m, 0, s.n, ws)
				}
				rates = append(rates, flops*float64(inner)/time.Since(t).Seconds())
			}
			slices.Sort(rates)
			b.ReportMetric(rates[len(rates)*3/4]/1e9, "GFLOP/s")
			b.ReportMetric(rates[len(rates)-1]/1e9, "best")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkTilesOfAStep runs the products of a block of ViT-S/16 one after another, for 8 samples, as a step in bfloat16 has them: what products alone read
// is rounded already, what they alone are to read goes out rounded, and gradients of weights are written past the caches.
func BenchmarkTilesOfAStep(b *testing.B) {
	const rows = 8 * 197
	var products []*Gemm
	var flops float64
	add := func(m, n, k int, orient string, a, bb, out bool) {
		g := benchGemm(m, n, k, orient)
		g.BF16, g.Stream = true, orient == "XtW"
		if a {
			g.AWords = make([]uint16, m*k)
			RoundBF16(g.AWords, g.A)
		}
		if bb {
			g.BWords = make([]uint16, k*n)
			RoundBF16(g.BWords, g.B)
		}
		if out {
			words := make([]uint16, m*n)
			g.Out = func(m0, m1, n0, n1 int, c []float32, row int, _ *Workspace) {
				RoundRows(words[m0*n+n0:], n, c, row, m1-m0, n1-n0)
			}
		}
		products = append(products, g)
		flops += 2 * float64(m) * float64(n) * float64(k)
	}
	for _, l := range []struct {
		out, in      int
		rounded      bool // the result
		next, before bool // the gradient of the result comes rounded, that of the input goes so
	}{{1152, 384, true, false, false}, {384, 384, false, false, false}, {1536, 384, true, true, false}, {384, 1536, false, false, true}} {
		add(rows, l.out, l.in, "XWt", true, false, l.rounded)
		add(rows, l.in, l.out, "XW", l.next, false, l.before)
		add(l.out, l.in, rows, "XtW", l.next, true, false)
	}
	ws := NewWorkspace()
	for b.Loop() {
		for _, g := range products {
			g.Run(0, g.M, 0, g.N, ws)
		}
	}
	b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
