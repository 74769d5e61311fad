package tensor

import (
	"slices"
	"testing"
)

// rounded runs f on a tape with products of bfloat16; set changes it before its
// memory is planned.
func rounded(t *testing.T, rt *Runtime, set func(*Tape), f func(g *tapeGraph) (node, loss)) (r *result, kept int) {
	t.Helper()
	g := newTapeGraph(rt)
	g.t.BF16()
	out, l := f(g)
	set(g.t)
	grads := g.seal()
	defer g.t.Close()
	for _, v := range g.t.vars {
		if v.rounded {
			kept++
		}
	}
	g.t.Forward()
	g.t.Backward(l.l)
	r = &result{loss: l.l.Scaled(), out: slices.Clone(out.v.Data), inputs: map[string][]float32{}, params: map[string][]float32{"all": grads}}
	for name, v := range g.inputs {
		if v.Grad != nil {
			r.inputs[name] = slices.Clone(v.Grad)
		}
	}
	for _, x := range r.inputs { // a gradient of zero has no sign
		for i := range x {
			x[i] += 0
		}
	}
	return r, kept
}

// Attention with products of bfloat16 has the same bits for some of the queries
// as for all, with a window as under the window's dense mask, and however the
// queries are cut into blocks.
func TestRoundedAttention(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	const b, h, d = 2, 2, 24
	as := func(*Tape) {}
	for _, n := range []int{53, 130, 331} {
		attend := func(m mask, queries int) func(g *tapeGraph) (node, loss) {
			return func(g *tapeGraph) (node, loss) {
				m.keys = g.bytes("keys", func(i int) bool { return i%n < n-n/5 && i%11 != 3 }, b, n)
				qkv := g.input("qkv", b, n, 3*h*d)
				if queries == n {
					return squared(g, g.attention(qkv, h, m, 0.2))
				}
				return squared(g, node{v: g.t.AttentionOfFirst(qkv.v, h, queries, Mask{Keys: m.keys.b, Causal: m.causal}, 0.2)})
			}
		}
		all, _ := rounded(t, rt, as, attend(mask{}, n))
		for _, queries := range []int{1, 5, 33, n - 1} {
			some, _ := rounded(t, rt, as, attend(mask{}, queries))
			for s := range b {
				got, want := some.out[s*queries*h*d:(s+1)*queries*h*d], all.out[s*n*h*d:(s*n+queries)*h*d]
				if diff := differ(got, want); diff != "" {
					t.Errorf("T %d: of %d queries, sample %d differs from all queries'%s", n, queries, s, diff)
				}
			}
		}
		for _, block := range []int{32, 96} {
			cut, _ := rounded(t, rt, func(tape *Tape) {
				for _, o := range tape.ops {
					if a, ok := o.(*attention); ok {
						a.block = block
					}
				}
			}, attend(mask{}, n))
			if diff := cut.differs(all); diff != "" {
				t.Errorf("T %d: blocks of %d queries change %s", n, block, diff)
			}
		}
		for _, sparse := range []Mask{{Window: 1}, {Window: 17}, {Window: 40}, {Window: 300}} {
			for _, causal := range []bool{false, true} {
				sparse.Causal = causal
				got, _ := rounded(t, rt, as, attend(mask{sparse: sparse, causal: causal}, n))
				want, _ := rounded(t, rt, as, attend(mask{positions: sparse.Dense(n), causal: causal}, n))
				if diff := got.differs(want); diff != "" {
					t.Errorf("T %d, %+v: %s differs from full attention's under the same mask", n, sparse, diff)
				}
			}
		}
	}
}

// To keep as bfloat16 what products alone read changes no bit.
func TestRoundedVars(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	const b, n, h, d, ff = 2, 60, 2, 48, 70
	block := func(g *tapeGraph) (node, loss) {
		x := g.input("x", b, n, d)
		qkv := g.linear(x, g.param("qkv.w", 3*d, d), g.param("qkv.b", 3*d), None)
		y := g.linear(g.attention(qkv, h, mask{}, 0.1), g.param("o.w", d, d), g.param("o.b", d), None)
		y = g.addNorm(x, y, g.param("gamma", d), g.param("beta", d), 0.1)
		z := g.linear(y, g.param("1.w", ff, d), g.param("1.b", ff), ReLU)
		z = g.linear(z, g.param("2.w", d, ff), g.param("2.b", d), None)
		return squared(g, g.addNorm(y, z, g.param("gamma2", d), g.param("beta2", d), 0.1))
	}
	got, kept := rounded(t, rt, func(*Tape) {}, block)
	want, none := rounded(t, rt, func(tape *Tape) { tape.wide = true }, block)
	if kept < 3 || none != 0 {
		t.Errorf("%d activations are kept as bfloat16, and %d without; want 3 and 0", kept, none)
	}
	if diff := got.differs(want); diff != "" {
		t.Errorf("activations kept as bfloat16 change %s", diff)
	}
}

