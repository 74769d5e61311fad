package tensor

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// randomLinears records a graph of linear layers after one another, drawn from seed: they
// share weights and biases, take parts of them, are adapted, frozen and computed anew,
// and their results are reshaped, normalised, added to, read by others than the next, and
// read by two losses. Some are kept to be looked at.
func randomLinears(g *tapeGraph, seed uint64) (losses []*Loss, looked []*Var) {
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
		if out == in {
			var scale *Param
			if r.IntN(5) == 0 {
				scale = param(fmt.Sprint("scale", out), out)
			}
			switch r.IntN(9) {
			case 0:
				y = g.t.AddScaled(y, before, 0.5)
			case 1:
				y = g.t.Residual(y, before, scale)
			case 2:
				y = g.t.Residual(y, y, scale)
			case 3:
				y = g.t.Residual(before, y, scale)
			}
		}
		x = y
	}
	norm := func() {
		d := x.Cols()
		gamma := param(fmt.Sprint("gamma", d, r.IntN(2)), d)
		switch r.IntN(3) {
		case 0:
			x = g.t.RMSNorm(x, gamma, 1e-5)
		default:
			x = g.t.AddNorm(x, nil, gamma, param(fmt.Sprint("beta", d, r.IntN(2)), d), 0)
		}
	}
	var streams []*Var
	again := false // within a part that is computed anew
	// a block with its norm first, as pretrained ones have it
	block := func() {
		stream := x
		inner := func() {
			if r.IntN(4) > 0 {
				norm()
			}
			for range 1 + r.IntN(2) {
				layer()
			}
			if d := stream.Cols(); x.Cols() != d || r.IntN(3) == 0 {
				act := []Activation{None, None, ReLU, ErfGELU}[r.IntN(4)]
				x = g.t.linear(x, param(fmt.Sprint("back", x.Cols(), d), d, x.Cols()), nil, 0, d, act, 0)
			}
		}
		if !again && r.IntN(4) == 0 {
			g.t.Recompute(inner)
		} else {
			inner()
		}
		if x.Size() != stream.Size() { // a layer has cut rows in two
			return
		}
		if r.IntN(6) == 0 {
			stream = g.t.Reshape(stream, x.Shape...)
		}
		y := g.t.Reshape(x, stream.Shape...)
		if r.IntN(4) == 0 {
			g.t.Keep(y)
			looked = append(looked, y)
		}
		if i := r.IntN(4 + len(streams)); i < len(streams) && streams[i].Size() == y.Size() && streams[i].Cols() == y.Cols() {
			stream = g.t.Reshape(streams[i], y.Shape...)
		}
		streams = append(streams, stream)
		x = g.t.Residual(stream, y, nil)
		switch r.IntN(6) { // others read either after it
		case 0:
			x = g.t.Residual(x, stream, nil)
		case 1:
			x = g.t.AddScaled(x, y, 0.5)
		}
	}
	for layers := 3 + r.IntN(6); layers > 0; {
		k := min(layers, 1+r.IntN(3))
		layers -= k
		some := func() {
			for range k {
				switch r.IntN(5) {
				case 0, 1:
					block()
				case 2:
					norm()
				default:
					layer()
				}
			}
		}
		if again = r.IntN(3) == 0; again {
			g.t.Recompute(some)
		} else {
			some()
		}
		again = false
		if len(losses) == 0 && r.IntN(3) == 0 {
			losses = append(losses, g.t.MSE(x, target(x)))
		}
	}
	return append(losses, g.t.MSE(x, target(x))), looked
}

func count(n *int, one bool) {
	if one {
		*n++
	}
}

// What a tape keeps as bfloat16, what it writes past the caches, and what it sums in the
// layer before changes no bit in random graphs: of what is looked at, of the losses, and of
// the gradients of each of two losses in turn.
func TestRandomRounded(t *testing.T) {
	kept, normed, summed, shared := 0, 0, 0, 0
	seed := uint64(0)
	for _, level := range CPULevels() {
		graphs := 5
		if os.Getenv("VLARING_LONG") != "" {
			graphs = 30
		}
		if level == "generic" || testing.Short() {
			graphs = 1
		}
		withLevel(t, level, func() {
			for _, threads := range []int{1, 2, 3} {
				rt := NewRuntime(threads)
				for range graphs {
					seed++
					run := func(wide, forward bool, set func(*Tape)) (all [][]float32) {
						g := newTapeGraph(rt)
						if forward {
							g.t.ForwardOnly()
						}
						if !wide {
							g.t.BF16()
						}
						g.t.columns = 1
						losses, looked := randomLinears(g, seed)
						set(g.t)
						slab := g.seal()
						defer g.t.Close()
						for _, v := range g.t.vars {
							count(&kept, v.gradRounded)
							count(&shared, v.gradOf != nil)
							count(&summed, v.dataOf != nil)
							if v.rounded {
								_, layer := g.t.ops[v.made].(*addNorm)
								_, rms := g.t.ops[v.made].(*rmsNorm)
								count(&normed, layer || rms)
							}
						}
						for _, train := range []bool{true, false} {
							g.t.SetStep(testSeed, testStep, []uint64{1, 2, 3}, train)
							g.t.Forward()
							for _, l := range losses {
								all = append(all, []float32{float32(l.Scaled())})
							}
							for _, v := range looked {
								all = append(all, slices.Clone(v.Data))
							}
							for range 2 {
								for _, l := range losses {
									if forward {
										break
									}
									g.t.Backward(l)
									for _, p := range g.ps.List() {
										if p.Frozen {
											clear(p.Grad)
										}
									}
									all = append(all, slices.Clone(slab))
									if x := g.inputs["x"]; x.Grad != nil {
										all = append(all, slices.Clone(x.Grad))
									}
								}
							}
						}
						return all
					}
					for _, wide := range []bool{false, true} {
						for _, forward := range []bool{false, true} {
							want := run(wide, forward, func(x *Tape) { x.wide, x.apart = true, true })
							for name, set := range map[string]func(*Tape){"planned": func(*Tape) {}, "past the caches": func(x *Tape) { x.past = 0 }} {
								for i, got := range run(wide, forward, set) {
									if diff := differ(got, want[i]); diff != "" {
										t.Errorf("%s, graph %d, %d threads, float32 %v, forward alone %v, %s: values %d differ%s", level, seed, threads, wide, forward, name, i, diff)
										break
									}
								}
							}
						}
					}
				}
				rt.Close()
			}
		})
	}
	if kept == 0 || normed == 0 || summed == 0 || shared == 0 {
		t.Errorf("%d gradients and %d norms' results are kept as bfloat16, %d sums made by a layer, %d gradients shared: want some of each", kept, normed, summed, shared)
	}
}
