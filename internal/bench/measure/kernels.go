package measure

import (
	"time"

	"github.com/vlaring/vlaring/internal/kernel"
	"github.com/vlaring/vlaring/internal/philox"
)

// KernelTime is how fast one kernel was on its own.
type KernelTime struct {
	Time
	Name  string
	Shape []int   // rows and their length, or the length of a slab
	Bytes float64 // read and written by a run, each once
}

// Kernels times the row kernels on the default model's activations for a batch
// of 8 (rows of 197 scores, 512 features, 2048 hidden features), and the flat
// ones on slabs of parameters floats. part, from above 0 to 1, is the share of
// the rows that is taken; each is told of a kernel when it is done.
func (b *Bench) Kernels(parameters int, part float64, budget time.Duration, each func(KernelTime)) {
	rows := func(name string, n, width, floats int, f func(m [][]float32, lo, hi int)) {
		n = max(1, int(float64(n)*part))
		m := b.slabs(n*width, n*width, n*width, width, width, n)
		t := times(budget, func() {
			run(b.rt, n, func(_, lo, hi int, _ *kernel.Workspace) { f(m, lo, hi) })
		}, nil)
		each(KernelTime{t, name, []int{n, width}, 4 * float64(floats) * float64(n*width)})
	}
	row := func(name string, n, width, floats int, f func(x, y, z, v, w []float32)) {
		rows(name, n, width, floats, func(m [][]float32, lo, hi int) {
			for i := lo * width; i < hi*width; i += width {
				f(m[0][i:i+width], m[1][i:i+width], m[2][i:i+width], m[3], m[4])
			}
		})
	}
	const scores, tokens = 8 * 8 * 197, 8 * 197
	d, s := kernel.NewDrop(0.1), philox.Stream{Seed: 1, Purpose: philox.Dropout}
	row("softmax", scores, 197, 2, func(x, _, _, _, _ []float32) { kernel.SoftmaxRow(x, 0.125) })
	// What a kernel writes over its operand is copied first: done to its own result again and again, it would end in subnormals.
	row("softmax backward", scores, 197, 3, func(x, y, z, _, _ []float32) { copy(z, y); kernel.SoftmaxBack(x, z, 0.125) })
	rows("layer norm", tokens, 512, 3, func(m [][]float32, lo, hi int) {
		kernel.Norm(m[0][512*lo:], m[1][512*lo:], m[2][512*lo:], m[3], m[4], m[5][lo:hi], 1e-5)
	})
	rows("layer norm backward", tokens, 512, 3, func(m [][]float32, lo, hi int) {
		kernel.NormBackward(m[0][512*lo:], m[1][512*lo:], m[2][512*lo:], m[3], m[5][lo:hi])
	})
	row("GELU", tokens, 2048, 2, func(x, y, _, _, _ []float32) { kernel.GELU(x, y) })
	row("GELU backward", tokens, 2048, 3, func(x, y, z, _, _ []float32) { copy(z, x); kernel.GELUBackward(z, y) })
	row("exp", tokens, 2048, 2, func(x, y, _, _, _ []float32) { kernel.ExpSlice(x, y) })
	row("tanh", tokens, 2048, 2, func(x, y, _, _, _ []float32) { kernel.TanhSlice(x, y) })
	row("dropout", tokens, 512, 2, func(x, y, _, _, _ []float32) { d.Apply(x, y, s, 0) })
	row("dropout and residual", tokens, 512, 3, func(x, y, z, _, _ []float32) { d.Add(x, y, z, s, 0) })
	row("sum", tokens, 2048, 1, func(x, _, _, _, _ []float32) { kernel.Sum(x) })
	row("maximum", tokens, 2048, 1, func(x, _, _, _, _ []float32) { kernel.Max(x) })
	row("dot", tokens, 2048, 2, func(x, y, _, _, _ []float32) { kernel.Dot(x, y) })

	// Sums over rows are split by columns: a thread has some of each row.
	columns := func(name string, n, width, floats int, f func(m [][]float32, n, lo, hi, width int)) {
		n = max(1, int(float64(n)*part))
		m := b.slabs(n*width, n*width, width, width)
		t := times(budget, func() {
			run(b.rt, width/16, func(_, lo, hi int, _ *kernel.Workspace) { f(m, n, 16*lo, 16*hi, width) })
		}, nil)
		each(KernelTime{t, name, []int{n, width}, 4 * float64(floats) * float64(n*width)})
	}
	columns("bias gradient", tokens, 512, 1, func(m [][]float32, n, lo, hi, w int) { kernel.AddRows(m[2][lo:hi], m[0][lo:], n, w) })
	columns("layer norm's gradients", tokens, 512, 2, func(m [][]float32, n, lo, hi, w int) {
		kernel.NormRows(m[2][lo:hi], m[3][lo:hi], m[0][lo:], m[1][lo:], n, w)
	})
	columns("ReLU backward and bias gradient", tokens, 2048, 3, func(m [][]float32, n, lo, hi, w int) {
		kernel.ReLURows(m[2][lo:hi], m[0][lo:], m[1][lo:], n, w, 1)
	})

	parameters = (parameters + 15) / 16 * 16
	flat := func(name string, floats float64, f func(m [][]float32, lo, hi int)) {
		m := b.slabs(parameters, parameters, parameters, parameters)
		clear(m[3]) // second moments are not negative
		t := times(budget, func() {
			run(b.rt, parameters/16, func(_, lo, hi int, _ *kernel.Workspace) { f(m, 16*lo, 16*hi) })
		}, nil)
		each(KernelTime{t, name, []int{parameters}, 4 * floats * float64(parameters)})
	}
	a := kernel.AdamArgs{GradScale: 1, Decay: 0.999, Beta1: 0.9, Beta2: 0.99, Rest1: 0.1, Rest2: 0.01, StepSize: 1e-3, RootBias2: 0.3, Eps: 1e-8}
	half := make([]uint16, parameters)
	flat("AdamW", 7, func(m [][]float32, lo, hi int) {
		kernel.Adam(m[0][lo:hi], m[1][lo:hi], m[2][lo:hi], m[3][lo:hi], &a)
	})
	flat("squares of the norm", 1, func(m [][]float32, lo, hi int) { kernel.SumSquares(m[0][lo:hi]) })
	flat("search for NaN", 1, func(m [][]float32, lo, hi int) { kernel.Finite(m[0][lo:hi]) })
	flat("fold of gradients", 3, func(m [][]float32, lo, hi int) { kernel.Accumulate(m[0][lo:hi], m[1][lo:hi]) })
	flat("division by M", 2, func(m [][]float32, lo, hi int) { kernel.Divide(m[0][lo:hi], m[0][lo:hi], 1.0000001) })
	flat("to bfloat16", 1.5, func(m [][]float32, lo, hi int) { kernel.NarrowBF16(half[lo:hi], m[0][lo:hi]) })
	flat("from bfloat16", 1.5, func(m [][]float32, lo, hi int) { kernel.WidenBF16(m[0][lo:hi], half[lo:hi]) })
}
