package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// adaptedRun is a linear layer of seven inputs and outputs from 2 to 12 of 12 with an
// adapter, and its loss and gradients.
type adaptedRun struct{ y, dx, da, db, dw, bias []float32 }

func adaptedLinear(t *testing.T, rt *Runtime, act Activation, low bool, dropout float32) adaptedRun {
	t.Helper()
	const in, out, r, b, n = 7, 12, 3, 3, 5
	rng := rand.New(rand.NewPCG(1, 2))
	fill := func(x []float32) {
		for i := range x {
			x[i] = float32(rng.NormFloat64()) / 2
		}
	}
	ps := NewParams()
	w, bias := ps.Add("w", out, in), ps.Add("b", out)
	a, bb := ps.Add("A", r, in), ps.Add("B", out, r)
	first := ps.Add("first", in, in) // so that the layer's input wants a gradient
	if low {
		w.Low, w.Frozen = &LowRank{A: a, B: bb, Scale: 0.75, Dropout: dropout}, true
	}
	ps.Seal()
	defer ps.Close()
	for _, p := range []*Param{w, bias, a, bb, first} {
		fill(p.Value)
	}
	if !low { // merged
		for o := range out {
			for i := range in {
				for k := range r {
					w.Value[o*in+i] += 0.75 * bb.Value[o*r+k] * a.Value[k*in+i]
				}
			}
		}
	}
	tape := NewTape(rt, ps)
	defer tape.Close()
	x := tape.Input(b, n, in)
	h := tape.Linear(x, first, nil, None)
	tape.Keep(h)
	y := tape.linear(h, w, bias, 2, 12, act, 0)
	tape.Keep(y)
	target := tape.Input(b, n, 10)
	loss := tape.MSE(y, target)
	tape.Seal()
	ps.BindGrads(make([]float32, ps.Len()))
	fill(x.Data)
	fill(target.Data)
	tape.SetStep(7, 3, []uint64{4, 5, 6}, true)
	tape.Forward()
	tape.Backward(loss)
	return adaptedRun{slices.Clone(y.Data), slices.Clone(first.Grad), slices.Clone(a.Grad), slices.Clone(bb.Grad), slices.Clone(w.Grad), slices.Clone(bias.Grad)}
}

// An adapted layer is the layer of the merged weight, in its result and in every
// gradient: dB = s·dW·Aᵀ and dA = s·Bᵀ·dW of the merged one's dW.
func TestLowRank(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	near := func(what string, got, want []float32) {
		t.Helper()
		for i := range want {
			if math.Abs(float64(got[i]-want[i])) > 2e-5 {
				t.Fatalf("%s[%d] is %v, that of the merged weight %v", what, i, got[i], want[i])
			}
		}
	}
	for _, act := range []Activation{None, ReLU, GELU, SiLU} {
		low, merged := adaptedLinear(t, rt, act, true, 0), adaptedLinear(t, rt, act, false, 0)
		name := fmt.Sprintf("activation %d: ", act)
		near(name+"y", low.y, merged.y)
		near(name+"the input's gradient", low.dx, merged.dx)
		near(name+"the bias' gradient", low.bias, merged.bias)
		const in, out, r = 7, 12, 3
		rng := rand.New(rand.NewPCG(1, 2))
		draw := func(n int) (x []float32) {
			for range n {
				x = append(x, float32(rng.NormFloat64())/2)
			}
			return x
		}
		draw(out*in + out)
		a, b := draw(r*in), draw(out*r)
		da, db := make([]float32, r*in), make([]float32, out*r)
		for o := range out {
			for i := range in {
				for k := range r {
					db[o*r+k] += 0.75 * merged.dw[o*in+i] * a[k*in+i]
					da[k*in+i] += 0.75 * b[o*r+k] * merged.dw[o*in+i]
				}
			}
		}
		near(name+"dA", low.da, da)
		near(name+"dB", low.db, db)
		for i, v := range low.dw {
			if v != 0 {
				t.Fatalf("%sthe frozen weight has the gradient %v at %d", name, v, i)
			}
		}
	}
}

// The bits do not depend on threads or the CPU's level, with dropout neither; and
// dropout is there.
func TestLowRankBits(t *testing.T) {
	one, three := NewRuntime(1), NewRuntime(3)
	defer one.Close()
	defer three.Close()
	for _, act := range []Activation{None, ReLU, GELU, SiLU} {
		var want adaptedRun
		withLevel(t, "generic", func() { want = adaptedLinear(t, one, act, true, 0.3) })
		for _, level := range CPULevels() {
			withLevel(t, level, func() {
				for _, rt := range []*Runtime{one, three} {
					got := adaptedLinear(t, rt, act, true, 0.3)
					for i, x := range [][2][]float32{{got.y, want.y}, {got.dx, want.dx}, {got.da, want.da}, {got.db, want.db}, {got.bias, want.bias}} {
						if !slices.Equal(x[0], x[1]) {
							t.Errorf("activation %d: %s with %d threads differs from generic in part %d", act, level, rt.Threads(), i)
						}
					}
				}
			})
		}
		if without := adaptedLinear(t, one, act, true, 0); slices.Equal(without.y, want.y) {
			t.Error("dropout changes nothing")
		}
	}
}
