package tensor

import (
	"errors"
	"math"
	"testing"
)

// A loss is a sum and a count, and Backward the gradient of the sum over a
// constant: two halves of a batch, summed and divided once, are the whole.
func TestLossesAreSumsAndCounts(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	logits := draw("logits", 6*4)
	labels := []int32{2, -1, -1, 0, 3, 1} // 1 and 3 of the halves
	run := func(lo, hi int) (*Loss, []float32) {
		tape := NewTape(rt, NewParams())
		tape.ps.Seal()
		x, y := tape.Input(hi-lo, 4), tape.Ints(hi-lo)
		tape.NeedGrad(x)
		task := tape.CrossEntropy(x, y)
		teacher := tape.Input(hi-lo, 4)
		l := tape.WeightedSum([]*Loss{task, tape.SoftTargets(x, teacher, y, 2)}, []float64{0.5, 0.5})
		tape.Seal()
		copy(x.Data, logits[4*lo:4*hi])
		copy(y.Data, labels[lo:hi])
		tape.Forward()
		tape.Backward(l)
		return l, append([]float32(nil), x.Grad...)
	}
	whole, want := run(0, 6)
	if whole.Count() != 4 || whole.Nominal() != 6 {
		t.Errorf("%d of %d count, want 4 of 6", whole.Count(), whole.Nominal())
	}
	a, ga := run(0, 3)
	b, gb := run(3, 6)
	if got := (a.Sum() + b.Sum()) / float64(a.Count()+b.Count()); math.Abs(got-whole.Value()) > 1e-12 || got == (a.Value()+b.Value())/2 {
		t.Errorf("the halves' mean is %v, the whole's %v", got, whole.Value())
	}
	scale := float64(a.Count()+b.Count()) / float64(a.Nominal())
	for i, g := range append(ga, gb...) {
		if got, want := float64(g)/scale, float64(want[i])/(4.0/6); math.Abs(got-want) > 1e-7 {
			t.Errorf("gradient %d of the halves is %v, of the whole %v", i, got, want)
		}
	}
	none, g := run(1, 3)
	if none.Value() != 0 || none.Count() != 0 || g[0] != 0 {
		t.Errorf("without a target: %v of %d, gradient %v", none.Value(), none.Count(), g)
	}
}

// Losses that count otherwise cannot be parts of one sum: no constant would
// make their gradients those of a mean.
func TestWeightedSumWantsOneCount(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	tape := NewTape(rt, NewParams())
	x := tape.Input(3, 4)
	defer func() {
		err, _ := recover().(error)
		var s *ShapeError
		if !errors.As(err, &s) || s.Op != "WeightedSum" {
			t.Errorf("a sum of rows and elements gives %v", err)
		}
	}()
	tape.WeightedSum([]*Loss{tape.CrossEntropy(x, tape.Ints(3)), tape.MSE(x, tape.Input(3, 4))}, []float64{1, 1})
}
