package tensor

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// The operations of policies: cross-attention, chunks of actions, bins and flows,
// on the tape and in the twin.

type policyGraph interface {
	cross(q, kv node, heads int, keys flags, dropout float32) node
	linearRows(x node, w, b leaf, from, to int) node
	repeat(p leaf, b int) node
	appendRow(x, row node) node
	addScaled(x, y node, s float32) node
	bins(x, valid node, n int) ids
	chunk(x, target, valid node, squared bool) loss
}

func (g *tapeGraph) cross(q, kv node, heads int, keys flags, p float32) node {
	return node{v: g.t.CrossAttention(q.v, kv.v, heads, keys.b, p)}
}
func (g *tapeGraph) linearRows(x node, w, b leaf, from, to int) node {
	return node{v: g.t.LinearRows(x.v, w.p, b.p, from, to)}
}
func (g *tapeGraph) repeat(p leaf, b int) node  { return node{v: g.t.Repeat(p.p, b)} }
func (g *tapeGraph) appendRow(x, row node) node { return node{v: g.t.AppendRow(x.v, row.v)} }
func (g *tapeGraph) addScaled(x, y node, s float32) node {
	return node{v: g.t.AddScaled(x.v, y.v, s)}
}
func (g *tapeGraph) bins(x, valid node, n int) ids { return ids{i: g.t.Bins(x.v, valid.v, n)} }
func (g *tapeGraph) chunk(x, target, valid node, squared bool) loss {
	if squared {
		return loss{l: g.t.ChunkMSE(x.v, target.v, valid.v)}
	}
	return loss{l: g.t.L1(x.v, target.v, valid.v)}
}

func (g *twinGraph) cross(q, kv node, heads int, keys flags, p float32) node {
	b, l, w, n := q.f.shape[0], q.f.shape[1], q.f.shape[2], kv.f.shape[1]
	d, y := w/heads, newArray(b, l, w)
	for s := range b {
		for h := range heads {
			for i := range l {
				e, sum := make([]float64, n), 0.0
				for k := range n {
					if keys.f != nil && keys.f[s*n+k] == 0 {
						continue
					}
					dot := 0.0
					for j, v := range q.f.row(s*l + i)[h*d : (h+1)*d] {
						dot += v * kv.f.row(s*n + k)[h*d+j]
					}
					e[k] = math.Exp(dot / math.Sqrt(float64(d)))
					sum += e[k]
				}
				for k := range n {
					if e[k] == 0 {
						continue
					}
					f := e[k] / sum
					if p > 0 {
						f *= dropAt(p, g.sites, s, (h*l+i)*n+k)
					}
					for j, v := range kv.f.row(s*n + k)[w+h*d : w+(h+1)*d] {
						y.row(s*l + i)[h*d+j] += f * v
					}
				}
			}
		}
	}
	if p > 0 {
		g.sites++
	}
	return node{f: y}
}

func (g *twinGraph) linearRows(x node, w, b leaf, from, to int) node {
	cols := w.f.cols()
	part := leaf{f: &array{shape: []int{to - from, cols}, d: w.f.d[from*cols : to*cols]}}
	if b.f != nil {
		b = leaf{f: &array{shape: []int{to - from}, d: b.f.d[from:to]}}
	}
	return g.linear(x, part, b, None)
}

func (g *twinGraph) repeat(p leaf, b int) node {
	y := newArray(append([]int{b}, p.f.shape...)...)
	for s := range b {
		copy(y.d[s*len(p.f.d):], p.f.d)
	}
	return node{f: y}
}

func (g *twinGraph) appendRow(x, row node) node {
	b, l := x.f.shape[0], x.f.shape[1]
	y := newArray(b, l, x.f.cols()+row.f.cols())
	for r := range b * l {
		copy(y.row(r), append(append([]float64{}, x.f.row(r)...), row.f.row(r/l)...))
	}
	return node{f: y}
}

func (g *twinGraph) addScaled(x, y node, s float32) node {
	z := newArray(x.f.shape...)
	for i, v := range x.f.d {
		z.d[i] = v + float64(s)*y.f.d[i]
	}
	return node{f: z}
}

func (g *twinGraph) bins(x, valid node, n int) ids {
	out := ids{f: make([]int32, len(x.f.d))}
	for i, v := range x.f.d {
		for k := range n {
			if v >= -1+2*float64(k)/float64(n) {
				out.f[i] = int32(k)
			}
		}
		if valid.f != nil && valid.f.d[i/x.f.cols()] == 0 {
			out.f[i] = -1
		}
	}
	return out
}

func (g *twinGraph) chunk(x, target, valid node, squared bool) loss {
	sum := 0.0
	for i, v := range x.f.d {
		d := v - target.f.d[i]
		switch {
		case valid.f != nil && valid.f.d[i/x.f.cols()] == 0:
		case squared:
			sum += d * d
		default:
			sum += math.Abs(d)
		}
	}
	return loss{f: sum / float64(len(x.f.d))}
}

