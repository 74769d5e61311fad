package kernel

import "testing"

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
