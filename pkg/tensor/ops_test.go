package tensor

import (
	"fmt"
	"math"
	"os"
	"slices"
	"sort"
	"testing"
)

// dims are the shapes of one run of the table: batch, tokens, heads, width.
type dims struct{ b, n, h, d int }

func (s dims) String() string { return fmt.Sprintf("B%dT%dH%dD%d", s.b, s.n, s.h, s.d) }

// shapes sit on and around the widths of vectors, tiles and cache lines.
// A width of 2 would not do: its LayerNorm knows the sign of a difference alone, and its gradient is all cancellation.
var shapes = []dims{{1, 1, 1, 5}, {3, 5, 3, 12}, {2, 9, 2, 34}, {5, 17, 2, 48}}

// opCase is one computation; its result goes into a squared error unless it has a loss of its own.
type opCase struct {
	name string
	out  func(g graph, s dims) node
	loss func(g graph, s dims) (node, loss)
	deep bool // made of many operations: the twin takes its time, so the smaller shapes must do
}

// run is the case as it stands.
func (c opCase) run(s dims) func(graph) (node, loss) {
	if c.loss != nil {
		return func(g graph) (node, loss) { return c.loss(g, s) }
	}
	return func(g graph) (node, loss) { return squared(g, c.out(g, s)) }
}

// twice computes the case two times from the same inputs and parameters, so that every gradient accumulates.
func (c opCase) twice(s dims) func(graph) (node, loss) {
	return func(g graph) (node, loss) {
		flat := func(x node) node {
			cols := x.shape()[len(x.shape())-1]
			return g.reshape(x, 1, size(x.shape())/cols, cols)
		}
		return squared(g, g.concat(flat(c.out(g, s)), flat(c.out(g, s))))
	}
}

func squared(g graph, out node) (node, loss) {
	return out, g.mse(out, g.fixed("target", out.shape()...))
}

// tokens is an input [B, T, D].
func tokens(g graph, s dims) node { return g.input("x", s.b, s.n, s.d) }

// seeSome hides some keys; sample 0 sees nothing at all.
func seeSome(s dims) func(int) bool {
	return func(i int) bool { return i >= s.n && i%3 != 1 }
}

// scattered is a position mask whose query 0 sees nothing.
func scattered(n int) []uint8 {
	m := make([]uint8, n*n)
	for i := range m {
		if i >= n && (i*7)%5 != 2 {
			m[i] = 1
		}
	}
	return m
}