// policyOps are their lines of the table of operations.
func policyOps() (list []opCase) {
	add := func(name string, out func(g graph, s dims) node) { list = append(list, opCase{name: name, out: out}) }
	for _, keys := range []bool{false, true} {
		for i, more := range []int{-1, 4} { // queries than keys
			for _, p := range []float32{0, 0.3}[i:] {
				add(fmt.Sprintf("cross/keys=%v,dropout=%v,more=%d", keys, p, more), func(g graph, s dims) node {
					see := flags{}
					if keys {
						see = g.bytes("keys", seeSome(s), s.b, s.n)
					}
					return g.cross(g.input("q", s.b, max(1, s.n+more), s.d), g.input("kv", s.b, s.n, 2*s.d), s.h, see, p)
				})
			}
		}
	}
	add("linear/rows", func(g graph, s dims) node {
		return g.linearRows(tokens(g, s), g.param("w", 3*s.d, s.d), g.param("b", 3*s.d), s.d, 2*s.d)
	})
	add("linear/rows/nobias", func(g graph, s dims) node {
		return g.linearRows(tokens(g, s), g.param("w", s.d+1, s.d), leaf{}, 0, s.d)
	})
	add("linear/rows/all", func(g graph, s dims) node { // a packed projection in parts
		w, b := g.param("w", 3*s.d, s.d), g.param("b", 3*s.d)
		return g.cross(g.linearRows(tokens(g, s), w, b, 0, s.d), g.linearRows(g.input("y", s.b, s.n+2, s.d), w, b, s.d, 3*s.d), s.h, flags{}, 0)
	})
	add("repeat", func(g graph, s dims) node { return g.repeat(g.param("queries", s.n, s.d), s.b) })
	add("appendrow", func(g graph, s dims) node { return g.appendRow(tokens(g, s), g.input("row", s.b, s.d+1)) })
	add("addscaled", func(g graph, s dims) node { return g.addScaled(tokens(g, s), g.input("y", s.b, s.n, s.d), -0.1) })
	add("addscaled/same", func(g graph, s dims) node { return g.addScaled(tokens(g, s), tokens(g, s), 0.7) })
	for _, squared := range []bool{false, true} {
		for _, some := range []bool{false, true} {
			list = append(list, opCase{name: fmt.Sprintf("chunk/squared=%v,valid=%v", squared, some), loss: func(g graph, s dims) (node, loss) {
				x, valid := tokens(g, s), node{}
				if some {
					valid = g.fixed("valid", s.b, s.n)
				}
				// twice, so that gradients accumulate
				one := g.chunk(x, g.fixed("target", s.b, s.n, s.d), valid, squared)
				return x, g.weightedSum([]loss{one, g.chunk(x, g.fixed("other", s.b, s.n, s.d), valid, squared)}, []float64{1, 0.5})
			}})
		}
	}
	for _, n := range []int{1, 7, 256} {
		list = append(list, opCase{name: fmt.Sprintf("bins/%d", n), loss: func(g graph, s dims) (node, loss) {
			x := g.input("logits", s.b, s.n*3, n)
			return x, g.crossEntropy(x, g.bins(g.fixed("target", s.b, s.n, 3), g.fixed("valid", s.b, s.n), n))
		}})
	}
	return list
}

// A chunk that is padded counts less, and one that is nothing but padding not at
// all: what two batches are divided by is the sum of what counts in both.
func TestChunkCounts(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	for _, squared := range []bool{false, true} {
		ps := NewParams()
		tape := NewTape(rt, ps)
		ps.Seal()
		x, target, valid := tape.Input(2, 3, 2), tape.Input(2, 3, 2), tape.Input(2, 3)
		tape.NeedGrad(x)
		l := tape.L1(x, target, valid)
		if squared {
			l = tape.ChunkMSE(x, target, valid)
		}
		tape.Seal()
		defer tape.Close()
		for i := range x.Data {
			x.Data[i] = float32(i)
		}
		x.Data[11] = float32(math.NaN()) // padding, whatever it is, has no part
		copy(valid.Data, []float32{1, 0, 0, 1, 1, 0})
		tape.Forward()
		tape.Backward(l)
		sum, grad := 0.0+1+6+7+8+9, []float32{0, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0}
		if squared {
			sum, grad = 0.0+1+36+49+64+81, []float32{0, 2, 0, 0, 0, 0, 12, 14, 16, 18, 0, 0}
		}
		for i := range grad {
			grad[i] *= float32(1. / 12)
		}
		if l.Sum() != sum || l.Count() != 6 || l.Nominal() != 12 || l.Value() != sum/6 {
			t.Errorf("squared %v: sum %v of %d of %d, mean %v; want %v of 6 of 12", squared, l.Sum(), l.Count(), l.Nominal(), l.Value(), sum)
		}
		for i, g := range x.Grad {
			if math.Abs(float64(g-grad[i])) > 1e-6 {
				t.Errorf("squared %v: gradient %v, want %v", squared, x.Grad, grad)
				break
			}
		}
		clear(valid.Data)
		tape.Forward()
		tape.Backward(l)
		if l.Value() != 0 || l.Count() != 0 || l.Scaled() != 0 || slices.ContainsFunc(x.Grad, func(g float32) bool { return g != 0 }) {
			t.Errorf("squared %v: nothing counts, and the mean is %v over %d, the gradient %v", squared, l.Value(), l.Count(), x.Grad)
		}
	}
}

