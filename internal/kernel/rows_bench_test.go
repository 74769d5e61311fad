package kernel

import (
	"fmt"
	"math/rand/v2"
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
		{"Norm/8x512", 4096, 12, func(n int) { Norm(x[:n], y[:n], z[:n], w[:512], w[:512], w[1024:1032], 1e-5) }},
		{"NormBackward/8x512", 4096, 12, func(n int) { NormBackward(x[:n], y[:n], z[:n], w[:512], w[1024:1032]) }},
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
			perElement(b, c.n, func() { c.f(c.n) })
		})
	}
}

// BenchmarkRowsInCache times kernels whose time is arithmetic, on rows that stay in the first cache: softmaxes of sixteen rows of scores, each
// beginning on a cache line, to another place, as attention takes them; activations of 1536 features.
func BenchmarkRowsInCache(b *testing.B) {
	const rows = 16
	r := rand.New(rand.NewPCG(1, 2))
	buf := func(n int, size float64) []float32 {
		x := AlignedFloats(n)
		for i := range x {
			x[i] = float32(r.NormFloat64() * size)
		}
		return x
	}
	for _, n := range []int{17, 50, 197} {
		stride := (n + 15) &^ 15
		x, y, p, dp := buf(rows*stride, 16), buf(rows*stride, 1), buf(rows*stride, 1), buf(rows*stride, 1)
		var max, sum [rows]float32
		over := func(f func(i int, dst, x, p, dp []float32)) func() {
			return func() {
				for i := range rows {
					at := i * stride
					f(i, y[at:at+n], x[at:at+n], p[at:at+n], dp[at:at+n])
				}
			}
		}
		over(func(i int, _, x, p, _ []float32) { max[i], sum[i] = softmaxTo(p, x, 0.125) })()
		for _, c := range []struct {
			name string
			f    func()
		}{
			{"SoftmaxTo", over(func(_ int, dst, x, _, _ []float32) { softmaxTo(dst, x, 0.125) })},
			{"SoftmaxRowsTo", func() { SoftmaxRowsTo(y, x, rows, n, stride, 0.125, max[:], sum[:]) }},
			{"SoftmaxAgainTo", over(func(i int, dst, x, _, _ []float32) { SoftmaxAgainTo(dst, x, 0.125, max[i], sum[i]) })},
			{"SoftmaxBackTo", over(func(_ int, dst, _, p, dp []float32) { SoftmaxBackTo(dst, p, dp, 0.125) })},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) { perElement(b, rows*n, c.f) })
		}
	}
	for _, n := range []int{64, 384, 512} { // the norms of four rows and of one
		x, y, h, gamma, beta := buf(4*n, 1), buf(4*n, 1), buf(4*n, 1), buf(n, 1), buf(n, 1)
		var rstd [4]float32
		for _, rows := range []int{4, 1} {
			b.Run(fmt.Sprintf("Norm/%dx%d", rows, n), func(b *testing.B) {
				perElement(b, rows*n, func() { Norm(y, h, x, gamma, beta, rstd[:rows], 1e-5) })
			})
			b.Run(fmt.Sprintf("NormBackward/%dx%d", rows, n), func(b *testing.B) {
				perElement(b, rows*n, func() { NormBackward(y, x, h, gamma, rstd[:rows]) })
			})
			b.Run(fmt.Sprintf("RMS/%dx%d", rows, n), func(b *testing.B) {
				perElement(b, rows*n, func() { RMS(y, x, gamma, rstd[:rows], 1e-5) })
			})
			b.Run(fmt.Sprintf("RMSBackward/%dx%d", rows, n), func(b *testing.B) {
				perElement(b, rows*n, func() { RMSBackward(y, x, h, gamma, rstd[:rows], beta) })
			})
		}
	}
	const n = 1536
	x, y, w := buf(n, 1), buf(n, 1), AlignedFloats(n)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"ErfGELU", func() { ErfGELU(y, x) }},
		{"ErfGELUBackward", func() { ErfGELUBackward(w, x) }},
		{"GELU", func() { GELU(y, x) }},
		{"GELUBackward", func() { GELUBackward(w, x) }},
		{"Swish", func() { Swish(y, x, 1) }},
		{"SwishBackward", func() { SwishBackward(w, x, 1) }},
		{"Exp", func() { ExpSlice(y, x) }},
		{"Tanh", func() { TanhSlice(y, x) }},
		{"Divide", func() { Divide(y, x, 3) }},
	} {
		b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) { perElement(b, n, c.f) })
	}
}

// perElement times f, which works on n elements.
func perElement(b *testing.B, n int, f func()) {
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
}
