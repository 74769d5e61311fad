package tensor

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func TestDenseMask(t *testing.T) {
	for _, c := range []struct {
		m    Mask
		want string // as in Mask's comment
	}{
		{Mask{Window: 1}, "110000 111000 011100 001110 000111 000011"},
		{Mask{Window: 1, Stride: 3}, "110100 111100 111100 101110 100111 100111"},
		{Mask{Window: 1, Global: 1}, "111111 111000 111100 101110 100111 100011"},
		{Mask{Window: 2, Causal: true}, "100000 110000 111000 011100 001110 000111"},
	} {
		got := ""
		for i, v := range c.m.Dense(6) {
			if i > 0 && i%6 == 0 {
				got += " "
			}
			got += fmt.Sprint(v)
		}
		if got != c.want {
			t.Errorf("%+v:\n%s, want\n%s", c.m, got, c.want)
		}
	}
	if m := (Mask{}).Dense(2); !slices.Equal(m, []uint8{1, 1, 1, 1}) {
		t.Errorf("no mask hides: %v", m)
	}
}

// Sparse attention is full attention under the same dense mask: bit for bit
// with a window alone, values, gradients and dropout; to 1e-6 where everyone
// sees some keys, whose sums have another order.
func TestSparseIsDense(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	const b, h, d = 2, 2, 9
	for _, n := range []int{1, 15, 16, 17, 130, 211} {
		for _, sparse := range []Mask{{Window: 1}, {Window: 17}, {Window: 300}, {Window: 7, Stride: 16}, {Window: 7, Stride: 5}, {Window: 30, Global: 1}, {Window: 3, Stride: 40, Global: 2}} {
			for _, causal := range []bool{false, true} {
				sparse.Causal = causal
				run := func(m mask) *result {
					r, _ := planned(t, rt, false, func(g *tapeGraph) (node, loss) {
						m := m
						m.causal = causal
						m.keys = g.bytes("keys", func(i int) bool { return i%n < n-n/5 && i%11 != 3 }, b, n)
						return squared(g, g.attention(g.input("qkv", b, n, 3*h*d), h, m, 0.2))
					})
					for _, x := range r.inputs { // a gradient of zero has no sign
						for i := range x {
							x[i] += 0
						}
					}
					return r
				}
				got, want := run(mask{sparse: sparse}), run(mask{positions: sparse.Dense(n)})
				if sparse.Stride+sparse.Global == 0 {
					if diff := got.differs(want); diff != "" {
						t.Errorf("T %d, %+v: %s differs from full attention's under the same mask", n, sparse, diff)
					}
					continue
				}
				far := func(what string, x, y []float32) {
					diff, norm := 0.0, 0.0
					for i := range x {
						diff += math.Pow(float64(x[i])-float64(y[i]), 2)
						norm += math.Pow(float64(y[i]), 2)
					}
					if !(math.Sqrt(diff) <= 1e-6*math.Sqrt(norm)) {
						t.Errorf("T %d, %+v: %s differs by %.2g from full attention's under the same mask", n, sparse, what, math.Sqrt(diff/norm))
					}
				}
				far("the result", got.out, want.out)
				for i := range got.inputs {
					far("the gradient", got.inputs[i], want.inputs[i])
				}
			}
		}
	}
}

// Kept weights are in their keys' places, and what is out of sight weighs 0.
func TestSparseWeights(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	const n, h, d = 130, 2, 4
	m := Mask{Window: 3, Stride: 20, Global: 1}
	weights := func(m Mask) []float32 {
		tape := NewTape(rt, NewParams())
		x := tape.Input(1, n, 3*h*d)
		out := tape.Attention(x, h, m, 0)
		tape.KeepWeights(out)
		tape.Seal()
		for i := range x.Data {
			x.Data[i] = float32(i%17) / 17
		}
		tape.Forward()
		return slices.Clone(tape.AttentionWeights(out))
	}
	got, want := weights(m), weights(Mask{Positions: m.Dense(n)})
	for i, w := range want {
		if math.Abs(float64(got[i]-w)) > 1e-6 || (w == 0) != (got[i] == 0) {
			t.Fatalf("weight %d of query %d is %v, want %v", i%n, i/n%n, got[i], w)
		}
	}
}