func TestBins(t *testing.T) {
	rt := NewRuntime(1)
	defer rt.Close()
	tape := NewTape(rt, NewParams())
	tape.ps.Seal()
	x, valid, logits := tape.Input(2, 4), tape.Input(2), tape.Input(2, 2, 4)
	labels, centres := tape.Bins(x, valid, 4), tape.BinCentres(logits)
	tape.Seal()
	defer tape.Close()
	copy(x.Data, []float32{-1, -0.51, -0.5, 0.999, -7, 7, 1, float32(math.NaN())})
	copy(valid.Data, []float32{1, 1})
	copy(logits.Data, []float32{1, 0, 0, 0, 0, 2, 2, 1, -3, -2, -1, 0, 0, 0, 0, 0})
	tape.Forward()
	if want := []int32{0, 0, 1, 3, 0, 3, 3, -1}; !slices.Equal(labels.Data, want) {
		t.Errorf("bins %v, want %v", labels.Data, want)
	}
	if want := []float32{-0.75, -0.25, 0.75, -0.75}; !slices.Equal(centres.Data, want) {
		t.Errorf("centres %v, want %v", centres.Data, want)
	}
	valid.Data[0] = 0
	tape.Forward()
	if want := []int32{-1, -1, -1, -1}; !slices.Equal(labels.Data[:4], want) {
		t.Errorf("bins of padding %v, want %v", labels.Data[:4], want)
	}
}

// Weights that were kept are those of every query and key.
func TestCrossAttentionWeights(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	tape := NewTape(rt, NewParams())
	tape.ps.Seal()
	q, kv, keys := tape.Input(2, 3, 8), tape.Input(2, 5, 16), tape.Bytes(2, 5)
	out := tape.CrossAttention(q, kv, 2, keys, 0)
	tape.KeepWeights(out)
	tape.Seal()
	defer tape.Close()
	copy(q.Data, draw("q", len(q.Data)))
	copy(kv.Data, draw("kv", len(kv.Data)))
	copy(keys.Data, []uint8{1, 1, 0, 1, 0, 0, 0, 0, 0, 0})
	tape.Forward()
	w := tape.AttentionWeights(out)
	if len(w) != 2*2*3*5 {
		t.Fatalf("%d weights, want 60", len(w))
	}
	for r := range 12 {
		sum := float32(0)
		for k, v := range w[r*5 : (r+1)*5] {
			if (keys.Data[r/6*5+k] == 0) != (v == 0) {
				t.Errorf("row %d: key %d weighs %v", r, k, v)
			}
			sum += v
		}
		if want := float32(1 - r/6); math.Abs(float64(sum-want)) > 1e-6 {
			t.Errorf("row %d sums to %v, want %v", r, sum, want)
		}
	}
	// the result is made of them
	for j := range 4 {
		want := 0.0
		for k := range 5 {
			want += float64(w[k]) * float64(kv.Data[k*16+8+j])
		}
		if math.Abs(float64(out.Data[j])-want) > 1e-6 {
			t.Errorf("result %v, weighted values %v", out.Data[j], want)
		}
	}
}

// Cross-attention of a sequence to itself is self-attention, bit for bit.
func TestCrossAttentionIsAttention(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	const b, n, h, d = 2, 101, 2, 9 // several blocks of queries
	record := func(cross bool) func(g *tapeGraph) (node, loss) {
		return func(g *tapeGraph) (node, loss) {
			w, x := g.param("w", 3*h*d, 7), g.input("x", b, n, 7)
			keys := g.bytes("keys", func(i int) bool { return i < n-20 || i >= n && i%7 != 3 }, b, n)
			if cross {
				return squared(g, g.cross(g.linearRows(x, w, leaf{}, 0, h*d), g.linearRows(x, w, leaf{}, h*d, 3*h*d), h, keys, 0.2))
			}
			return squared(g, g.attention(g.linear(x, w, leaf{}, None), h, mask{keys: keys}, 0.2))
		}
	}
	want, _ := planned(t, rt, false, record(false))
	got, _ := planned(t, rt, false, record(true))
	want.inputs, got.inputs = nil, nil // a chain over 3D columns, and two that are added
	if d := got.differs(want); d != "" {
		t.Errorf("they differ in %s", d)
	}
}
