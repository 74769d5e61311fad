// Package tensor is the engine: parameters in one flat slab, a tape of coarse
// fused operations with hand-written backward passes, an optimizer, and the
// threads that run them.
//
// A tape is recorded once for a fixed batch shape and replayed for every
// micro-batch. A replay allocates nothing.
//
//	rt := tensor.NewRuntime(threads)
//	ps := tensor.NewParams()
//	w, b := ps.Add("w", 4, 3), ps.Add("b", 4)
//	ps.Seal()
//	t := tensor.NewTape(rt, ps)
//	x, want := t.Input(8, 3), t.Input(8, 4)
//	loss := t.MSE(t.Linear(x, w, b, tensor.None), want)
//	t.Seal()
//	ps.BindGrads(make([]float32, ps.Len()))
//	copy(x.Data, …); copy(want.Data, …)
//	t.Forward(); t.Backward(loss)
//
// # Shapes
//
// B batch, T tokens, D model width, H heads, N rows (all dimensions but the
// last, multiplied). Arrays are dense, row-major float32.
//
// # Bits
//
// Every result is a function of the inputs alone: not of the number of
// threads, nor of the CPU. Matrix products split over output tiles, row
// reductions over rows, column reductions over columns; never over the
// dimension that is summed.
//
// A mistake in shapes is a mistake of the program: it panics with *ShapeError.
package tensor
