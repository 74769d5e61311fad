package kernel

import (
	"testing"

	"github.com/vlaring/vlaring/internal/philox"
)

// BenchmarkRows times row kernels on the models' sizes: rows of 197 scores, 512 features, 2048 hidden features, and slabs.
func BenchmarkRows(b *testing.B) {
	buf := func(n int) []float32 {
		x := AlignedFloats(n)
		for i := range x {
			x[i] = float32(i%61)*0.03 - 1
		}
		return x
	}
	a := AdamArgs{GradScale: 1, Decay: 0.999, Beta1: 0.9, Beta2: 0.99, Rest1: 0.1, Rest2: 0.01, StepSize: 1e-3, RootBias2: 0.3, Eps: 1e-8}
	x, y, z, w := buf(1<<22), buf(1<<22), buf(1<<22), buf(1<<22)
	clear(w)
	d, s := NewDrop(0.1), philox.Stream{Seed: 1, Purpose: philox.Dropout}
	for _, c := range []struct {
		name  string
		n     int
		bytes int // moved per element
		f     func(n int)
	}{
		{"SoftmaxRow/197", 197, 8, func(n int) { SoftmaxRow(x[:n], 0.125) }},
		{"SoftmaxAgain/197", 197, 8, func(n int) { SoftmaxAgain(y[:n], 0.125, 3, 7) }},
		{"SoftmaxBack/197", 197, 12, func(n int) { SoftmaxBack(x[:n], z[:n], 0.125) }},
		{"NormRow/512", 512, 12, func(n int) { NormRow(x[:n], y[:n], y[:n], z[:n], z[:n], 1e-5) }},
		{"NormRowBackward/512", 512, 12, func(n int) { NormRowBackward(x[:n], y[:n], z[:n], w[:n], 1) }},
		{"GELU/2048", 2048, 8, func(n int) { GELU(x[:n], y[:n]) }},
		{"GELUBackward/2048", 2048, 8, func(n int) { GELUBackward(w[:n], y[:n]) }},
		{"Drop/2048", 2048, 8, func(n int) { d.Apply(x[:n], y[:n], s, 0) }},
		{"Sum/2048", 2048, 4, func(n int) { Sum(x[:n]) }},
		{"ReLURows/8x2048", 16384, 12, func(n int) { ReLURows(w[:2048], x[:n], y[:n], 8, 2048, 1) }},
		{"Add/4Mi", 1 << 22, 12, func(n int) { Add(w[:n], x[:n], y[:n]) }},
		{"SumSquares/4Mi", 1 << 22, 4, func(n int) { SumSquares(x[:n]) }},
		{"Adam/4Mi", 1 << 22, 28, func(n int) { Adam(x[:n], y[:n], z[:n], w[:n], &a) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(c.n * c.bytes))
			for b.Loop() {
				c.f(c.n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.n), "ns/element")
		})
	}
}