// To keep the gradient between two linear layers as bfloat16, and to write past
// the caches, changes no bit: with any activation, dropout, frozen parameters, a
// bias that others use, activations computed anew, and any number of threads.
func TestRoundedGrads(t *testing.T) {
	const b, n, d, ff = 3, 37, 48, 544
	feed := func(act Activation, drop float32, again string, freeze func(up, bias *Param)) func(g *tapeGraph) (node, loss) {
		return func(g *tapeGraph) (node, loss) {
			x, up, bias := g.input("x", b, n, d), g.param("1.w", ff, d), g.param("1.b", ff)
			if freeze != nil {
				freeze(up.p, bias.p)
			}
			var z, y node
			first := func() { z = node{v: g.t.linear(x.v, up.p, bias.p, 0, ff, act, drop)} }
			second := func() { y = g.linear(z, g.param("2.w", d, ff), g.param("2.b", d), None) }
			switch again {
			case "both":
				g.t.Recompute(func() { first(); second() })
			case "first":
				g.t.Recompute(first)
				second()
			default:
				first()
				second()
			}
			return squared(g, g.addNorm(x, y, g.param("gamma", d), g.param("beta", d), 0.1))
		}
	}
	for _, c := range []struct {
		name   string
		act    Activation
		drop   float32
		again  string // computed anew in backward
		freeze func(up, bias *Param)
	}{
		{name: "none", act: None},
		{name: "relu", act: ReLU},
		{name: "relu and dropout", act: ReLU, drop: 0.2},
		{name: "erf", act: ErfGELU},
		{name: "quick", act: QuickGELU},
		{name: "recomputed", act: ErfGELU, again: "both"},
		{name: "recomputed apart", act: ErfGELU, again: "first"},
		{name: "frozen weight", act: ErfGELU, freeze: func(up, _ *Param) { up.Frozen = true }},
		{name: "frozen layer", act: ReLU, freeze: func(up, bias *Param) { up.Frozen, bias.Frozen = true, true }},
	} {
		for _, threads := range []int{1, 2, 3} {
			rt := NewRuntime(threads)
			run := func(set func(*Tape)) (*result, int) {
				var tape *Tape
				r, _ := rounded(t, rt, func(x *Tape) { tape = x; set(x) }, feed(c.act, c.drop, c.again, c.freeze))
				kept := 0
				for _, v := range tape.vars {
					if v.gradRounded {
						kept++
					}
				}
				return r, kept
			}
			want, _ := run(func(x *Tape) { x.wide = true })
			got, kept := run(func(*Tape) {})
			streamed, _ := run(func(x *Tape) { x.past = 0 })
			none := threads == 3 && c.name != "frozen layer" // three threads would have 181 columns each
			if none = none || c.again == "first"; none != (kept == 0) {
				t.Errorf("%s, %d threads: %d gradients are kept as bfloat16", c.name, threads, kept)
			}
			if diff := got.differs(want); diff != "" {
				t.Errorf("%s, %d threads: a gradient kept as bfloat16 changes %s", c.name, threads, diff)
			}
			if diff := streamed.differs(want); diff != "" {
				t.Errorf("%s, %d threads: to write past the caches changes %s", c.name, threads, diff)
			}
			rt.Close()
		}
	}
}

// A settled tape's products have the same bits, read the weights once, and share
// what they laid out, also of a part of a weight's rows.
func TestSettled(t *testing.T) {
	for _, level := range CPULevels() {
		withLevel(t, level, func() {
			rt := NewRuntime(2)
			defer rt.Close()
			ps := NewParams()
			w, v, u, bias := ps.Add("w", 96, 40), ps.Add("v", 20, 96), ps.Add("u", 24, 20), ps.Add("bias", 96)
			ps.Seal()
			for _, p := range ps.List() {
				copy(p.Value, draw(p.Name, p.Size()))
			}
			made := func(rows int, settled bool) (forward func() []float32) {
				tape := NewTape(rt, ps)
				tape.ForwardOnly()
				if settled {
					tape.Settled()
				}
				tape.BF16()
				x := tape.Input(rows, 40)
				y := tape.LinearRows(tape.Linear(x, w, bias, ReLU), v, nil, 0, 20)
				y = tape.LinearRows(y, u, nil, 3, 17)
				tape.Keep(y)
				tape.Seal()
				t.Cleanup(tape.Close)
				copy(x.Data, draw("x", x.Size()))
				return func() []float32 { tape.Forward(); return slices.Clone(y.Data) }
			}
			var wants [][]float32
			for _, rows := range []int{1, 7, 50} {
				wants = append(wants, made(rows, false)())
			}
			for i, rows := range []int{1, 7, 50} {
				f := made(rows, true)
				first := f()
				if i == 0 {
					clear(w.Value)
					clear(v.Value)
					clear(u.Value)
				}
				for _, got := range [][]float32{first, f()} {
					if d := differ(got, wants[i]); d != "" {
						t.Errorf("%s, %d rows: settled differs%s", level, rows, d)
					}
				}
			}
			if len(w.tiles) != 1 || len(v.tiles) != 1 || len(u.tiles) != 1 {
				t.Errorf("%d, %d and %d layouts are kept, want 1 of each", len(w.tiles), len(v.tiles), len(u.tiles))
			}
			ps.Close()
		})
	}
}