// ops is every operation of the tape. A new one gets a method of graph, a twin and a line here.
var ops = func() []opCase {
	var list []opCase
	add := func(name string, out func(g graph, s dims) node) { list = append(list, opCase{name: name, out: out}) }
	for name, act := range map[string]Activation{"": None, "relu": ReLU, "gelu": GELU, "silu": SiLU} {
		add("linear/"+name, func(g graph, s dims) node {
			return g.linear(tokens(g, s), g.param("w", s.d+3, s.d), g.param("b", s.d+3), act)
		})
		add("linear/nobias/"+name, func(g graph, s dims) node {
			return g.linear(tokens(g, s), g.param("w", 1, s.d), leaf{}, act)
		})
	}
	for bits := range 8 {
		for _, p := range []float32{0, 0.3} {
			add(fmt.Sprintf("attention/causal=%d,keys=%d,positions=%d,dropout=%v", bits&1, bits>>1&1, bits>>2, p), func(g graph, s dims) node {
				m := mask{causal: bits&1 != 0}
				if bits&2 != 0 {
					m.keys = g.bytes("keys", seeSome(s), s.b, s.n)
				}
				if bits&4 != 0 {
					m.positions = scattered(s.n)
				}
				return g.attention(g.input("qkv", s.b, s.n, 3*s.d), s.h, m, p)
			})
		}
	}
	for i, sparse := range []Mask{{Window: 1}, {Window: 2, Stride: 3}, {Window: 1, Global: 2}, {Window: 2, Stride: 4, Global: 1}} {
		for bits := range 8 {
			add(fmt.Sprintf("attention/window=%d,stride=%d,global=%d,causal=%d,keys=%d,dropout=%d", sparse.Window, sparse.Stride, sparse.Global, bits&1, bits>>1&1, bits>>2), func(g graph, s dims) node {
				m := mask{causal: bits&1 != 0, sparse: sparse}
				if bits&2 != 0 {
					m.keys = g.bytes("keys", seeSome(s), s.b, s.n)
				}
				if i == 3 {
					m.positions = scattered(s.n)
				}
				return g.attention(g.input("qkv", s.b, s.n, 3*s.d), s.h, m, 0.3*float32(bits>>2))
			})
		}
	}
	norm := func(g graph, s dims, y string, p float32) node {
		other := node{}
		if y != "" {
			other = g.input(y, s.b, s.n, s.d)
		}
		return g.addNorm(tokens(g, s), other, g.param("gamma", s.d), g.param("beta", s.d), p)
	}
	add("norm", func(g graph, s dims) node { return norm(g, s, "", 0) })
	add("addnorm", func(g graph, s dims) node { return norm(g, s, "y", 0) })
	add("addnorm/same", func(g graph, s dims) node { return norm(g, s, "x", 0) })
	add("addnorm/dropout", func(g graph, s dims) node { return norm(g, s, "y", 0.4) })
	add("addnorm/dropout/same", func(g graph, s dims) node { return norm(g, s, "x", 0.4) })
	add("dropout", func(g graph, s dims) node { return g.dropout(tokens(g, s), 0.25) })
	add("dropout/0", func(g graph, s dims) node { return g.dropout(g.reshape(tokens(g, s), s.b, s.n*s.d), 0) })
	for _, pos := range []bool{false, true} {
		add(fmt.Sprintf("embedding/positions=%v", pos), func(g graph, s dims) node {
			var table []float32
			if pos {
				table = draw("sinusoid", s.n*s.d)
			}
			e := g.embedding(g.ints("ids", 6, s.b, s.n), g.param("table", 6, s.d), float32(math.Sqrt(float64(s.d))), table)
			return g.reshape(e, s.b, s.n, s.d)
		})
	}
	add("patches", func(g graph, s dims) node {
		p := 1 + s.h
		return g.patchEmbed(g.input("img", s.b, 3, 2*p, 3*p), g.param("w", s.d, 3, p, p), g.param("b", s.d))
	})
	add("prepend", func(g graph, s dims) node {
		return g.prepend(tokens(g, s), g.param("cls", 1, 1, s.d), g.param("pos", 1, s.n+1, s.d))
	})
	add("addrow", func(g graph, s dims) node { return g.addRow(tokens(g, s), g.param("types", 3, s.d), 1) })
	add("concat", func(g graph, s dims) node { return g.concat(tokens(g, s), g.input("y", s.b, s.n+1, s.d)) })
	add("concat/same", func(g graph, s dims) node { return g.concat(tokens(g, s), tokens(g, s)) })
	add("meanpool", func(g graph, s dims) node { return g.meanPool(tokens(g, s), flags{}) })
	add("meanpool/padding", func(g graph, s dims) node {
		return g.meanPool(tokens(g, s), g.bytes("keys", seeSome(s), s.b, s.n))
	})
	add("concat/masks", func(g graph, s dims) node {
		see := g.concatBytes(g.bytes("a", seeSome(s), s.b, s.n), g.bytes("b", func(i int) bool { return i%2 == 0 }, s.b, s.n+1))
		return g.meanPool(g.concat(tokens(g, s), g.input("y", s.b, s.n+1, s.d)), see)
	})
	add("lasttoken", func(g graph, s dims) node { return g.lastToken(tokens(g, s), flags{}) })
	add("lasttoken/padding", func(g graph, s dims) node {
		return g.lastToken(tokens(g, s), g.bytes("keys", seeSome(s), s.b, s.n))
	})
	add("unit", func(g graph, s dims) node { return g.unit(tokens(g, s)) })
	add("unit/sentence", func(g graph, s dims) node { // and tokens beside it
		x := tokens(g, s)
		mean := g.meanPool(x, g.bytes("keys", func(i int) bool { return i%s.n == 0 || i%3 > 0 }, s.b, s.n))
		return g.concat(g.reshape(g.unit(mean), s.b, 1, s.d), x)
	})
	add("select/first", func(g graph, s dims) node { return g.selectToken(tokens(g, s), 0) })
	add("select/last", func(g graph, s dims) node { return g.selectToken(tokens(g, s), s.n-1) })
	add("reshape", func(g graph, s dims) node {
		return g.linear(g.reshape(tokens(g, s), s.b*s.n, 1, s.d), g.param("w", 3, s.d), g.param("b", 3), None)
	})
	list = append(list,
		opCase{name: "block", deep: true, out: func(g graph, s dims) node { return block(g, tokens(g, s), s, 0.2) }},
		opCase{name: "model", deep: true, out: model})
	for name, labels := range map[string]func(g graph, s dims) ids{
		"all":  func(g graph, s dims) ids { return g.ints("labels", s.d, s.b, s.n) },
		"some": func(g graph, s dims) ids { return g.labels("labels", s.d, s.b, s.n) },
	} {
		list = append(list, opCase{name: "crossentropy/" + name, loss: func(g graph, s dims) (node, loss) {
			x := g.input("logits", s.b, s.n, s.d)
			return x, g.crossEntropy(x, labels(g, s))
		}})
	}
	list = append(list, opCase{name: "mse", loss: func(g graph, s dims) (node, loss) { return squared(g, tokens(g, s)) }})
	list = append(list, zooOps()...)
	list = append(list, policyOps()...)
	list = append(list, blockOps()...)
	slices.SortFunc(list, func(a, b opCase) int { // a map made the first of them
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return list
}()

// block is a transformer block, as pkg/models builds it: a graph with branches.
func block(g graph, x node, s dims, p float32) node {
	lin := func(x node, name string, o, i int, a Activation) node {
		return g.linear(x, g.param(name+".w", o, i), g.param(name+".b", o), a)
	}
	att := g.attention(lin(x, "in", 3*s.d, s.d, None), s.h, mask{}, p)
	x = g.addNorm(x, lin(att, "out", s.d, s.d, None), g.param("n1.w", s.d), g.param("n1.b", s.d), p)
	y := lin(g.dropout(lin(x, "ff1", 2*s.d, s.d, GELU), p), "ff2", s.d, 2*s.d, None)
	return g.addNorm(x, y, g.param("n2.w", s.d), g.param("n2.b", s.d), p)
}

// model joins an image and words in two blocks of shared weights.
func model(g graph, s dims) node {
	img := g.patchEmbed(g.input("img", s.b, 3, 4, 4), g.param("p.w", s.d, 3, 2, 2), g.param("p.b", s.d))
	img = g.prepend(img, g.param("cls", s.d), g.param("pos", 5, s.d))
	words := g.reshape(g.embedding(g.ints("ids", 6, s.b, s.n), g.param("table", 6, s.d), 2, nil), s.b, s.n, s.d)
	x := g.concat(g.addRow(img, g.param("types", 2, s.d), 0), g.addRow(words, g.param("types", 2, s.d), 1))
	wide := dims{s.b, s.n + 5, s.h, s.d}
	x = block(g, block(g, x, wide, 0.1), wide, 0.1)
	y := g.concat(g.reshape(g.selectToken(x, 0), s.b, 1, s.d), g.reshape(g.meanPool(x, flags{}), s.b, 1, s.d))
	return g.linear(g.reshape(y, s.b, 2*s.d), g.param("head.w", 3, 2*s.d), g.param("head.b", 3), ReLU)
}

// TestOperations holds every operation's result against the float64 twin, and every gradient against the twin's central
// differences.
func TestOperations(t *testing.T) {
	rt := NewRuntime(2)
	defer rt.Close()
	for _, c := range ops {
		t.Run(c.name, func(t *testing.T) {
			for i, s := range shapes {
				if c.deep && i > 1 {
					continue
				}
				checkTwin(t, rt, s.String(), c.run(s))
				if c.out != nil && i > 0 && i < 3 && !c.deep {
					checkTwin(t, rt, s.String()+" twice", c.twice(s))
				}
			}
		})
	}
}

// probes is how many elements of a tensor the central differences look at.
const probes = 6

func checkTwin(t *testing.T, rt *Runtime, name string, f func(graph) (node, loss)) {
	t.Helper()
	got := runTape(t, rt, f, true)
	twin := &twinGraph{values: map[string]*array{}}
	out, l := f(twin)
	// float32 keeps 24 bits; sums of some hundred terms and a few layers lose six of them at most
	const tol = 4e-6
	near := func(what string, got, want, scale float64) {
		t.Helper()
		if !(math.Abs(got-want) <= tol*(scale+1)) {
			t.Errorf("%s: %s is %.9g, the twin says %.9g", name, what, got, want)
		}
	}
	near("the loss", got.loss, l.f, math.Abs(l.f))
	scale := 0.0
	for _, v := range out.f.d {
		scale = max(scale, math.Abs(v))
	}
	for i, v := range out.f.d {
		near(fmt.Sprintf("output[%d]", i), float64(got.out[i]), v, scale)
	}

	grads := map[string][]float32{}
	for n, g := range got.inputs {
		grads[n] = g
	}
	for n, g := range got.params {
		grads[n] = g
	}
	var names []string
	for n := range grads {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		a := twin.values[n]
		if len(grads[n]) != len(a.d) {
			t.Fatalf("%s: %d gradients of %s, want %d", name, len(grads[n]), n, len(a.d))
		}
		where := drawInts(name+n, len(a.d), probes)
		want, scale := make([]float64, probes), 0.0
		for k, i := range where {
			at := func(x float64) float64 {
				twin.values[n].d[i] = x
				twin.sites = 0
				_, l := f(twin)
				return l.f
			}
			const h = 1e-5
			x := a.d[i]
			want[k] = (at(x+h) - at(x-h)) / (2 * h)
			a.d[i] = x
			scale = max(scale, math.Abs(want[k]))
		}
		for k, i := range where {
			// the gradient of a mean shrinks with its size: relative to the tensor's own, with room for the differences' 1e-10
			if e := math.Abs(float64(grads[n][i]) - want[k]); !(e <= 1e-4*scale+1e-8) {
				t.Errorf("%s: gradient of %s[%d] is %.9g, central differences say %.9g", name, n, i, grads[n][i], want[k])
			}
		}
	}
}

// TestOperationsBits: the same bits for every number of threads, at every CPU level, and whether inputs want gradients or not.
// All numbers of threads are tried at the best level; at each other one in turn, unless VLARING_LONG=1 says all.
func TestOperationsBits(t *testing.T) {
	var runtimes []*Runtime
	counts := []int{1, 2, 3, 5}
	if testing.Short() { // an emulated CPU
		counts = []int{1, 3}
	}
	for _, n := range counts {
		runtimes = append(runtimes, NewRuntime(n))
		defer runtimes[len(runtimes)-1].Close()
	}
	levels, cases := CPULevels(), 0
	for _, c := range ops {
		for i, s := range []dims{shapes[1], shapes[2], {2, 33, 1, 64}} {
			if c.deep && i > 1 {
				continue
			}
			f := c.run(s)
			if c.out != nil && i%2 == 1 {
				f = c.twice(s)
			}
			var want *result
			withLevel(t, "generic", func() { want = runTape(t, runtimes[0], f, true) })
			for k, level := range levels {
				some := runtimes
				if k < len(levels)-1 && os.Getenv("VLARING_LONG") == "" {
					at := (cases + k) % len(runtimes)
					some = runtimes[at : at+1]
				}
				withLevel(t, level, func() {
					for _, rt := range some {
						if d := want.differs(runTape(t, rt, f, true)); d != "" {
							t.Fatalf("%s %v: %s with %d threads and generic with one differ in %s", c.name, s, level, rt.Threads(), d)
						}
					}
				})
			}
			cases++
			bare := runTape(t, runtimes[1], f, false)
			bare.inputs = want.inputs
			if d := want.differs(bare); d != "" {
				t.Fatalf("%s %v: without gradients of inputs: %s", c.name, s, d)
			}
		}
	}
}
