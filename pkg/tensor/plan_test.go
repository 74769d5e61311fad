package tensor

import (
	"math"
	"slices"
	"testing"
)

// planned runs a case with memory shared or apart, starting from memory full of NaN, and returns what it computed.
func planned(t *testing.T, rt *Runtime, apart bool, f func(g *tapeGraph) (node, loss)) (r *result, bytes int64) {
	t.Helper()
	g := newTapeGraph(rt)
	g.t.apart = apart
	out, l := f(g)
	grads := g.seal()
	defer g.t.Close()
	for _, v := range g.t.vars {
		if v.root().made >= 0 {
			for i := range v.Data {
				v.Data[i] = float32(math.NaN())
			}
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
	return r, g.t.MemoryBytes()
}

// No operation notices that its memory serves others before and after it.
func TestPlanSharesOnlyWhatIsDead(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	s := shapes[2]
	var shared, apart int64
	for _, c := range ops {
		for _, f := range []func(graph) (node, loss){c.run(s), c.twice(s)} {
			record := func(g *tapeGraph) (node, loss) { return f(g) }
			want, most := planned(t, rt, true, record)
			got, less := planned(t, rt, false, record)
			if d := got.differs(want); d != "" {
				t.Errorf("%s: sharing memory changes %s", c.name, d)
			}
			if less > most {
				t.Errorf("%s: the plan takes %d bytes, without sharing %d", c.name, less, most)
			}
			shared, apart = shared+less, apart+most
			if c.loss != nil {
				break
			}
		}
	}
	if shared >= apart {
		t.Error("nothing is shared: this test sees nothing")
	}
}

// Nor does it on a tape without Backward, where far more memory is shared.
func TestForwardOnlySharesWhatIsDead(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	s := shapes[2]
	var least, most int64
	for _, c := range ops {
		for _, f := range []func(graph) (node, loss){c.run(s), c.twice(s)} {
			value := func(forward bool) (out []float32, scaled float64, bytes int64) {
				g := newTapeGraph(rt)
				if forward {
					g.t.ForwardOnly()
				}
				g.t.apart = !forward
				n, l := f(g)
				g.t.Keep(n.v)
				g.seal()
				defer g.t.Close()
				for _, v := range g.t.vars {
					if v.root().made >= 0 {
						for i := range v.Data {
							v.Data[i] = float32(math.NaN())
						}
					}
				}
				g.t.Forward()
				return slices.Clone(n.v.Data), l.l.Scaled(), g.t.MemoryBytes()
			}
			want, wantLoss, more := value(false)
			got, gotLoss, less := value(true)
			if d := differ(got, want); d != "" || gotLoss != wantLoss {
				t.Errorf("%s: without Backward the result differs%s, and the loss is %v instead of %v", c.name, d, gotLoss, wantLoss)
			}
			least, most = least+less, most+more
			if c.loss != nil {
				break
			}
		}
	}
	if 5*least > 3*most {
		t.Errorf("without Backward all operations take %d bytes, apart and with it %d", least, most)
	}
}

// Closed parameters give their memory back, once.
func TestParamsClose(t *testing.T) {
	ps := NewParams()
	p := ps.Add("w", 1<<10, 1<<9)
	ps.Seal()
	p.Value[5] = 1
	ps.Close()
	ps.Close()
	if p.Value != nil || len(ps.Values()) != 0 {
		t.Error("the values can still be touched")
	}
}

// Recomputed parts give the same bits in less memory, whatever stands around them.
func TestRecompute(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	s := shapes[2]
	network := func(part func(g *tapeGraph, record func())) func(g *tapeGraph) (node, loss) {
		return func(g *tapeGraph) (node, loss) {
			x := g.linear(tokens(g, s), g.param("in", s.d, s.d), leaf{}, GELU)
			early := x
			for range 4 {
				part(g, func() { x = block(g, x, s, 0.3) })
			}
			x = g.dropout(x, 0.2)
			part(g, func() { x = g.concat(block(g, x, s, 0.1), early) })
			return squared(g, x)
		}
	}
	plain := network(func(_ *tapeGraph, record func()) { record() })
	again := network(func(g *tapeGraph, record func()) { g.t.Recompute(record) })
	want, most := planned(t, rt, true, plain)
	kept, middle := planned(t, rt, false, plain)
	got, least := planned(t, rt, false, again)
	if d := kept.differs(want); d != "" {
		t.Errorf("sharing memory changes %s", d)
	}
	if d := got.differs(want); d != "" {
		t.Errorf("recomputation changes %s", d)
	}
	if !(least < middle*2/3 && middle < most) {
		t.Errorf("recomputation takes %d bytes, the plan without it %d, no plan %d", least, middle, most)
	}

	// and for a second loss of the same forward
	g := newTapeGraph(rt)
	_, l := again(g)
	grads := g.seal()
	defer g.t.Close()
	g.t.Forward()
	g.t.Backward(l.l)
	g.t.Backward(l.l)
	if d := differ(grads, want.params["all"]); d != "" {
		t.Errorf("a second backward differs%s", d)
	}
}

// Fused operations are the bits of what they are made of.
func TestFused(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	for _, s := range shapes {
		x := func(g *tapeGraph) (node, leaf, leaf) {
			return tokens(g, s), g.param("w", s.d+3, s.d), g.param("b", s.d+3)
		}
		want, _ := planned(t, rt, false, func(g *tapeGraph) (node, loss) {
			x, w, b := x(g)
			return squared(g, g.dropout(g.linear(x, w, b, ReLU), 0.3))
		})
		got, _ := planned(t, rt, false, func(g *tapeGraph) (node, loss) {
			x, w, b := x(g)
			return squared(g, node{v: g.t.LinearDrop(x.v, w.p, b.p, 0.3)})
		})
		if d := got.differs(want); d != "" {
			t.Errorf("%v: LinearDrop differs from Dropout of Linear in %s", s, d)
		}

		for _, causal := range []bool{false, true} {
			m := Mask{Causal: causal}
			first := func(g *tapeGraph, v *Var) node {
				return node{v: g.t.Reshape(g.t.SelectToken(v, 0), s.b, 1, v.Shape[2])}
			}
			qkv := func(g *tapeGraph) *Var { return g.input("qkv", s.b, s.n, 3*s.d/s.h*s.h).v }
			want, _ = planned(t, rt, false, func(g *tapeGraph) (node, loss) {
				return squared(g, first(g, g.t.Attention(qkv(g), s.h, m, 0.3)))
			})
			got, _ = planned(t, rt, false, func(g *tapeGraph) (node, loss) {
				return squared(g, node{v: g.t.AttentionOfFirst(qkv(g), s.h, 1, m, 0.3)})
			})
			for _, r := range []*result{want, got} { // a gradient of zero has no sign
				for _, x := range r.inputs {
					for i := range x {
						x[i] += 0
					}
				}
			}
			if d := got.differs(want); d != "" {
				t.Errorf("%v, causal %v: AttentionOfFirst differs from the first of Attention in %s", s, causal, d)
			}
		}
	}
}

// Bits do not depend on how many queries are worked on at a time.
func TestAttentionBlocks(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	const b, n, h, d = 2, 67, 2, 9
	for _, m := range []mask{{}, {causal: true}, {positions: scattered(n)}, {keys: flags{f: []uint8{1}}},
		{sparse: Mask{Window: 5}, keys: flags{f: []uint8{1}}}, {sparse: Mask{Window: 5, Stride: 6, Global: 2}, causal: true}, {sparse: Mask{Window: 3, Stride: 16}, keys: flags{f: []uint8{1}}}} {
		var want *result
		for _, size := range []int{n, 12, 24, 60} {
			got, _ := planned(t, rt, false, func(g *tapeGraph) (node, loss) {
				m := m
				if m.keys.f != nil { // sample 0 ends early, sample 1 has holes
					m.keys = g.bytes("keys", func(i int) bool { return i < n-20 || i >= n && i%7 != 3 }, b, n)
				}
				out := g.attention(g.input("qkv", b, n, 3*h*d), h, m, 0.2)
				g.t.attentionOf(out.v, "").block = size
				return squared(g, out)
			})
			if want == nil {
				want = got
			} else if d := got.differs(want); d != "" {
				t.Errorf("causal %v, positions %v, keys %v, sparse %v: blocks of %d change %s", m.causal, m.positions != nil, m.keys.f != nil, m.sparse, size, d)
			}
		}
	}
}
