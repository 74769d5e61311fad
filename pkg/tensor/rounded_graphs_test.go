package tensor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomLinears records a graph of linear layers after one another, drawn from seed: they
// share weights and biases, take parts of them, are adapted, frozen and computed anew,
// and their results are reshaped, added to, and read by two losses.
func randomLinears(g *tapeGraph, seed uint64) (losses []*Loss) {
	r := rand.New(rand.NewPCG(seed, 7))
	widths := []int{33, 64, 128, 200}
	b, n := 1+r.IntN(3), 1+r.IntN(40)
	param := func(name string, shape ...int) *Param {
		known := g.ps.ByName(name) != nil
		p := g.param(name, shape...).p
		if !known {
			p.Frozen = r.IntN(6) == 0
		}
		return p
	}
	pick := func() int { return widths[r.IntN(len(widths))] }
	target := func(v *Var) *Var { return g.fixed(fmt.Sprint("target", v.Shape), v.Shape...).v }
	x := g.input("x", b, n, pick()).v
	if r.IntN(3) == 0 {
		x = g.fixed("fixed", b, n, pick()).v
	}
	layer := func() {
		if x.Cols() == 128 && r.IntN(6) == 0 {
			x = g.t.Reshape(x, b, x.Size()/b/64, 64)
		}
		before, in, out, copyOf := x, x.Cols(), pick(), r.IntN(4)/3
		if r.IntN(2) == 0 {
			out = in
		}
		if r.IntN(6) == 0 {
			x = g.t.Reshape(x, x.Rows(), in)
		}
		rows, from := out, 0
		if r.IntN(4) == 0 {
			rows, from = out+r.IntN(20), r.IntN(5)
		}
		rows = max(rows, from+out)
		w := param(fmt.Sprint("w", copyOf, rows, in), rows, in)
		var bias *Param
		if r.IntN(4) > 0 {
			bias = param(fmt.Sprint("b", copyOf, rows), rows)
		}
		if r.IntN(6) == 0 && w.Low == nil {
			w.Low = &LowRank{A: param(w.Name+"A", 4, in), B: param(w.Name+"B", rows, 4), Scale: 0.5, Dropout: float32(r.IntN(2)) * 0.1}
		}
		act := []Activation{None, ReLU, ErfGELU, QuickGELU}[r.IntN(4)]
		drop := float32(0)
		if act == ReLU && r.IntN(2) == 0 {
			drop = 0.2
		}
		y := g.t.linear(x, w, bias, from, from+out, act, drop)
		y = g.t.Reshape(y, append(slices.Clone(before.Shape[:len(before.Shape)-1]), out)...)
		if out == in && r.IntN(3) == 0 {
			y = g.t.AddScaled(y, before, 0.5)
		}
		x = y
	}
	for layers := 3 + r.IntN(6); layers > 0; {
		k := min(layers, 1+r.IntN(3))
		layers -= k
		some := func() {
			for range k {
				layer()
			}
		}
		if r.IntN(3) == 0 {
			g.t.Recompute(some)
		} else {
			some()
		}
		if len(losses) == 0 && r.IntN(3) == 0 {
			losses = append(losses, g.t.MSE(x, target(x)))
		}
	}
	return append(losses, g.t.MSE(x, target(x)))
}

// What a tape keeps as bfloat16, and what it writes past the caches, changes no bit of any
// parameter's gradient in random graphs, of each of two losses in turn.
func TestRandomRounded(t *testing.T) {
	kept := 0
	for _, level := range CPULevels() {
		graphs := uint64(20)
		if level == "generic" || testing.Short() {
			graphs = 2
		}
		withLevel(t, level, func() {
			for _, threads := range []int{1, 2, 3} {
				rt := NewRuntime(threads)
				for seed := range graphs {
					run := func(set func(*Tape)) (grads [][]float32) {
						g := newTapeGraph(rt)
						g.t.BF16()
						g.t.columns = 1
						losses := randomLinears(g, seed)
						set(g.t)
						slab := g.seal()
						defer g.t.Close()
						for _, v := range g.t.vars {
							if v.gradRounded {
								kept++
							}
						}
						for _, train := range []bool{true, false} {
							g.t.SetStep(testSeed, testStep, []uint64{1, 2, 3}, train)
							g.t.Forward()
							for range 2 {
								for _, l := range losses {
									g.t.Backward(l)
									for _, p := range g.ps.List() {
										if p.Frozen {
											clear(p.Grad)
										}
									}
									grads = append(grads, slices.Clone(slab))
									if x := g.inputs["x"]; x.Grad != nil {
										grads = append(grads, slices.Clone(x.Grad))
									}
								}
							}
						}
						return grads
					}
					want := run(func(x *Tape) { x.wide, x.apart = true, true })
					for name, set := range map[string]func(*Tape){"rounded": func(*Tape) {}, "past the caches": func(x *Tape) { x.past = 0 }} {
						for i, got := range run(set) {
							if diff := differ(got, want[i]); diff != "" {
								t.Errorf("%s, graph %d, %d threads, %s: gradients %d differ%s", level, seed, threads, name, i, diff)
								break
							}
						}
					}
				}
				rt.Close()
			}
		})
	}
	if kept == 0 {
		t.Error("no graph keeps a gradient as bfloat16")
	}

}
